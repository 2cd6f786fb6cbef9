"""The DAG is the proof that no old image is looked at: these tests walk it, and show that the walk would notice."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Project

LEARNING = {"initialise", "train", "extract", "select", "keep", "adapt", "chase", "transform"}
# What stands in place of some of them where features are given.
GIVEN = {"begin", "receive"}
MEASURING = {"oracle", "drift", "joint", "observe_joint", "evaluate", "evaluate_joint", "report"}
COMMON = {"sources", "prepare", "split"}
# Of the manifest, the bundle takes the names of classes.
USING = {"bundle"}


@pytest.fixture(autouse=True)
def _dvc_settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        if name.startswith("DVC_"):
            monkeypatch.setenv(name, value)


def stages_of(root: Path) -> dict[str, dict[str, Any]]:
    """Return every stage as DVC resolves it: its verb, regime and task, and the paths it depends on and writes."""
    from dvc.dependency import Dependency
    from dvc.repo import Repo

    with Repo(root) as repo:
        found = {}
        for stage in repo.index.stages:
            options = dict(re.findall(r"--(\w+) (\S+)", stage.cmd))
            found[stage.name] = {
                "verb": stage.name.split("@")[0],
                "task": options.get("task", options.get("first")),
                "previous": options.get("previous"),
                "regime": options.get("regime"),
                # Parameters are dependencies of another class.
                "deps": [dependency.def_path for dependency in stage.deps if type(dependency) is Dependency],
                "outs": [out.def_path for out in stage.outs],
            }
        return found


def violations(root: Path) -> list[str]:
    """Return each dependency by which a stage that learns could look at more than its own task's images and the state before it.

    What a learning stage may read is listed, file by file, and the first may read the weights that it begins with. Anything else counts:
    other tasks' images, test images, manifests, folders that hold any of these, and the outputs of stages that do not learn.
    """
    stages = stages_of(root)
    writer = {out: stage for stage in stages.values() for out in stage["outs"]}
    weights = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))["backbone"]["source"]
    found = []
    for name, stage in stages.items():
        if stage["verb"] not in LEARNING | GIVEN:
            continue
        own = f"data/tasks/{stage['task']}/train.safetensors"
        kept = f"data/exemplars/{stage['regime']}/{stage['previous']}.safetensors"
        for path in stage["deps"]:
            source = _writer(path, writer)
            state = source is not None and source["verb"] in LEARNING | GIVEN and source["regime"] == stage["regime"] and "/exemplars/" not in path
            recent = (
                state and source is not None and (source["task"] in (stage["task"], stage["previous"]) or source["verb"] in ("initialise", "begin"))
            )
            begins = stage["verb"] == "initialise" and path == weights
            if not (path in (own, kept) or begins or path.startswith("data/sources/") or recent):
                found.append(f"{name} reads {path}")
    return found


def _writer(path: str, writer: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the stage that writes a file, as such or inside a folder."""
    return next((writer[str(place)] for place in (Path(path), *Path(path).parents) if str(place) in writer), None)


def test_learning_stages_read_their_own_task_and_the_state_before_it(checkout: Project) -> None:
    stages = stages_of(checkout.root)
    assert {stage["verb"] for stage in stages.values()} == (LEARNING | MEASURING | COMMON | USING) - {"chase"}
    assert {(stage["regime"], stage["task"]) for stage in stages.values() if stage["verb"] == "train"} == {
        (regime, task) for regime in ("finetune", "distill") for task in ("task0", "task1")
    }
    assert violations(checkout.root) == []


def test_learning_stages_of_the_committed_parameters_do_so_too(fresh: Callable[[str], Project]) -> None:
    project = fresh("committed")
    (project.root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    assert violations(project.root) == []


def test_learning_stages_of_every_method_do_so_too(fresh: Callable[[str], Project]) -> None:
    project = fresh("everything")
    names = {group: ",".join(sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))) for group in ("regimes", "adapters")}
    project.compose(f"regimes=[{names['regimes']}]", f"adapters=[{names['adapters']}]")
    assert {stage["verb"] for stage in stages_of(project.root).values()} == LEARNING | MEASURING | COMMON | USING
    assert violations(project.root) == []


def test_learning_stages_of_given_features_do_so_too(fresh: Callable[[str], Project]) -> None:
    project = fresh("given")
    (project.root / "conf/mine.yaml").write_text("defaults: [config, {override experiment: features}, _self_]\n", encoding="utf-8")
    project.compose("dataset.path=mine", "protocol.sizes=[2,1,1]", "dataset.oracle=true", config="mine")
    unneeded = {"initialise", "train", "extract", "keep", "chase", "oracle", "joint", "observe_joint", "evaluate_joint"}
    assert {stage["verb"] for stage in stages_of(project.root).values()} == (LEARNING | GIVEN | MEASURING | COMMON | {"observe"}) - unneeded
    assert violations(project.root) == []


