"""The default experiment, as far as its `distill` regime: every method learns what it should, and no less than it did."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT, Project

# Adapters that are not part of the default run, each under its own classifier.
PROTOTYPES = {"sdc_means": 86, "ldc": 86, "adc": 86, "gaussian": 90, "generative": 78}


@pytest.fixture(scope="module")
def finished(checkout: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The default experiment under `distill`, with every adapter there is."""
    root = tmp_path_factory.mktemp("default")
    checkout.run("git", "clone", "--quiet", ".", str(root))
    project = Project(root, checkout.environment)
    project.dvc("config", "hydra.config_name", "config")
    project.compose("experiment=exemplar_free", "joint=never", config="config")
    project.run(sys.executable, "-m", "stages.repro", seconds=900)
    return project


@pytest.fixture(scope="module")
def summary(finished: Project) -> dict[str, Any]:
    """The summary of that run."""
    content: dict[str, Any] = json.loads((finished.root / "metrics/summary.json").read_text(encoding="utf-8"))["distill"]
    return content


def _average(summary: dict[str, Any]) -> Callable[[str], float]:
    return lambda name: float(summary[name]["average"])


@pytest.mark.timeout(1000)
def test_methods_rank_as_the_paper_has_them(summary: dict[str, Any]) -> None:
    average = _average(summary)
    assert average("oracle") > max(average("linear"), average("mlp"))
    assert min(average("linear"), average("mlp")) > average("sdc") > average("none") > average("head")


@pytest.mark.timeout(1000)
@pytest.mark.parametrize(
    ("method", "floor"), [("head", 50), ("none", 75), ("sdc", 88), ("linear", 93), ("mlp", 93), ("oracle", 96), *PROTOTYPES.items()]
)
def test_average_incremental_accuracy_has_a_floor(summary: dict[str, Any], method: str, floor: float) -> None:
    assert summary[method]["average"] >= floor


@pytest.mark.timeout(1000)
def test_the_papers_adapter_closes_most_of_the_gap_to_the_oracle(summary: dict[str, Any]) -> None:
    assert summary["mlp"]["gap_closed"] >= 0.75


def test_every_adapter_has_a_floor() -> None:
    assert {*PROTOTYPES, "none", "sdc", "linear", "mlp"} == {path.stem for path in (ROOT / "conf/adapters").glob("*.yaml")}


@pytest.mark.timeout(1000)
def test_gaussians_do_with_a_fifth_of_the_bytes(summary: dict[str, Any]) -> None:
    assert summary["gaussian"]["bytes"] < summary["mlp"]["bytes"] / 5
    assert summary["ldc"]["bytes"] < summary["gaussian"]["bytes"] / 10


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("adapter", ["gaussian", "generative"])
def test_features_drawn_from_a_memory_are_in_the_report(finished: Project, adapter: str) -> None:
    assert (finished.root / f"metrics/samples-distill-{adapter}.png").read_bytes().startswith(b"\x89PNG")
    page = (finished.root / "metrics/report.html").read_text(encoding="utf-8")
    assert f"Features drawn from the memory of distill x {adapter}" in page


def cells(table: str, first: str) -> list[list[str]]:
    """Return the rows of a Markdown table whose first cell is `first`."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith(f"| {first} |")]


@pytest.mark.timeout(1000)
def test_the_gap_to_the_oracle_is_taken_apart(finished: Project, summary: dict[str, Any]) -> None:
    out = finished.root / "gap.md"
    assert str(finished.run(sys.executable, "-m", "stages.gap", "--out", "gap.md").stdout).strip() == "gap.md"
    found = {row[1]: [float(cell) for cell in row[3:]] for row in cells(out.read_text(encoding="utf-8"), "distill")}
    assert set(found) == {*PROTOTYPES, "none", "sdc", "linear", "mlp"}
    # What was carried is scored as the stage `evaluate` scores it.
    assert all(row[0] == round(summary[adapter]["last"], 1) for adapter, row in found.items() if adapter not in PROTOTYPES)
    oracle = found["none"][3]
    assert all(row[3] == oracle and row[0] <= oracle for row in found.values())
    # Stale features lie wrong above all, and what the paper's adapter carries lies better.
    assert found["none"][1] > found["none"][0] + 10 and found["mlp"][4] < found["none"][4]
    # One mean a class has no spread, and, at its true place, is the same whoever carried it.
    assert found["sdc_means"][5] == found["ldc"][5] == 0 and found["sdc_means"][1] == found["ldc"][1]
    refused = finished.run(sys.executable, "-m", "stages.gap", "--out", "params.yaml/gap.md", check=False)
    assert refused.returncode != 0 and "Traceback" not in refused.stderr


@pytest.mark.timeout(1000)
def test_adapters_fitted_on_old_images_say_what_any_such_map_loses(finished: Project) -> None:
    text = str(finished.run(sys.executable, "-m", "stages.gap", "--ceiling").stdout)
    (header,) = cells(text, "regime")
    found = {row[1]: row for row in cells(text, "distill")}
    assert header[-1] == "fitted on old images %" and all(len(row) == len(header) for row in found.values())
    best = {adapter: float(row[-1]) for adapter, row in found.items() if row[-1]}
    # What learns nothing gains nothing, and means, forms and what looks at images have no such fit.
    assert set(best) == {"none", "sdc", "linear", "mlp"} and best["none"] == float(found["none"][3])
    assert best["sdc"] > float(found["sdc"][3]) + 3
    for adapter in ("linear", "mlp"):
        carried, oracle = float(found[adapter][3]), float(found[adapter][6])
        assert carried - 1 < best[adapter] and oracle - 4 < best[adapter] < oracle + 1
