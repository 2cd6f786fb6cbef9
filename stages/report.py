"""report: put the scores of all cells together: summary, results, curves, their picture, and a table to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carryover import artefacts, registry, report, runs
from carryover.artefacts import replacing, sha256
from carryover.errors import ArtefactError
from carryover.evaluation import Evaluation
from stages import drifts, layout, page, picture
from stages.command import ids, parameters, run


def main() -> None:
    """Write what people and DVC read."""
    settings = Evaluation(**registry.checked(Evaluation, parameters("evaluation"), "evaluation"))
    tasks = ids(parameters("tasks"), "tasks")
    cells = [_cell(regime, adapter, task) for regime in parameters("regimes") for adapter in parameters("columns") for task in tasks]
    cells += [_cell("joint", "oracle", task) for task in parameters("joint_tasks")]
    table = report.records(cells)
    results = report.results(table)
    curves = report.curves(table, settings.primary)
    _write("summary.json", json.dumps(report.summary(results, settings.primary), indent=1) + "\n")
    _write("results.csv", results.round(4).to_csv(index=False))
    _write("curves.csv", curves.to_csv(index=False))
    _write("matrix.csv", report.matrices(table, settings.primary).to_csv(index=False))
    _write("ledger.csv", report.ledger(cells).to_csv(index=False))
    _write("confusion.json", json.dumps(report.confusions(cells, settings.primary), separators=(",", ":")).replace('{"method"', '\n{"method"') + "\n")
    seconds = {(r, a): _seconds(r, a, tasks) for r in parameters("regimes") for a in parameters("adapters")}
    rows = [f"{r},{a},{s:.3f}" for (r, a), s in seconds.items() if s is not None]
    _write("seconds.csv", "\n".join(["regime,adapter,seconds", *rows]) + "\n")
    _write("table.md", report.markdown(results, settings.primary, {key: s for key, s in seconds.items() if s is not None}))
    picture.curves(curves.to_dict("records")).draw(layout.METRICS / "curves.png")
    picture.memory(runs.aggregate(results.assign(order=0, seed=0))).draw(layout.METRICS / "memory.png")
    _write_drift(tasks)
    for regime, section in parameters("regimes").items():
        if "generator" in (section or {}):
            # Imported here, for networks are loaded with it.
            from stages.samples import draw_samples

            draw_samples(regime, tasks[-1], layout.samples(regime))
        for adapter in parameters("adapters"):
            # The memory itself says so, where it is at hand: adapters are not loaded here.
            path = layout.memory(regime, adapter, tasks[-1])
            if path.exists() and artefacts.read_header(path, "memory", regime=regime, adapter=adapter, task=tasks[-1])["fields"].get("form"):
                from stages.samples import draw_features

                draw_features(regime, adapter, tasks[-1], layout.samples(regime, adapter))
    page.write()


def _write_drift(tasks: list[str]) -> None:
    cells = [(regime, adapter) for regime in parameters("regimes") for adapter in parameters("paired")]
    table = report.drift([_scores(layout.drift_scores(r, a, task), r, a, task) for r, a in cells for task in tasks], tasks)
    _write("drift.csv", table.round(4).to_csv(index=False))
    picture.drift(report.drift_by_age(table)).draw(layout.METRICS / "drift.png")
    last = {cell: drifts.read(*cell, tasks[-1]).tensors for cell in cells}
    projection = report.projection(last, table["class"].unique().tolist())
    _write("projection.csv", projection.round(3).to_csv(index=False))
    picture.projection(projection).draw(layout.METRICS / "projection.png")


def _cell(regime: str, adapter: str, task: str) -> dict[str, Any]:
    return _scores(layout.evaluation(regime, adapter, task), regime, adapter, task)


def _scores(path: Path, regime: str, adapter: str, task: str) -> dict[str, Any]:
    try:
        cell: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"Cannot read the scores {path}: {error}.") from error
    if (cell.get("regime"), cell.get("adapter"), cell.get("task")) != (regime, adapter, task):
        raise ArtefactError(f"{path} holds the scores of {cell.get('regime')}, {cell.get('adapter')}, {cell.get('task')}: the file was swapped.")
    return cell


def _seconds(regime: str, adapter: str, tasks: list[str]) -> float | None:
    """Return how long the fitting of the adapters of all tasks took; None unless each of them was fitted here, and not restored from a cache."""
    total = 0.0
    for task in tasks:
        path, fitted = layout.seconds(f"adapt-{regime}-{adapter}-{task}"), layout.adapter(regime, adapter, task)
        if not (path.exists() and fitted.exists()):
            return None
        note = json.loads(path.read_text(encoding="utf-8"))
        if note.get("sha256") != sha256(fitted):
            return None
        total += note["seconds"]
    return total


def _write(name: str, text: str) -> None:
    with replacing(layout.METRICS / name) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
