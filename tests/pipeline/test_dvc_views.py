"""DVC's own views of a run: plots, differences, experiments and the graph, as the README shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from conftest import ROOT, Project


@pytest.fixture(scope="module")
def changed(project: Project, shared_copy: Project) -> Iterator[Project]:
    """A project whose workspace differs from its last commit in one parameter and one method's accuracy."""
    shared_copy.set(adapters__linear__ridge=0.5)
    curves = (shared_copy.root / "metrics/curves.csv").read_text(encoding="utf-8")
    lines = [re.sub(r"[\d.]+$", "12.5", line) if ",distill,linear," in line else line for line in curves.splitlines()]
    summary = json.loads((shared_copy.root / "metrics/summary.json").read_text(encoding="utf-8"))
    summary["distill"]["linear"]["average"] = 12.5
    shared_copy.replace("metrics/curves.csv", "\n".join([*lines, ""]).encode())
    shared_copy.replace("metrics/summary.json", json.dumps(summary).encode())
    yield shared_copy


def shown(project: Project, *arguments: str) -> str:
    """Run a `dvc plots` command; return the page that it writes."""
    project.dvc("plots", *arguments, "--out", "views")
    return (project.root / "views/index.html").read_text(encoding="utf-8")


def test_plots_show_draws_the_curves_coloured_by_method(changed: Project) -> None:
    page = shown(changed, "show")
    assert '"facet": {"field": "regime"' in page and '"color": {"field": "adapter"' in page and '"columns": 3' in page
    assert "DVC_METRIC" not in page and "Accuracy over all classes seen" in page
    assert all(f'"adapter": "{name}"' in page for name in ("head", "none", "linear", "oracle", "joint"))


def test_plots_diff_draws_both_revisions(changed: Project) -> None:
    page = shown(changed, "diff", "HEAD")
    rows = re.findall(r'\{[^{}]*"adapter": "linear"[^{}]*\}', page)
    found = {(row["rev"], row["accuracy"]) for row in map(json.loads, rows) if row["regime"] == "distill"}
    assert {rev for rev, _ in found} == {"HEAD", "workspace"}
    assert {accuracy for rev, accuracy in found if rev == "workspace"} == {"12.5"} and ("HEAD", "12.5") not in found


def test_a_training_is_drawn_from_its_epochs(changed: Project) -> None:
    epochs = (changed.root / "data/.live/train-distill-task1.csv").read_text(encoding="utf-8").splitlines()
    assert epochs[0] == "epoch,loss,accuracy,learning_rate" and [line.split(",")[0] for line in epochs[1:]] == ["1", "2"]
    page = shown(changed, "show", "data/.live/train-distill-task1.csv", "-x", "epoch", "-y", "loss")
    assert f'"loss": "{epochs[2].split(",")[1]}"' in page


def test_metrics_diff_shows_what_changed_alone(changed: Project) -> None:
    difference = json.loads(changed.dvc("metrics", "diff", "--json").stdout)
    assert list(difference) == ["metrics/summary.json"] and list(difference["metrics/summary.json"]) == ["distill.linear.average"]
    assert difference["metrics/summary.json"]["distill.linear.average"]["new"] == 12.5


def test_exp_show_is_narrow(changed: Project) -> None:
    table = changed.dvc("exp", "show", "--only-changed", "--csv").stdout
    columns = table.splitlines()[0].split(",")
    assert {"distill.linear.average", "adapters.linear.ridge"} <= set(columns)
    assert len(columns) <= 12, columns


def test_what_the_extension_for_vs_code_asks_for_has_metrics_and_plots(changed: Project) -> None:
    """Its three questions, as its log prints them."""
    plots = json.loads(changed.dvc("plots", "diff", "HEAD", "workspace", "-o", ".dvc/tmp/plots", "--split", "--json").stdout)
    assert not plots.get("errors")
    assert {name: drawn[0]["type"] for name, drawn in plots["data"].items()} == {"metrics/curves.csv": "vega"}
    (drawn,) = plots["data"]["metrics/curves.csv"]
    assert set(drawn["revisions"]) == {"HEAD", "workspace"} and drawn["anchor_definitions"] and drawn["content"]
    experiments = json.loads(changed.dvc("exp", "show", "--json").stdout)
    assert all(list(e["data"]["metrics"]) == ["metrics/summary.json"] and list(e["data"]["params"]) == ["params.yaml"] for e in experiments)
    assert json.loads(changed.dvc("data", "status", "--granular", "--unchanged", "--json").stdout)["unchanged"]


def test_the_readme_shows_the_graph_that_dvc_draws(project: Project) -> None:
    text = project.dvc("dag", "--collapse-foreach-matrix", "--mermaid").stdout
    assert edges(text) == edges((ROOT / "README.md").read_text(encoding="utf-8").split("```mermaid")[1].split("```")[0])


def edges(text: str) -> set[tuple[str, str]]:
    """Return the edges of a Mermaid graph but those from `sources`, which leads everywhere, and from a stage to itself."""
    names = dict(re.findall(r'(node\d+)\["(\w+)"\]', text))
    found = {(names[a], names[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", text)}
    return {(a, b) for a, b in found if a not in ("sources", b)}
