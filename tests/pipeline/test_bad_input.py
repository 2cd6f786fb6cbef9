"""Bad input, on the real commands: exit code 1, one line that says what is wrong and what is accepted, nothing lost."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project, error_of
from PIL import Image

from carryover import artefacts
from carryover.classes import lineage

TRAIN = ("train", "distill", "task1", "task0")
KEEP = ("keep", "distill", "task1", "task0")
ADAPT = ("adapt", "distill", "linear", "task1")
TRANSFORM = ("transform", "distill", "linear", "task1", "task0")


def refused(project: Project, *command: str) -> str:
    """Run a stage that must refuse, and leave every file as it was; return its error."""
    before = project.digests()
    message = error_of(project.stage(*command, check=False))
    assert project.digests() == before
    return message


@pytest.mark.parametrize(
    ("changes", "command", "words"),
    [
        ({"dataset__kind": "digit"}, ("prepare",), ["'digit'", "did you mean 'digits'"]),
        ({"dataset__name": "../../escaped"}, ("prepare",), ["dataset.name", "'../../escaped'", "without slashes"]),
        ({"tasks": [{"id": "../../escaped"}, {"id": "b"}]}, ("split",), ["tasks.id", "'../../escaped'", "without slashes"]),
        ({}, ("initialise", "distill", "task0", "../../../escaped"), ["--state", "'../../../escaped'", "without slashes"]),
        ({"training": 3}, TRAIN, ["Section training is 3", "mapping"]),
        ({"dataset__kind": 3}, ("prepare",), ["dataset.kind", "3"]),
        ({"dataset": 3}, ("prepare",), ["'dataset'", "3", "mapping"]),
        ({"dataset__test_fractoin": 0.5}, ("prepare",), ["dataset", "'test_fractoin'", "did you mean 'test_fraction'"]),
        ({"dataset__test_fraction": 1.5}, ("prepare",), ["test_fraction", "1.5", "less than 1"]),
        ({"protocol__sizes": [9, 9]}, ("split",), ["18 classes", "there are 10"]),
        ({"protocol__sizes": [2, 0]}, ("split",), ["protocol.sizes", "0", "greater than 0"]),
        ({"protocol__sizes": "2,1"}, ("split",), ["protocol.sizes", "'2,1'"]),
        ({"protocol__sizes": [1, 1, 1]}, ("split",), ["2 tasks", "3", "compose it again"]),
        ({"protocol__order": "names", "protocol__names": ["1", "1", "2"]}, ("split",), ["'1' 2 times"]),
        ({"protocol__order": "names", "protocol__names": ["1", "2", "eleven"]}, ("split",), ["'eleven'", "Accepted: 0, 1"]),
        ({"protocol__validation": 1}, ("split",), ["protocol.validation"]),
        ({"tasks": 3}, ("split",), ["'tasks'", "list of tasks"]),
        ({"regimes": {"distil": {}}}, ("initialise", "distil", "task0", "empty"), ["'distil'", "did you mean 'distill'"]),
        ({"columns": ["linera", "oracle"]}, ("initialise", "distill", "task0", "empty"), ["'linera'", "did you mean 'linear'"]),
        ({"backbone__architecture": "resnet23"}, ("initialise", "distill", "task0", "empty"), ["'resnet23'", "resnet32"]),
        ({"memory__storage": "float8"}, TRANSFORM, ["memory.storage", "'float8'"]),
        ({"seed": "one"}, ("initialise", "distill", "task0", "empty"), ["seed", "'one'", "whole number"]),
        ({"regimes": {"distil": {}}}, KEEP, ["'distill'", "did you mean 'distil'"]),
        ({"training__epoch": 3}, TRAIN, ["training", "'epoch'", "did you mean 'epochs'"]),
        ({"regimes__distill": {"temprature": 2.0}}, TRAIN, ["'temprature'", "did you mean 'temperature'"]),
        ({"trainings": {}}, KEEP, ["section in params.yaml", "'trainings'", "did you mean 'training'"]),
        ({"machine__device": "tpu"}, TRAIN, ["machine.device", "'tpu'"]),
        ({"machine__device": "tpu", "adapters__mlp": {}}, ("adapt", "distill", "mlp", "task1"), ["machine.device", "'tpu'", "auto, cpu, cuda"]),
        ({"adapters": {"linera": {}}}, ADAPT, ["'linear'", "did you mean 'linera'"]),
        ({"adapters": None}, ADAPT, ["'adapters'", "mapping"]),
        ({"adapters__linear__ridge": "small"}, ADAPT, ["adapters.linear.ridge", "'small'"]),
        ({"adapters__linear__ridge": -1.0}, ADAPT, ["adapters.linear.ridge", "-1.0"]),
        ({"memory__per_class": 0}, TRANSFORM, ["memory.per_class", "greater than 0"]),
        ({"memory__per_class": 5, "memory__total": 9}, TRANSFORM, ["exclude each other"]),
        ({"memory__total": 2}, TRANSFORM, ["memory.total is 2", "3 classes"]),
        ({"evaluation__classifiers": ["nmee"]}, ("evaluate", "distill", "linear", "task1"), ["evaluation.classifiers", "'nmee'"]),
        ({"evaluation__primary": "cosine"}, ("report",), ["evaluation.primary", "'cosine'"]),
    ],
)
def test_parameters(borrowed: Project, changes: dict[str, Any], command: tuple[str, ...], words: list[str]) -> None:
    borrowed.set(**changes)
    message = refused(borrowed, *command)
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["a: [", "- a\n", "", "seed: 0\n", "\x00"])
def test_a_params_file_that_is_none(borrowed: Project, text: str) -> None:
    (borrowed.root / "params.yaml").write_text(text, encoding="utf-8")
    assert "params.yaml" in refused(borrowed, "split")


def test_dvc_repro_shows_the_one_line_and_keeps_what_there_was(copy: Project) -> None:
    copy.set(adapters__linear__ridge=-1.0)
    done = copy.dvc("repro", "adapt@distill-linear-task1", check=False)
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("Error: ")] == [
        "Error: Parameter adapters.linear.ridge is -1.0: input should be greater than or equal to 0."
    ]
    assert "Traceback" not in done.stderr
    copy.set(adapters__linear__ridge=0.003)
    assert copy.dvc("checkout").returncode == 0
    assert copy.repro() == []


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("dvc.yaml", "stages:", "stages: [", "DVC cannot make stages of dvc.yaml and params.yaml: unable to read: 'dvc.yaml'"),
        ("params.yaml", "trained:", "trained: 5\nregimes_:", "Unknown section in params.yaml 'regimes_'; did you mean 'regimes'"),
        ("params.yaml", "seed:", "seed: [", "Cannot read params.yaml"),
        ("params.yaml", "  threads:", "  threads: x\n  other:", "Parameter machine.threads is 'x': a whole number from 0 is needed."),
        ("params.yaml", "  source:", "  source: data/raw/none.zip #", "There is no data/raw/none.zip, which stage 'prepare' needs"),
    ],
)
def test_a_run_in_lanes_that_cannot_begin_says_why(copy: Project, name: str, old: str, new: str, message: str) -> None:
    path = copy.root / name
    text = path.read_text(encoding="utf-8")
    assert f"\n{old}" in f"\n{text}"
    path.write_text(f"\n{text}".replace(f"\n{old}", f"\n{new}", 1)[1:], encoding="utf-8")
    done = copy.run(sys.executable, "-m", "stages.repro", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {message}")
    assert done.stderr.count("\n") == 1


def test_a_fault_that_only_dvc_finds_is_said_in_lanes_too(copy: Project) -> None:
    copy.edit("dvc.yaml", "cmd: python -m stages.split", "cmd: python -m stages.sources")
    (copy.root / "data/tasks/task0/train.safetensors").unlink()
    done = copy.run(sys.executable, "-m", "stages.repro", check=False)
    assert done.returncode == 1
    assert "Error: DVC failed to reproduce 'split': " in done.stderr and "does not exist" in done.stderr
    assert done.stderr.count("Error:") == 1 and "Traceback" not in done.stderr


def test_matrices_of_another_shape_are_one_sentence(copy: Project) -> None:
    copy.set(regimes=5)
    done = copy.run(sys.executable, "-m", "stages.repro", check=False)
    assert (done.returncode, done.stderr) == (1, "Error: DVC cannot make stages of dvc.yaml and params.yaml: 'Value' object is not iterable.\n")


def test_a_method_with_a_syntax_error(borrowed: Project) -> None:
    (borrowed.root / "carryover/adapters/broken.py").write_text("def (\n", encoding="utf-8")
    assert "carryover/adapters/broken.py" in refused(borrowed, "sources")


def _truncate(path: Path) -> bytes:
    return path.read_bytes()[:-7]


def _not_finite(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    return bytes(content)


FILES = {
    "data/backbones/distill/task0.safetensors": TRAIN,
    "data/tasks/task1/train.safetensors": TRAIN,
    "data/exemplars/distill/task0.safetensors": TRAIN,
    "data/features/distill/task1.safetensors": ADAPT,
    "data/memories/distill/task0/linear.safetensors": TRANSFORM,
    "data/adapters/distill/linear/task1.safetensors": TRANSFORM,
    "data/selections/distill/task1.safetensors": TRANSFORM,
    "data/observations/distill/task1.safetensors": ("evaluate", "distill", "linear", "task1"),
    "data/evaluations/distill/linear/task1.json": ("report",),
    "data/tasks/task1/seen.json": ("oracle", "distill", "task1"),
    "data/dataset/00000-train.safetensors": ("split",),
}


@pytest.mark.parametrize("path", FILES)
def test_truncated_artefacts(borrowed: Project, path: str) -> None:
    borrowed.replace(path, _truncate(borrowed.root / path))
    # The manifest that no longer fits a file of images is at fault, or the file itself.
    assert path in refused(borrowed, *FILES[path])


def test_an_artefact_with_a_number_that_is_none(borrowed: Project) -> None:
    path = "data/adapters/distill/linear/task1.safetensors"
    borrowed.replace(path, _not_finite(borrowed.root / path))
    message = refused(borrowed, *TRANSFORM)
    assert path in message
    assert "not finite" in message


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("data/exemplars/distill/task0.safetensors", "data/exemplars/finetune/task0.safetensors"),
        ("data/backbones/distill/task0.safetensors", "data/backbones/distill/task1.safetensors"),
        ("data/tasks/task1/train.safetensors", "data/tasks/task0/train.safetensors"),
        ("data/features/distill/task1.safetensors", "data/features/distill/task0.safetensors"),
        ("data/features/distill/task1.safetensors", "data/backbones/distill/task1.safetensors"),
        ("data/memories/distill/task0/linear.safetensors", "data/memories/distill/task0/none.safetensors"),
        ("data/evaluations/distill/linear/task1.json", "data/evaluations/finetune/linear/task1.json"),
    ],
)
def test_swapped_artefacts(borrowed: Project, path: str, other: str) -> None:
    borrowed.replace(path, (borrowed.root / other).read_bytes())
    message = refused(borrowed, *FILES[path])
    assert path in message
    assert "swapped" in message or "is needed" in message


EVALUATE, DRIFT = ("evaluate", "distill", "linear", "task1"), ("drift", "distill", "linear", "task1", "task0")
EXTRACT = ("extract", "distill", "task1", "task0")


@pytest.mark.parametrize(
    ("path", "kind", "command"),
    [
        ("data/exemplars/distill/task0.safetensors", "exemplars", TRAIN),
        ("data/backbones/distill/task1.safetensors", "backbone", EXTRACT),
        ("data/backbones/distill/task1.safetensors", "backbone", ("oracle", "distill", "task1")),
        ("data/memories/distill/task0/linear.safetensors", "memory", TRANSFORM),
        ("data/adapters/distill/linear/task1.safetensors", "adapter", TRANSFORM),
        ("data/adapters/distill/linear/task1.safetensors", "adapter", DRIFT),
        ("data/memories/distill/task1/linear.safetensors", "memory", EVALUATE),
    ],
)
def test_an_artefact_of_other_classes(borrowed: Project, path: str, kind: str, command: tuple[str, ...]) -> None:
    artefact = artefacts.read(borrowed.root / path, kind)
    artefacts.write(borrowed.root / path, kind, artefact.tensors, **artefact.fields | {"seen": lineage("", ["0", "1"])})
    message = refused(borrowed, *command)
    assert f"{path} records seen" in message and "the file was swapped" in message


@pytest.mark.parametrize(("named", "command"), [("backbones/distill", EXTRACT), ("tasks/task1/train", KEEP)])
def test_images_of_other_classes(borrowed: Project, named: str, command: tuple[str, ...]) -> None:
    path = "data/tasks/task1/train.safetensors"
    artefact = artefacts.read(borrowed.root / path, "task-images")
    artefacts.write(borrowed.root / path, "task-images", artefact.tensors, **artefact.fields | {"classes": ["a cat"]})
    # What does not know these classes is named: the network that learned the task, or the images themselves.
    assert f"data/{named}" in refused(borrowed, *command)


def test_images_with_labels_of_another_task(borrowed: Project) -> None:
    path = "data/tasks/task1/train.safetensors"
    artefact = artefacts.read(borrowed.root / path, "task-images")
    artefacts.write(borrowed.root / path, "task-images", artefact.tensors | {"labels": artefact["labels"] + 1}, **artefact.fields)
    assert f"{path} records labels [3] where [2] is needed" in refused(borrowed, *TRAIN)


@pytest.mark.parametrize(
    ("path", "kind", "tensors", "command"),
    [
        ("data/memories/distill/task0/linear.safetensors", "memory", ["features"], TRANSFORM),
        ("data/memories/distill/task1/linear.safetensors", "memory", ["features"], EVALUATE),
        ("data/drifts/distill/task0/linear.safetensors", "drift", ["carried", "stored", "current"], DRIFT),
        ("data/adapters/distill/linear/task1.safetensors", "adapter", None, TRANSFORM),
        ("data/adapters/distill/linear/task1.safetensors", "adapter", None, DRIFT),
    ],
)
def test_an_artefact_of_another_dimension(borrowed: Project, path: str, kind: str, tensors: list[str] | None, command: tuple[str, ...]) -> None:
    artefact = artefacts.read(borrowed.root / path, kind)
    narrow = {name: artefact[name][..., :-1] for name in tensors or artefact.tensors}
    artefacts.write(borrowed.root / path, kind, artefact.tensors | narrow, **artefact.fields)
    assert path in refused(borrowed, *command)


def test_an_artefact_that_does_not_say_what_it_must(borrowed: Project) -> None:
    path = "data/features/distill/task1.safetensors"
    artefact = artefacts.read(borrowed.root / path, "features")
    artefacts.write(borrowed.root / path, "features", artefact.tensors, regime="distill", task="task1")
    assert f"{path} records no paired" in refused(borrowed, *ADAPT)


def test_a_missing_artefact(borrowed: Project) -> None:
    (borrowed.root / "data/features/distill/task1.safetensors").unlink()
    assert "There is no file data/features/distill/task1.safetensors" in refused(borrowed, *ADAPT)


def test_an_output_folder_that_cannot_be_written(borrowed: Project) -> None:
    folder = borrowed.root / "data/adapters/distill/linear"
    if os.geteuid() == 0:
        # Nothing is read-only for root: a file in the folder's place is the next best.
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("", encoding="utf-8")
    else:
        folder.chmod(0o500)
    try:
        assert "data/adapters/distill/linear" in refused(borrowed, *ADAPT)
    finally:
        folder.chmod(0o700)


def test_a_disk_that_is_full(borrowed: Project) -> None:
    before = borrowed.digests()
    command = " ".join(borrowed.command(*ADAPT))
    # A limit on the size of files has the same effect on the writer as a disk without room.
    done = borrowed.run("sh", "-c", f"ulimit -f 1; exec {command}", check=False)
    assert "Cannot write data/adapters/distill/linear/task1.safetensors" in error_of(done)
    assert borrowed.digests() == before


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ("mount --bind {0} {0} && mount -o remount,bind,ro {0}", "Read-only file system"),
        ("mount -t tmpfs -o size=4k none {0}", "No space left on device"),
    ],
)
def test_a_real_disk_that_is_read_only_or_full(borrowed: Project, mount: str, reason: str) -> None:
    # In a mount namespace of its own, where that is allowed; nobody else sees it.
    apart = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    folder = "data/adapters/distill/linear"
    if borrowed.run(*apart, f"{mount.format(folder)}", check=False).returncode:
        pytest.skip("mounts are not allowed here")
    command = " ".join(borrowed.command(*ADAPT))
    before = borrowed.digests()
    message = error_of(borrowed.run(*apart, f"{mount.format(folder)} && exec {command}", check=False))
    assert folder in message and reason in message
    assert borrowed.digests() == before


def test_a_class_smaller_than_the_memory_keeps_all_and_says_so(borrowed: Project) -> None:
    borrowed.set(memory__per_class=100_000)
    assert "1 new classes have fewer than 100000 images and keep all they have" in borrowed.stage(*TRANSFORM).stdout
    memory = artefacts.read(borrowed.root / "data/memories/distill/task1/linear.safetensors", "memory")
    counts = [len(artefacts.read(borrowed.root / f"data/tasks/{task}/train.safetensors", "task-images")["labels"]) for task in ("task0", "task1")]
    assert memory["counts"].sum() == sum(counts)


def _png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(borrowed: Project) -> Path:
    """Three classes of four images."""
    root = borrowed.root / "data/raw/mine"
    for name in ("ant", "bee", "cat"):
        (root / name).mkdir(parents=True)
        for i in range(4):
            (root / name / f"{i}.png").write_bytes(_png())
    return root


def _use(project: Project, path: str, **more: Any) -> None:
    project.set(dataset={"kind": "images", "name": "mine", "source": path, "path": path, "size": 8, "channels": 1} | more)


def test_an_empty_class_folder(borrowed: Project, folder: Path) -> None:
    (folder / "dog").mkdir()
    _use(borrowed, "data/raw/mine")
    assert "'dog'" in refused(borrowed, "prepare")


def test_a_class_with_one_image(borrowed: Project, folder: Path) -> None:
    for i in range(1, 4):
        (folder / f"bee/{i}.png").unlink()
    _use(borrowed, "data/raw/mine")
    message = error_of(borrowed.stage("prepare", check=False))
    assert "'bee'" in message
    assert not (borrowed.root / "data/classes/mine.csv").exists()


def test_a_data_set_that_is_not_there(borrowed: Project) -> None:
    _use(borrowed, "data/raw/none")
    assert "data/raw/none" in refused(borrowed, "prepare")


def test_a_file_that_is_no_image_is_named_and_skipped_only_if_asked(borrowed: Project, folder: Path) -> None:
    (folder / "ant/bad.png").write_bytes(b"no image")
    _use(borrowed, "data/raw/mine")
    assert "ant/bad.png" in error_of(borrowed.stage("prepare", check=False))
    assert not (borrowed.root / "data/classes/mine.csv").exists()
    _use(borrowed, "data/raw/mine", on_bad="skip")
    done = borrowed.stage("prepare")
    assert "ant/bad.png" in done.stderr
    assert "3 classes" in done.stdout


@pytest.mark.parametrize("member", ["../escaped.png", "/escaped.png"])
def test_an_archive_member_outside_its_folder(borrowed: Project, member: str) -> None:
    (borrowed.root / "data/raw").mkdir()
    with tarfile.open(borrowed.root / "data/raw/mine.tar", "w") as archive:
        for name in ("ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png", member):
            info = tarfile.TarInfo(name)
            info.size = len(_png())
            archive.addfile(info, io.BytesIO(_png()))
    _use(borrowed, "data/raw/mine.tar")
    message = refused(borrowed, "prepare")
    assert member in message
    assert "outside" in message


def test_a_command_in_a_folder_that_is_no_project(project: Project, tmp_path: Path) -> None:
    python, *options = project.command("split")
    elsewhere = Project(tmp_path, project.environment | {"PYTHONPATH": str(project.root)})
    assert "params.yaml" in error_of(elsewhere.run(python, *options, check=False))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("distill,linear", "--cell 'distill,linear' is not of the form REGIME,ADAPTER,CLASSIFIER"),
        ("distil,linear,softmax", "Unknown regime 'distil'"),
        ("distill,-,heads", "Unknown classifier 'heads'"),
    ],
)
def test_choose_refuses_a_cell_that_cannot_be_before_anything_runs(checkout: Project, cell: str, message: str) -> None:
    done = checkout.run(sys.executable, "-m", "stages.choose", "x", "--grid", "seed=0,1", "--cell", cell, check=False)
    assert message in error_of(done) and "Running" not in done.stderr


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("lwf,linear,softmax", "The cell lwf,linear,softmax is not in the run: Unknown regime 'lwf'"),
        ("distill,mlp,softmax", "Unknown adapter 'mlp'"),
        ("distill,linear,gaussian", "Unknown classifier 'gaussian'"),
    ],
)
def test_choose_refuses_a_cell_that_its_runs_will_not_have_before_a_stage_runs(checkout: Project, cell: str, message: str) -> None:
    done = checkout.run(sys.executable, "-m", "stages.choose", "x", "adapters=[linear]", "--grid", "seed=0", "--cell", cell, check=False)
    assert message in error_of(done) and "stages will run" not in done.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [("nosuch=1", "nosuch"), ("adapters=[nosuch]", "nosuch"), ("adapters=[]", "adapters"), ("regimes=[]", "regimes")],
)
def test_an_override_that_does_not_compose_is_named(checkout: Project, override: str, words: str) -> None:
    done = checkout.run(sys.executable, "-m", "stages.compare", "x", override, "--orders", "0", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    composing, failed = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    assert words in composing and failed.startswith("Error: The run with") and override in failed


@pytest.mark.parametrize("tool", [["compare", "x"], ["choose", "x", "--grid", "seed=0", "--cell", "distill,-,head"]])
def test_runs_of_committed_files_need_a_git_repository(checkout: Project, tmp_path: Path, tool: list[str]) -> None:
    shutil.copytree(checkout.root, tmp_path / "plain", ignore=shutil.ignore_patterns(".git"))
    plain = Project(tmp_path / "plain", checkout.environment)
    error = error_of(plain.run(sys.executable, "-m", f"stages.{tool[0]}", *tool[1:], check=False))
    assert f"{plain.root} must be a git repository" in error
    assert not (plain.root / "docs/results").exists()
