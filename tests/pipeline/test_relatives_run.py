"""The relatives on the digits, with the parameters of the default run: each learns what it should, so that none breaks in silence."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project

from carryover import artefacts, runs
from carryover.backbones import Network
from carryover.images import read_images
from carryover.inference import extract
from carryover.machine import Machine
from stages import layout, networks, train

# The average incremental accuracy that each method reaches at least, by its cell.
FLOORS = {
    ("finetune", "-", "head"): 70,
    ("lwf", "-", "head"): 82,
    ("attention", "-", "head"): 80,
    ("replay", "-", "head"): 93,
    ("rehearsal", "exemplars", "nme"): 92,
    ("lucir", "-", "head"): 93,
    # What the images of the hybrid do for its network, which without them is a finetuned one, and what its features reach.
    ("hybrid", "-", "head"): 80,
    ("hybrid", "linear", "softmax"): 95,
}
REGIMES = tuple(dict.fromkeys(regime for regime, *_ in FLOORS))


@pytest.fixture(scope="module")
def finished(checkout: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two tasks of five digits under every regime of a relative, with one adapter, and the bound."""
    root = tmp_path_factory.mktemp("relatives")
    checkout.run("git", "clone", "--quiet", ".", str(root))
    project = Project(root, checkout.environment)
    project.dvc("config", "hydra.config_name", "config")
    project.compose(f"regimes=[{','.join(REGIMES)}]", "protocol.sizes=[5,5]", "adapters=[linear]", "joint=last", config="config")
    project.run(sys.executable, "-m", "stages.repro", seconds=1500)
    return project


def _results(project: Project) -> pd.DataFrame:
    frame = pd.read_csv(project.root / "metrics/results.csv")
    return frame[frame["budget"] == 0].set_index(["regime", "adapter", "classifier"])


def test_every_regime_has_a_test_of_its_accuracy() -> None:
    # That of `distill` is in test_default_run.py.
    assert {*REGIMES, "distill"} == {path.stem for path in (ROOT / "conf/regimes").glob("*.yaml")}


@pytest.mark.timeout(1600)
@pytest.mark.parametrize(("cell", "floor"), FLOORS.items())
def test_average_incremental_accuracy_has_a_floor(finished: Project, cell: tuple[str, str, str], floor: float) -> None:
    assert _results(finished).loc[cell, "average"] >= floor


@pytest.mark.timeout(1600)
def test_joint_training_has_a_floor(finished: Project) -> None:
    assert _results(finished).loc[("joint", "-", "head"), "last"] >= 96


@pytest.mark.timeout(1600)
def test_images_that_a_generator_makes_are_in_the_report(finished: Project) -> None:
    assert (finished.root / "metrics/samples-replay.png").read_bytes().startswith(PNG)
    page = (finished.root / "metrics/report.html").read_text(encoding="utf-8")
    assert '<section id="samples">' in page and "Images made by the generator of replay" in page


