"""Features of somebody's own network, in place of a backbone: the same scores as where the network is the pipeline's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Project, error_of
from safetensors.numpy import save_file

from carryover import artefacts
from carryover.memory import Memory

MINE = """
defaults:
  - config
  - override experiment: features
  - override adapters: [none, linear]
  - _self_
evaluation: {classifiers: [nme, softmax], budgets: [1, 5]}
"""
KEYS = ["adapter", "classifier", "budget"]
SCORES = ["average", "last", "forgetting", "backward_transfer", "validation_average", "adapter_parameters"]


def _give(project: Project, folder: Path, task: str, bound: bool) -> None:
    """Write what the network of the regime distill makes of a task, as somebody would who has their own."""
    root = project.root / "data"
    own = artefacts.read(root / f"features/distill/{task}.safetensors", "features")
    seen = artefacts.read(root / f"observations/distill/{task}.safetensors", "observations")
    train = {name: own[name] for name in ("current", "labels", "previous") if name in own.tensors}
    test = {"test": seen["test_features"], "test_labels": seen["test_labels"].astype(np.uint8)}
    if bound:
        train |= {"head_weight": own["head_weight"], "head_bias": own["head_bias"]}
        test |= {"validation": seen["validation_features"], "validation_labels": seen["validation_labels"]}
    if "previous" in train:
        train |= {f"pairs_{side}": own[f"view_{side}"] for side in ("previous", "current")}
        if bound:
            again = Memory.read(root / f"memories/distill/{task}/oracle.safetensors")
            old = again.labels < own["labels"].min()
            # In another order, for herding finds its own.
            order = np.random.default_rng(0).permutation(int(old.sum()))
            test |= {"old": again.features[old][order], "old_labels": again.labels[old][order]}
    (folder / task).mkdir(parents=True, exist_ok=True)
    save_file(train, folder / task / "train.safetensors")
    save_file(test, folder / task / "test.safetensors")


def _compose(project: Project, folder: Path, sizes: list[int], *overrides: str) -> None:
    (project.root / "conf/mine.yaml").write_text(MINE, encoding="utf-8")
    project.compose(f"dataset.path={folder}", f"protocol.sizes={sizes}", *overrides, config="mine")


def test_given_features_score_as_the_network_that_made_them(project: Project, copy: Project, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    _give(project, folder, "task0", True)
    _compose(copy, folder, [2], "dataset.oracle=true", "adapters=[linear]")
    first = copy.repro("select@features-task0", "observe@features-task0")
    assert {name.split("@")[0] for name in first} - {"sources"} == {"prepare", "split", "receive", "observe", "select"}

    _give(project, folder, "task1", True)
    _compose(copy, folder, [2, 1], "dataset.oracle=true", "adapters=[linear]")
    second = copy.repro()
    assert not set(first) & set(second) - {"prepare", "split"}, "the first task is not done again"
    verbs = {"prepare", "split", "begin", "receive", "observe", "select", "adapt", "transform", "drift", "evaluate", "report"}
    assert {name.split("@")[0] for name in second} == verbs, "no network is trained, and none is looked through"
    frames = []
    for where, regime in ((copy, "features"), (project, "distill")):
        frame = pd.read_csv(where.root / "metrics/results.csv")
        chosen = (frame["regime"] == regime) & frame["adapter"].isin(["-", "linear", "oracle"])
        frames.append(frame[chosen].set_index(KEYS)[SCORES].sort_index())
    assert len(frames[0]) == 1 + 2 * 2 * 3
    pd.testing.assert_frame_equal(*frames, atol=1e-3)
    theirs, ours = (pd.read_csv(where.root / "metrics/drift.csv") for where in (copy, project))
    ours = ours[(ours["regime"] == "distill") & (ours["adapter"] == "linear")].reset_index(drop=True)
    pd.testing.assert_frame_equal(theirs.drop(columns="regime"), ours.drop(columns="regime"))


def test_what_was_not_given_is_left_out(project: Project, copy: Project, tmp_path: Path) -> None:
    _give(project, tmp_path / "mine", "task0", False)
    _compose(copy, tmp_path / "mine", [2])
    assert copy.parameters()["columns"] == ["none", "linear"] and copy.parameters()["bundled"] == []
    copy.set(memory__total=50)
    copy.repro("evaluate@features-none-task0")
    cell = json.loads((copy.root / "data/evaluations/features/none/task0.json").read_text(encoding="utf-8"))
    assert {record["classifier"] for record in cell["records"]} == {"nme", "softmax"}
    assert all(record["validation"]["accuracy"] is None and record["test"]["accuracy"] > 0.5 for record in cell["records"])
    refused = copy.run(sys.executable, "-m", "stages.gap", "--ceiling", check=False)
    assert "features has given features, and no network" in error_of(refused)


def test_a_protocol_or_an_adapter_that_does_not_fit_is_one_sentence(project: Project, copy: Project, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for task in ("task0", "task1"):
        _give(project, folder, task, False)
    _compose(copy, folder, [2, 2], "adapters=[none,adc]")
    copy.stage("prepare")
    assert "The features are of tasks of [2, 1] classes and protocol.sizes is [2, 2]" in error_of(copy.stage("split", check=False))
    _compose(copy, folder, [2, 1], "adapters=[none,adc]")
    copy.stage("split")
    begin = [*copy.command("begin"), "--regime", "features", "--first", "task0", "--state", "empty"]
    assert "The adapter 'adc' looks at images and networks" in error_of(copy.run(*begin, check=False))


@pytest.mark.parametrize("overrides", [["experiment=none", "dataset=features", "dataset.path=x"], ["dataset=digits"]])
def test_features_and_regimes_exclude_each_other(copy: Project, overrides: list[str]) -> None:
    (copy.root / "conf/mine.yaml").write_text(MINE, encoding="utf-8")
    with pytest.raises(AssertionError, match="choose both by experiment=features"):
        copy.compose(*overrides, config="mine")
