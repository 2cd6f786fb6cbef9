"""What is added runs alone: new classes, new methods, other choices on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Project, ran
from PIL import Image

from carryover import artefacts


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
    copy.repro("select@finetune-task0", "keep@finetune-task0")
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
    assert {name for name in names if "mine" not in name} <= {"sources", "initialise@distill", "bundle@distill", "report"}
    assert {name for name in names if "mine" in name} == {
        f"{verb}@distill-mine-{task}" for verb in ("adapt", "transform", "drift", "evaluate") for task in ("task0", "task1")
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
    assert set(ran(output)) <= {"split", "bundle@distill", "report"}, "the first task is the same one"
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
