"""What runs when: nothing twice, nothing that a change does not reach, and nothing half."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Project, ran
from PIL import Image

from carryover import artefacts


def test_lanes_side_by_side_give_what_dvc_repro_gives(project: Project, fresh: Callable[[str], Project]) -> None:
    plain = fresh("plain")
    names = plain.repro("evaluate@distill-linear-task1", "evaluate_joint@task1")
    assert {"train@distill-task0", "train@distill-task1", "adapt@distill-linear-task1", "joint@task1"} <= set(names)
    assert "evaluate@finetune-none-task0" in project.lock()
    for name, entry in plain.lock().items():
        assert entry == project.lock()[name], name


def test_nothing_runs_when_nothing_changed(copy: Project) -> None:
    before = copy.digests()
    assert copy.repro() == []
    assert copy.run(sys.executable, "-m", "stages.repro").stdout == ""
    assert copy.digests() == before
    assert copy.run("git", "status", "--porcelain").stdout == ""


def test_changing_an_adapter_runs_that_adapter_alone(copy: Project) -> None:
    copy.set(adapters__linear__ridge=0.5)
    names = copy.repro("evaluate@finetune-linear-task1", "evaluate@finetune-none-task1")
    assert set(names) == {f"{verb}@finetune-linear-{task}" for verb in ("adapt", "transform") for task in ("task0", "task1")} | {
        "evaluate@finetune-linear-task1"
    }


def test_changing_a_metric_runs_no_stage_that_learns(copy: Project) -> None:
    metrics = copy.root / "carryover/metrics.py"
    metrics.write_text(metrics.read_text(encoding="utf-8") + "\n# A comment.\n", encoding="utf-8")
    assert copy.repro("sources") == ["sources"]
    stale = {name.split("@")[0] for name in ran(copy.dvc("repro", "--dry").stdout)}
    assert stale == {"evaluate", "evaluate_joint", "report"}


def test_stages_give_the_same_bytes_again(copy: Project) -> None:
    before = copy.digests()
    forced = ["train@distill-task1", "extract@distill-task1", "adapt@distill-linear-task1", "transform@distill-linear-task1"]
    assert copy.repro("--force", "--single-item", *forced) == forced
    assert copy.digests() == before


def test_an_appended_task_runs_the_new_task_alone(copy: Project) -> None:
    before = copy.digests()
    copy.compose("protocol.sizes=[2,1,1]", "regimes=[distill]")
    names = copy.repro()
    assert {name for name in names if not name.endswith("task2")} == {"split", "report"}
    assert {name.split("@")[0] for name in names} == {
        "split", "train", "extract", "select", "adapt", "transform", "oracle", "joint", "evaluate", "evaluate_joint", "report",
    }  # fmt: skip
    after = copy.digests()
    assert {path for path, digest in before.items() if after.get(path) != digest} == set()
    assert json.loads((copy.root / "data/evaluations/distill/linear/task2.json").read_text(encoding="utf-8"))["sizes"] == [2, 1, 1]


def _draw(folder: Path, names: list[str]) -> None:
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(random.integers(0, 256, size=(9, 9), dtype=np.uint8)).save(folder / name / f"{i}.png")


def _use_folder(project: Project, sizes: list[int]) -> None:
    project.compose(f"protocol.sizes={sizes}", "regimes=[finetune]", "adapters=[none]", "joint=never")
    project.set(dataset={"kind": "images", "name": "mine", "source": "data/raw/mine", "path": "data/raw/mine", "size": 8, "channels": 1})


def test_new_class_folders_are_a_new_task_and_labels_stay(copy: Project) -> None:
    folder = copy.root / "data/raw/mine"
    _draw(folder, ["bird", "dog"])
    _use_folder(copy, [2])
    copy.repro("select@finetune-task0")
    before = copy.digests()
    _draw(folder, ["ant", "cat"])
    _use_folder(copy, [2, 2])
    names = copy.repro("train@finetune-task1")
    assert {name for name in names if not name.endswith("task1")} == {"prepare", "split"}
    after = copy.digests()
    kept = [path for path in before if path.startswith(("data/backbones/finetune", "data/features/finetune/task0", "data/tasks/task0"))]
    kept += [path for path in before if path.startswith(("data/dataset/00000", "data/dataset/00001"))]
    assert kept
    assert all(after[path] == before[path] for path in kept if "task1" not in path)
    register = (copy.root / "data/classes/mine.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [(line.split(",")[0], line.split(",")[2].strip('"')) for line in register] == [("0", "bird"), ("1", "dog"), ("2", "ant"), ("3", "cat")]


ADAPTER = '''"""`mine`: an adapter dropped in."""

from .none import NoAdapter

__all__ = ["Mine"]


class Mine(NoAdapter):
    """Stale features, halved."""

    def __init__(self, factor: float = 0.5) -> None:
        self.factor = factor

    def transform(self, features):
        """Return the features times the factor."""
        return super().transform(features) * self.factor
'''
REGIME = '''"""`mine`: a regime dropped in."""

from carryover.regimes.finetune import Finetune

__all__ = ["Mine"]


class Mine(Finetune):
    """Finetuning with a scaled loss."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def loss(self, step):
        """Return the scaled loss."""
        return {name: self.factor * term for name, term in super().loss(step).items()}