@pytest.mark.timeout(1600)
def test_lucir_begins_a_task_with_rows_imprinted_from_the_previous_network(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.root)
    begun: list[Network] = []

    def instead(network: Network, *_: Any, **__: Any) -> list[float]:
        begun.append(network)
        raise KeyboardInterrupt

    monkeypatch.setattr(train.training, "train", instead)
    with pytest.raises(KeyboardInterrupt):
        train.main("lucir", "task1", "task0")
    before = networks.read(layout.backbone("lucir", "task0"), regime="lucir", task="task0")
    images, _ = read_images(layout.images("task1", "train"), "task-images", task="task1", part="train")
    features = extract(before, images, Machine("cpu", "float32", 1)).astype(float)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = np.array([units[np.asarray(images.labels) == label].mean(axis=0) for label in range(5, 10)])
    weight, old = (network.head.weight.detach().numpy().astype(float) for network in (begun[0], before))
    assert np.array_equal(weight[:5], old)
    directions = weight[5:] / np.linalg.norm(weight[5:], axis=1, keepdims=True)
    assert np.allclose(directions, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.timeout(1600)
def test_what_is_kept_counts_as_memory(finished: Project) -> None:
    results = _results(finished)
    for regime in REGIMES:
        path = finished.root / f"data/exemplars/{regime}/task1.safetensors"
        kept = path.stat().st_size if regime not in ("finetune", "lwf", "attention") else 0
        assert results.loc[(regime, "-", "head"), "bytes"] == kept
        memory = (finished.root / f"data/memories/{regime}/task1/linear.safetensors").stat().st_size
        assert results.loc[(regime, "linear", "softmax"), "bytes"] == kept + memory
    assert results.loc[("rehearsal", "exemplars", "nme"), "bytes"] == results.loc[("rehearsal", "-", "head"), "bytes"]


@pytest.mark.timeout(1600)
def test_a_memory_of_exemplars_has_their_classes_and_counts(finished: Project) -> None:
    kept = artefacts.read(finished.root / "data/exemplars/rehearsal/task1.safetensors", "exemplars")
    memory = artefacts.read(finished.root / "data/memories/rehearsal/task1/exemplars.safetensors", "memory")
    assert memory["counts"].tolist() == [20] * 10
    assert len(kept["labels"]) == len(memory["features"]) == 200


@pytest.mark.timeout(1600)
def test_the_summary_shows_methods_under_their_own_classifier(finished: Project) -> None:
    summary: dict[str, Any] = json.loads((finished.root / "metrics/summary.json").read_text(encoding="utf-8"))
    nearest = _results(finished).loc[("rehearsal", "exemplars", "nme"), "average"]
    assert summary["rehearsal"]["exemplars"]["average"] == pytest.approx(nearest, abs=1e-3)
    assert "iCaRL (rehearsal x exemplars x nme)" in (finished.root / "metrics/table.md").read_text(encoding="utf-8")


PNG = b"\x89PNG"


@pytest.mark.timeout(1600)
def test_a_comparison_varies_what_a_regime_keeps_and_compares_within_bytes(copy: Project) -> None:
    project, before = copy, copy.digests("data")
    arguments = ["regimes=[rehearsal]", "adapters=[none]", "joint=never", "--orders", "0", "--vary", "rehearsal.exemplars.per_class=2"]
    arguments += ["--vary", "memory.storage=int8"]
    project.run(sys.executable, "-m", "stages.compare", "varied", *arguments, "--bytes", "3000", "--jobs", "2")
    folder = project.root / "docs/results/varied"
    table = pd.read_csv(folder / "table.csv").fillna({"setting": ""})
    kept = table[(table["adapter"] == "exemplars") & (table["classifier"] == "nme") & (table["budget"] == 0)].set_index("setting")["bytes"]
    assert set(kept.index) == {"", "exemplars.per_class=2"}, "images are not stored as vectors are"
    assert kept["exemplars.per_class=2"] < 3000 < kept[""]
    text = (folder / "table.md").read_text(encoding="utf-8")
    within = text.split("Within 3,000 bytes")[1]
    assert "iCaRL (rehearsal x exemplars x nme), exemplars.per_class=2" in within
    assert "iCaRL (rehearsal x exemplars x nme) |" in text.split("Within")[0]
    storages = pd.read_csv(folder / "storage.csv")
    whole = storages[(storages["adapter"] == "none") & (storages["classifier"] == "softmax") & (storages["budget"] == 0)]
    assert set(whole["storage"]) == {"as is", "int8"} and whole["bytes"].max() > 2 * whole["bytes"].min()
    assert set(pd.read_csv(folder / "drift.csv")["adapter"]) == {"none"}
    pictures = ("curves.png", "memory.png", "storage.png", "drift.png", "projection.png")
    assert all((folder / name).read_bytes().startswith(PNG) for name in pictures)
    assert project.digests("data") == before, "the workspace is as it was"
    # Another regime, with the bound, joins the table.
    more = ["regimes=[finetune]", "adapters=[none]", "joint=last", "--orders", "0", "--add"]
    project.run(sys.executable, "-m", "stages.compare", "varied", *more)
    together = pd.read_csv(folder / "table.csv").fillna({"setting": ""})
    assert table["regime"].unique().tolist() == ["rehearsal"] and set(together["regime"]) == {"rehearsal", "finetune", "joint"}
    pd.testing.assert_frame_equal(together[together["regime"] == "rehearsal"].reset_index(drop=True), table)
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert [line.count("stages.compare") for line in text.splitlines() if line.startswith("Made by")] == [1, 1]
    curves = pd.read_csv(folder / "curves.csv")
    assert set(curves["order"]) == {0} == set(curves["seed"]) and "setting" not in curves
    mean = runs.mean_curves(curves)
    assert set(mean[mean["adapter"] == "joint"]["regime"]) == {"rehearsal", "finetune"}
    # One more budget joins them, and nothing else is run or drawn.
    more = [*arguments[:5], "--vary", "rehearsal.exemplars.per_class=3", "--add", "--only-varied"]
    project.run(sys.executable, "-m", "stages.compare", "varied", *more)
    wider = pd.read_csv(folder / "table.csv").fillna({"setting": ""})
    assert set(wider["setting"]) - set(together["setting"]) == {"exemplars.per_class=3"}
    pd.testing.assert_frame_equal(wider[wider["setting"] != "exemplars.per_class=3"].reset_index(drop=True), together)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "curves.csv"), curves)


@pytest.mark.timeout(1600)
def test_parameters_are_ranked_by_validation_accuracy(copy: Project) -> None:
    arguments = ["regimes=[distill]", "adapters=[linear]", "joint=never", "--grid", "adapters.linear.ridge=0.003,1000"]
    copy.run(sys.executable, "-m", "stages.choose", "ridges", *arguments, "--cell", "distill,linear,softmax", "--cell", "distill,oracle,softmax")
    lines = (copy.root / "docs/results/ridges.md").read_text(encoding="utf-8").splitlines()
    header, _, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    assert header == ["adapters.linear.ridge", "distill x linear x softmax", "distill x oracle x softmax"]
    assert {row[0] for row in rows} == {"0.003", "1000"}
    assert float(rows[0][1]) >= float(rows[1][1])
    assert rows[0][2] == rows[1][2], "the oracle does not depend on the adapter"
