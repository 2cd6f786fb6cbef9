"""report: put the scores of all cells together: summary, results, curves, their picture, and a table to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carryover import registry, report
from carryover.artefacts import replacing
from carryover.errors import ArtefactError
from carryover.evaluation import Evaluation
from stages import layout
from stages.command import parameters, run

TEMPLATE = Path(".dvc/plots/curves.json")


def main() -> None:
    """Write what people and DVC read."""
    settings = Evaluation(**registry.checked(Evaluation, parameters("evaluation"), "evaluation"))
    tasks = [task["id"] for task in parameters("tasks")]
    cells = [_cell(regime, adapter, task) for regime in parameters("regimes") for adapter in parameters("columns") for task in tasks]
    cells += [_cell("joint", "oracle", task["id"]) for task in parameters("joint_tasks")]
    table = report.records(cells)
    results = report.results(table)
    curves = report.curves(table, settings.primary)
    _write("summary.json", json.dumps(report.summary(results, settings.primary), indent=1) + "\n")
    _write("results.csv", results.round(4).to_csv(index=False))
    _write("curves.csv", curves.to_csv(index=False))
    seconds = {(r, a): _seconds(r, a, tasks) for r in parameters("regimes") for a in parameters("adapters")}
    rows = [f"{r},{a},{s:.3f}" for (r, a), s in seconds.items() if s is not None]
    _write("seconds.csv", "\n".join(["regime,adapter,seconds", *rows]) + "\n")
    _write("table.md", report.markdown(results, settings.primary, {key: s for key, s in seconds.items() if s is not None}))
    _picture(curves.to_dict("records"))


def _cell(regime: str, adapter: str, task: str) -> dict[str, Any]:
    path = layout.evaluation(regime, adapter, task)
    try:
        cell: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"Cannot read the scores {path}: {error}.") from error
    if (cell.get("regime"), cell.get("adapter"), cell.get("task")) != (regime, adapter, task):
        raise ArtefactError(f"{path} holds the scores of {cell.get('regime')}, {cell.get('adapter')}, {cell.get('task')}: the file was swapped.")
    return cell


def _seconds(regime: str, adapter: str, tasks: list[str]) -> float | None:
    paths = [layout.seconds(f"adapt-{regime}-{adapter}-{task}") for task in tasks]
    notes = [json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in paths if path.exists()]
    return sum(notes) if notes else None


def _write(name: str, text: str) -> None:
    with replacing(layout.METRICS / name) as path:
        path.write_text(text, encoding="utf-8")


def _picture(curves: list[dict[str, Any]]) -> None:
    """Draw the curves with the template that `dvc plots` uses, so that both show the same picture."""
    import vl_convert

    text = TEMPLATE.read_text(encoding="utf-8")
    anchors = {
        '"<DVC_METRIC_DATA>"': json.dumps([{**row, "rev": "workspace"} for row in curves]),
        "<DVC_METRIC_TITLE>": "Accuracy over all classes seen",
        "<DVC_METRIC_X_LABEL>": "classes seen",
        "<DVC_METRIC_Y_LABEL>": "accuracy, %",
        "<DVC_METRIC_X>": "classes",
        "<DVC_METRIC_Y>": "accuracy",
    }
    for anchor, value in anchors.items():
        text = text.replace(anchor, value)
    with replacing(layout.METRICS / "curves.png") as path:
        path.write_bytes(vl_convert.vegalite_to_png(text, scale=2))


if __name__ == "__main__":
    run(main)