'''


def test_a_new_adapter_is_one_file_and_one_config_file(copy: Project) -> None:
    (copy.root / "carryover/adapters/mine.py").write_text(ADAPTER, encoding="utf-8")
    (copy.root / "conf/adapters/mine.yaml").write_text("mine: {factor: 0.25}\n", encoding="utf-8")
    output = copy.dvc("exp", "run", "-S", "adapters=[none,mine]", "-S", "regimes=[distill]", "-S", "joint=never").stdout
    names = ran(output)
    assert {name for name in names if "mine" not in name} <= {"sources", "initialise@distill", "report"}
    assert {name for name in names if "mine" in name} == {
        f"{verb}@distill-mine-{task}" for verb in ("adapt", "transform", "evaluate") for task in ("task0", "task1")
    }
    summary = json.loads((copy.root / "metrics/summary.json").read_text(encoding="utf-8"))
    assert set(summary["distill"]) >= {"none", "mine", "oracle"}
    assert "carryover/adapters/none.py" in (copy.root / "data/sources/adapters/mine.json").read_text(encoding="utf-8")


def test_a_new_regime_is_one_file_and_one_config_file(copy: Project) -> None:
    (copy.root / "carryover/regimes/mine.py").write_text(REGIME, encoding="utf-8")
    (copy.root / "conf/regimes/mine.yaml").write_text("mine: {factor: 2.0}\n", encoding="utf-8")
    copy.compose("regimes=[mine]", "adapters=[none]", "joint=never")
    assert copy.repro("train@mine-task0") == ["sources", "initialise@mine", "train@mine-task0"]
    artefacts.read(copy.root / "data/backbones/mine/task0.safetensors", "backbone", regime="mine", task="task0")
    assert "evaluate@mine-none-task1" in copy.dvc("stage", "list").stdout


def test_the_command_line_chooses_protocol_and_adapters(copy: Project) -> None:
    (copy.root / "conf/protocol/one.yaml").write_text("defaults: [digits]\nsizes: [2]\n", encoding="utf-8")
    copy.edit("conf/tiny.yaml", "protocol: {sizes: [2, 1]}\n", "")
    before = copy.digests()
    output = copy.dvc("exp", "run", "-S", "protocol=one", "-S", "adapters=[none,linear]", "-S", "regimes=[distill]", "-S", "joint=never").stdout
    assert set(ran(output)) <= {"split", "report"}, "the first task is the same one"
    stages = {line.split()[0] for line in copy.dvc("stage", "list").stdout.splitlines()}
    assert "train@distill-task0" in stages
    assert not any("task1" in name or "finetune" in name for name in stages)
    after = copy.digests("data/backbones")
    assert all(after[path] == digest for path, digest in before.items() if path in after)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("regimes=[finetune,distil]", "Could not load 'regimes/distil'"),
        ("adapters=[none,nope]", "Could not load 'adapters/nope'"),
        ("protocol=nope", "Could not find 'protocol/nope'"),
        ("training.epoch=3", "Key 'epoch' is not in struct"),
    ],
)
def test_unknown_names_on_the_command_line_are_refused(copy: Project, override: str, words: str) -> None:
    before = copy.digests()
    done = copy.dvc("exp", "run", "-S", override, check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert copy.digests() == before


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_two_runs_of_one_stage_do_not_race(copy: Project) -> None:
    # Long enough that the second comes while the first still trains.
    copy.set(training__increment_epochs=60)
    running = [copy.start(*copy.command("train", "distill", "task1", "task0")) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted("Waiting for another run" in error for error in errors) == [False, True]
    artefacts.read(copy.root / "data/backbones/distill/task1.safetensors", "backbone", regime="distill", task="task1")


def test_killed_training_goes_on_and_ends_with_the_same_bytes(copy: Project) -> None:
    copy.set(training__increment_epochs=100)
    target, checkpoint = copy.root / "data/backbones/distill/task1.safetensors", copy.root / "data/.scratch/train-distill-task1.safetensors"
    copy.stage("train", "distill", "task1", "task0")
    whole = target.read_bytes()
    assert not checkpoint.exists()
    target.unlink()

    copy.set(training__increment_epochs=100)
    process = copy.start(*copy.command("train", "distill", "task1", "task0"))
    _wait_for(checkpoint.exists)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not target.exists()

    # A mark in the losses so far shows that the next run took them over.
    saved = artefacts.read(checkpoint, "checkpoint")
    fields = saved.fields | {"losses": [-1.0, *saved.fields["losses"][1:]]}
    artefacts.write(checkpoint, "checkpoint", saved.tensors, **fields)
    copy.stage("train", "distill", "task1", "task0")
    resumed = artefacts.read(target, "backbone")
    assert resumed.fields["losses"][0] == -1.0
    losses = artefacts.read_header(_kept(copy, whole), "backbone")["fields"]["losses"]
    artefacts.write(target, "backbone", resumed.tensors, **(resumed.fields | {"losses": [losses[0], *resumed.fields["losses"][1:]]}))
    assert target.read_bytes() == whole


def _kept(project: Project, content: bytes) -> Path:
    path = project.root / "whole.safetensors"
    path.write_bytes(content)
    return path


def test_a_checkpoint_of_other_settings_is_not_used(copy: Project) -> None:
    checkpoint = copy.root / "data/.scratch/train-finetune-task1.safetensors"
    copy.set(training__increment_epochs=100)
    process = copy.start(*copy.command("train", "finetune", "task1", "task0"))
    _wait_for(checkpoint.exists)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    before = copy.digests()
    copy.set(training__increment_epochs=2)
    copy.stage("train", "finetune", "task1", "task0")
    assert copy.digests() == before


def test_a_lane_that_fails_ends_the_others(copy: Project) -> None:
    copy.set(training__epochs=5000, regimes__distill__temperature=-1.0)
    done = copy.run(sys.executable, "-m", "stages.repro", check=False)
    assert done.returncode == 1
    assert "Error: Parameter regimes.distill.temperature is -1.0" in done.stderr
    assert "Traceback" not in done.stderr
    assert copy.processes() == []


def test_an_interrupted_run_leaves_no_process_behind(copy: Project) -> None:
    copy.set(training__epochs=5000)
    process = copy.start(sys.executable, "-m", "stages.repro")
    _wait_for(lambda: any((copy.root / "data/.scratch").glob("train-*-task0.safetensors")))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert copy.processes() == []