def test_only_stages_that_measure_reach_what_was_seen(checkout: Project) -> None:
    stages = stages_of(checkout.root)
    writer = {out: stage for stage in stages.values() for out in stage["outs"]}
    direct = {s["verb"] for s in stages.values() if any(p.endswith("/seen.json") or "/observations/" in p for p in s["deps"])}
    assert direct == {"oracle", "drift", "joint", "observe_joint", "evaluate", "evaluate_joint", "bundle"}

    def upstream(stage: dict[str, Any]) -> set[str]:
        sources = [source for path in stage["deps"] if (source := _writer(path, writer))]
        return {verb for source in sources for verb in upstream(source) | {source["verb"]}}

    for name, stage in stages.items():
        if stage["verb"] in LEARNING | COMMON:
            assert not upstream(stage) & MEASURING, name


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("train", "data/tasks/${tasks[0].id}/train.safetensors"),
        ("train", "data/tasks"),
        ("train", "data/dataset"),
        ("train", "data/tasks/${item.task.id}/seen.json"),
        ("train", "data/exemplars/${item.regime}/${tasks[0].id}.safetensors"),
        ("train", "data/exemplars"),
        ("extract", "data/tasks/${item.task.id}/test.safetensors"),
        ("extract", "data/tasks/${item.task.id}/validation.safetensors"),
        ("keep", "data/tasks/${item.task.id}"),
        ("keep", "data/exemplars/${item.regime}/${tasks[0].id}.safetensors"),
        ("adapt", "data/observations/${item.regime}/${item.task.id}.safetensors"),
        ("transform", "data/memories/${item.regime}/${item.task.id}/oracle.safetensors"),
        ("transform", "data/copied"),
        ("transform", "data/drifts/${item.regime}/${item.task.id}/${item.adapter}.safetensors"),
    ],
)
def test_the_walk_notices_a_dependency_too_many(fresh: Callable[[str], Project], verb: str, path: str) -> None:
    project = fresh("changed")
    pipeline = yaml.safe_load((project.root / "dvc.yaml").read_text(encoding="utf-8"))
    pipeline["stages"][verb]["deps"].append(path)
    pipeline["stages"]["copy"] = {"cmd": "cp", "deps": ["data/dataset"], "outs": ["data/copied"]}
    (project.root / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    found = violations(project.root)
    assert found
    assert all(violation.startswith(f"{verb}@") for violation in found)


def test_committed_parameters_are_those_composed_from_conf(fresh: Callable[[str], Project]) -> None:
    project = fresh("composed")
    (project.root / "conf/tiny.yaml").write_text("defaults: [config]\n", encoding="utf-8")
    project.compose()
    assert (project.root / "params.yaml").read_text(encoding="utf-8") == (ROOT / "params.yaml").read_text(encoding="utf-8")


def _pipeline() -> dict[str, Any]:
    pipeline: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return pipeline


def _module(stage: dict[str, Any]) -> str:
    found = re.search(r"-m stages\.(\w+)", stage["cmd"])
    assert found
    return found[1]


def _read(module: str) -> set[str]:
    """Return the parameters that a stage's file and the files of stages/ it imports read, as dvc.yaml would name them."""
    from stages.sources import closure

    names = set()
    for path in closure(Path(f"stages/{module}.py")):
        if path.parts[0] != "stages" or path.stem == "command":
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "parameters":
                section, *inner = node.args
                assert isinstance(section, ast.Constant), f"{path}:{node.lineno} names its section in no literal"
                if not inner:
                    names.add(str(section.value))
                elif isinstance(inner[0], ast.Constant):
                    names.add(f"{section.value!s}.{inner[0].value!s}")
                else:
                    assert isinstance(inner[0], ast.Name)
                    names.add(f"{section.value!s}.${{item.{inner[0].id}}}")
    return names


@pytest.mark.parametrize("name", _pipeline())
def test_a_stage_declares_the_parameters_it_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    stage = _pipeline()[name]
    declared = set(stage.get("params", []))
    # Of `memory`, the empty state uses the storage type alone, and reads the section to check it.
    read = {"memory.storage" if parameter == "memory" and name in ("initialise", "begin") else parameter for parameter in _read(_module(stage))}
    # One parameter of a section that is read as a whole is declared with it.
    assert {parameter for parameter in read if "." not in parameter or parameter.partition(".")[0] not in read} == declared


@pytest.mark.parametrize("name", _pipeline())
def test_a_stage_depends_on_its_code(name: str) -> None:
    stage = _pipeline()[name]
    if name != "sources":
        assert f"data/sources/stages/{_module(stage)}.json" in stage["deps"]
    for group in ("regime", "adapter"):
        if f"{group}s.${{item.{group}}}" in stage.get("params", []):
            assert f"data/sources/{group}s/${{item.{group}}}.json" in stage["deps"]


@pytest.fixture(scope="module")
def learned(shared_copy: Project) -> dict[str, set[str]]:
    """Learn task 1 once more where no image but its own exists; return the project's files that each stage imported."""
    root = shared_copy.root
    for path in [*root.glob("data/dataset/*.safetensors"), *root.glob("data/tasks/*/*")]:
        # The manifest, which has no image, is what a bundle has its class names from.
        if path.parent.name != "task1" or path.stem not in ("train", "seen"):
            path.unlink()
    code = "import json, runpy, sys; name = sys.argv.pop(1); sys.argv[0] = name + '.py'\n"
    code += "try: runpy.run_module('stages.' + name, run_name='__main__', alter_sys=True)\n"
    code += "except SystemExit as end: assert not end.code\n"
    code += "print(json.dumps([m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]))"
    calls = {
        "train": ("distill", "task1", "task0"),
        "extract": ("distill", "task1", "task0"),
        "select": ("distill", "task1"),
        "keep": ("distill", "task1", "task0"),
        "adapt": ("distill", "linear", "task1"),
        "transform": ("distill", "linear", "task1", "task0"),
        "evaluate": ("distill", "linear", "task1"),
        "drift": ("distill", "linear", "task1", "task0"),
        "bundle": ("distill", "linear", "softmax", "task1"),
        "report": (),
    }
    imported = {}
    for name, values in calls.items():
        python, _, _, *options = shared_copy.command(name, *values)
        output = shared_copy.run(python, "-c", code, name, *options).stdout
        files = [Path(file) for file in json.loads(output.splitlines()[-1])]
        imported[name] = {str(file.relative_to(root)) for file in files if file.is_relative_to(root)}
    return imported


def test_a_task_is_learned_without_any_other_image(project: Project, shared_copy: Project, learned: dict[str, set[str]]) -> None:
    for folder in ("backbones", "features", "selections", "exemplars", "adapters", "memories", "evaluations", "drifts"):
        assert shared_copy.digests(f"data/{folder}") == project.digests(f"data/{folder}"), folder


def test_sources_list_every_imported_file(shared_copy: Project, learned: dict[str, set[str]]) -> None:
    regime, adapter = ["regimes/distill"], ["adapters/linear"]
    methods = {"train": regime, "extract": regime, "keep": regime, "adapt": adapter, "transform": adapter, "drift": adapter}
    for name, imported in learned.items():
        listed: set[str] = set()
        for source in [f"stages/{name}", *methods.get(name, [])]:
            listed |= set(json.loads((shared_copy.root / f"data/sources/{source}.json").read_text(encoding="utf-8")))
        assert f"stages/{name}.py" in listed
        assert imported <= listed, f"{name} imports what its digest leaves out"


@pytest.mark.parametrize(
    ("source", "foreign"),
    [
        ("stages/train", ["carryover/metrics.py", "carryover/report.py", "carryover/regimes/distill.py", "carryover/adapters/linear.py"]),
        ("stages/adapt", ["carryover/metrics.py", "carryover/training.py", "carryover/adapters/linear.py"]),
        ("stages/evaluate", ["carryover/training.py", "carryover/report.py"]),
        ("regimes/finetune", ["carryover/regimes/distill.py"]),
        ("adapters/none", ["carryover/adapters/linear.py", "carryover/adapters/mlp.py"]),
    ],
)
def test_sources_list_nothing_out_of_reach(project: Project, source: str, foreign: list[str]) -> None:
    listed = json.loads((project.root / f"data/sources/{source}.json").read_text(encoding="utf-8"))
    assert not set(foreign) & set(listed)


def test_sources_follow_every_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.sources import closure

    monkeypatch.chdir(tmp_path)
    files = {
        "stages/__init__.py": "",
        "stages/a.py": "import carryover.deep.b as b\ndef f():\n    from carryover import c\n",
        "carryover/__init__.py": "",
        "carryover/c.py": "from .deep import d\nfrom . import e\nimport json\n",
        "carryover/d.py": "",
        "carryover/e.py": "from .deep.d import x\n",
        "carryover/deep/__init__.py": "",
        "carryover/deep/b.py": "from ..f import y\n",
        "carryover/deep/d.py": "",
        "carryover/f.py": "",
        "carryover/unused.py": "",
    }
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    reached = {str(path) for path in closure(Path("stages/a.py"))}
    assert reached == set(files) - {"carryover/unused.py", "carryover/d.py", "stages/__init__.py"}
