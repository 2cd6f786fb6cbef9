"""The report: scores of all cells after all tasks, put together into rows, curves and a summary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from carryover import metrics
from carryover.drift import MEASURES, project

# The cells of the table that papers have names for; a cell is (regime, adapter, classifier).
NAMES = {
    ("finetune", "-", "head"): "Finetuning",
    ("lwf", "-", "head"): "LwF",
    ("attention", "-", "head"): "LwM",
    ("rehearsal", "exemplars", "nme"): "iCaRL",
    ("lucir", "-", "head"): "LUCIR",
    ("replay", "-", "head"): "Generative image replay",
    ("distill", "generative", "softmax"): "Generative feature replay",
    ("distill", "gaussian", "gaussian"): "Gaussians",
    ("distill", "none", "softmax"): "Stale features",
    ("distill", "sdc_means", "nme"): "SDC",
    ("distill", "ldc", "nme"): "LDC",
    ("distill", "adc", "nme"): "ADC",
    ("distill", "mlp", "softmax"): "Feature adaptation",
    ("hybrid", "mlp", "softmax"): "Feature adaptation, hybrid",
    ("joint", "-", "head"): "Joint training",
}
KEYS = ["regime", "adapter", "classifier", "budget"]


def records(cells: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row for each regime, adapter, classifier, budget and task.

    The network's own head does not depend on the adapter: it is kept once, as adapter "-". A `budget` of 0 means the
    whole memory, and is every larger budget: of a task after which no class has more rows than that, the row is the whole memory's.
    """
    rows = []
    for cell in cells:
        for record in cell["records"]:
            head = record["classifier"] == "head"
            row = {
                "regime": cell["regime"],
                "adapter": "-" if head else cell["adapter"],
                "classifier": record["classifier"],
                "budget": record["budget"] or 0,
                "task": len(cell["sizes"]) - 1,
                "classes": sum(cell["sizes"]),
                "bytes": record["bytes"],
                "adapter_parameters": 0 if head else cell.get("adapter_parameters", 0),
            }
            for part in ("validation", "test"):
                row[f"{part}_accuracy"] = _number(record[part]["accuracy"])
                row[f"{part}_tasks"] = [_number(value) for value in record[part]["tasks"]]
            rows.append(row)
    table = pd.DataFrame(rows).drop_duplicates([*KEYS, "task"])
    larger = []
    for _, method in table.groupby(KEYS[:3], sort=False):
        whole = method[method["budget"] == 0]
        for budget, own in method[method["budget"] > 0].groupby("budget", sort=False):
            larger.append(whole[~whole["task"].isin(own["task"])].assign(budget=budget))
    return pd.concat([table, *larger]).reset_index(drop=True)


def _number(value: float | None) -> float:
    """Return an accuracy of JSON as a number: what was measured on no image is null there and NaN here."""
    return math.nan if value is None else value


def results(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each regime, adapter, classifier and budget, with its metrics over all tasks, in percent.

    `gap_closed` compares with adapters "none" and "oracle" of the same regime, classifier and budget.
    """
    rows = []
    for key, group in table.groupby(KEYS, sort=False):
        ordered = group.sort_values("task")
        matrix: Sequence[Sequence[float]] = ordered["test_tasks"].tolist()
        test, validation = ordered["test_accuracy"].tolist(), ordered["validation_accuracy"].tolist()
        # A bound that was measured after the last task alone has no course over the tasks.
        whole = len(matrix) == len(matrix[-1])
        rows.append(
            dict(zip(KEYS, key, strict=True))
            | {
                "average": 100 * metrics.average_incremental(test) if whole else math.nan,
                "last": 100 * test[-1],
                "forgetting": 100 * metrics.forgetting(matrix) if whole else math.nan,
                "backward_transfer": 100 * metrics.backward_transfer(matrix) if whole else math.nan,
                "bytes": int(ordered["bytes"].iloc[-1]),
                "adapter_parameters": int(ordered["adapter_parameters"].iloc[-1]),
                "validation_average": 100 * metrics.average_incremental(validation) if whole else math.nan,
            }
        )
    frame = pd.DataFrame(rows)
    frame.insert(len(KEYS), "method", [method_name(*key) for key in frame[["regime", "adapter", "classifier"]].itertuples(index=False)])
    for metric in ("average", "last"):
        frame[f"gap_closed_{metric}"] = _gaps(frame, metric)
    return frame


def _gaps(frame: pd.DataFrame, metric: str) -> list[float | None]:
    lookup = frame.set_index(KEYS)[metric].to_dict()
    gaps: list[float | None] = []
    for row in frame.to_dict("records"):
        none = lookup.get((row["regime"], "none", row["classifier"], row["budget"]))
        oracle = lookup.get((row["regime"], "oracle", row["classifier"], row["budget"]))
        if none is None or oracle is None or row["adapter"] in ("-", "none", "exemplars", "oracle"):
            gaps.append(None)
        else:
            gaps.append(metrics.gap_closed(row[metric], none, oracle))
    return gaps


def method_name(regime: str, adapter: str, classifier: str) -> str:
    """Return the paper's name of a cell where it has one, else its coordinates."""
    coordinates = " x ".join(part for part in (regime, adapter, classifier) if part != "-")
    name = NAMES.get((regime, adapter, classifier))
    return f"{name} ({coordinates})" if name else coordinates


def shown(frame: pd.DataFrame, primary: str) -> pd.DataFrame:
    """Return the rows of the summary and the table: the whole memory under the classifier that belongs to it, and the heads.

    That is the `primary` one, or the one that belongs to a method, as the nearest mean to iCaRL. Softmax belongs to none in this sense:
    it stands for any trained classifier, so that adapters are compared under the same one.
    """
    present = set(frame[["regime", "adapter", "classifier"]].itertuples(index=False, name=None))
    own = {cell[:2]: cell[2] for cell in NAMES if cell in present and cell[2] != "softmax"}
    rows = [c == own.get((r, a), primary) or a == "-" for r, a, c in frame[["regime", "adapter", "classifier"]].itertuples(index=False)]
    kept: pd.DataFrame = frame[(frame["budget"] == 0) & pd.Series(rows, index=frame.index, dtype=bool)]
    return kept.reset_index(drop=True)


def summary(frame: pd.DataFrame, primary: str) -> dict[str, Any]:
    """Return the shown rows as nested mappings regime -> adapter (or "head") -> metric, for `dvc metrics`."""
    nested: dict[str, Any] = {}
    for row in shown(frame, primary).to_dict("records"):
        cell = {name: round(row[name], 4) for name in ("average", "last", "forgetting", "bytes") if not pd.isna(row[name])}
        if not pd.isna(row["gap_closed_average"]):
            cell["gap_closed"] = round(row["gap_closed_average"], 4)
        nested.setdefault(row["regime"], {})["head" if row["adapter"] == "-" else row["adapter"]] = cell
    return nested


def curves(table: pd.DataFrame, primary: str) -> pd.DataFrame:
    """Return the accuracy after each task of the shown rows, one long table for plots.

    `adapter` is "head" for the network's own head. The joint bound belongs to no regime: it stands in each one's panel.
    """
    rows = shown(table, primary).copy()
    rows["method"] = [method_name(*key) for key in rows[["regime", "adapter", "classifier"]].itertuples(index=False)]
    rows["accuracy"] = (100 * rows["test_accuracy"]).round(4)
    rows["adapter"] = rows["adapter"].replace("-", "head")
    joint = rows[(rows["regime"] == "joint") & (rows["adapter"] == "head")]
    panels = []
    for regime in rows["regime"].unique():
        if regime != "joint":
            panels += [rows[rows["regime"] == regime], joint.assign(regime=regime, adapter="joint")]
    together: pd.DataFrame = pd.concat(panels)[["method", "regime", "adapter", "classifier", "task", "classes", "accuracy"]]
    return together


def matrices(table: pd.DataFrame, primary: str) -> pd.DataFrame:
    """Return R[i, j] of the shown rows in percent, one long table: accuracy after `task` i on the classes of the task `of` j."""
    rows = [
        {"method": method_name(row["regime"], row["adapter"], row["classifier"])}
        | {name: row[name] for name in ("regime", "adapter", "classifier", "task")}
        | {"of": of, "accuracy": round(100 * accuracy, 4)}
        for row in shown(table, primary).to_dict("records")
        for of, accuracy in enumerate(row["test_tasks"])
    ]
    return pd.DataFrame(rows)


def confusions(cells: Sequence[Mapping[str, Any]], primary: str) -> dict[str, Any]:
    """Return which class the test images of each class are taken for after the last task, by every method of the shown rows.

    `classes` are names by label, `sizes` the tasks' numbers of classes, and a method's `taken` has for each class the labels that its
    images were taken for, with their number.
    """
    last = _last(cells)
    records = {
        (cell["regime"], "-" if record["classifier"] == "head" else cell["adapter"], record["classifier"]): record
        for cell in last
        for record in cell["records"]
        if record["budget"] is None
    }
    keys = pd.DataFrame([*records], columns=KEYS[:3]).assign(budget=0)
    methods = [
        {"method": method_name(*key), "taken": records[key]["confusion"]} for key in shown(keys, primary)[KEYS[:3]].itertuples(index=False, name=None)
    ]
    return {"classes": last[0]["classes"], "sizes": last[0]["sizes"], "methods": methods}


def ledger(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return what each method keeps after the last task, a row for each array of its files.

    The parts `memory` and `rehearsal` are the reported memory. Beside it stand, for comparison, the `network` itself, which every method
    needs, and the `adapter`, which is gone when the memory has been carried. The network's own head needs the rehearsal alone.
    """
    rows: list[dict[str, Any]] = []
    for cell in _last(cells):
        if cell["adapter"] == "oracle":
            continue
        network = {"part": "network", "item": "weights", "bytes": cell["network_bytes"]}
        adapter = {"part": "adapter", "item": "weights", "bytes": 4 * cell.get("adapter_parameters", 0)}
        items = [entry | {"shape": " x ".join(map(str, entry["shape"]))} for entry in cell["ledger"]]
        if not any(row["regime"] == cell["regime"] for row in rows):
            head = [item for item in items if item["part"] == "rehearsal"]
            rows += [{"regime": cell["regime"], "adapter": "-"} | item for item in [*head, network]]
        rows += [
            {"regime": cell["regime"], "adapter": cell["adapter"]} | item for item in [*items, network, *([adapter] if adapter["bytes"] else [])]
        ]
    columns = ["regime", "adapter", "part", "item", "type", "shape", "bytes", "images"]
    return pd.DataFrame(rows, columns=columns).fillna({"images": 0}).astype({"images": int, "bytes": int})


def _last(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the cells of the last task that each regime and adapter has."""
    last: dict[tuple[str, str], Mapping[str, Any]] = {}
    for cell in sorted(cells, key=lambda cell: len(cell["sizes"])):
        last[cell["regime"], cell["adapter"]] = cell
    return [last[key] for key in dict.fromkeys((cell["regime"], cell["adapter"]) for cell in cells)]


def markdown(frame: pd.DataFrame, primary: str, seconds: Mapping[tuple[str, str], float]) -> str:
    """Return the table of the shown rows; `seconds` has the adapters' fitting times by (regime, adapter)."""
    lines = [
        "| method | average incremental % | last % | forgetting % | gap closed % | memory bytes | adapter s |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for row in shown(frame, primary).to_dict("records"):
        gap = "" if pd.isna(row["gap_closed_average"]) else f"{100 * row['gap_closed_average']:.0f}"
        time = seconds.get((row["regime"], row["adapter"]))
        numbers = " | ".join("" if pd.isna(row[name]) else f"{row[name]:.1f}" for name in ("average", "last", "forgetting"))
        lines.append(f"| {row['method']} | {numbers} | {gap} | {row['bytes']:,} | {'' if time is None else f'{time:.2f}'} |")
    return "\n".join(lines) + "\n"


def drift(cells: Iterable[Mapping[str, Any]], tasks: Sequence[str]) -> pd.DataFrame:
    """Return predicted against actual drift, a row for each regime, adapter, task and old class, from the scores of `carryover.drift`."""
    columns = ["regime", "adapter", "task", "learned", "age", "class", "images", *MEASURES]
    rows = [
        {"regime": cell["regime"], "adapter": cell["adapter"], "task": cell["task"], "class": row["label"]} | row | {"learned": tasks[row["learned"]]}
        for cell in cells
        for row in cell["classes"]
    ]
    return pd.DataFrame(rows, columns=columns).astype({name: float for name in MEASURES})


def drift_by_age(table: pd.DataFrame) -> pd.DataFrame:
    """Return the means over classes and tasks of `drift`, a row for each regime, adapter and age in tasks; undefined ones are left out."""
    return table.groupby(["regime", "adapter", "age"], sort=False)[MEASURES].mean().reset_index()


def drawn(memory: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], classes: int = 3, rows: int = 60) -> pd.DataFrame:
    """Return where features that a memory stands for lie in the plane, beside test images' features of the first `classes` classes.

    Args:
        memory: features [n, d] and labels [n] that are drawn from it.
        test: features [m, d] and labels [m] of test images, under the network of the same task; the plane is that of theirs.
        classes: how many are shown, the oldest ones.
        rows: how many rows of each.

    Returns:
        Columns `kind` ("test images" or "memory"), `class`, `x`, `y`.
    """
    kinds = {"test images": test, "memory": memory}
    shown = np.unique(test[1])[:classes]
    chosen = {kind: _first_rows(labels, shown, rows) for kind, (_, labels) in kinds.items()}
    space = test[0][np.isin(test[1], shown)]
    _, *planes = project(space, [features[chosen[kind]] for kind, (features, _) in kinds.items()])
    parts = [
        pd.DataFrame({"kind": kind, "class": kinds[kind][1][chosen[kind]], "x": plane[:, 0], "y": plane[:, 1]})
        for kind, plane in zip(kinds, planes, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _first_rows(labels: np.ndarray, classes: Iterable[int], rows: int) -> np.ndarray:
    """Return the numbers of the first `rows` rows of each of the classes."""
    return np.concatenate([np.flatnonzero(labels == label)[:rows] for label in classes])


def projection(features: Mapping[tuple[str, str], Mapping[str, np.ndarray]], old: Sequence[int], classes: int = 3, images: int = 20) -> pd.DataFrame:
    """Return where test images of the first `classes` old classes lie in the plane: as `stored`, `carried`, and `current`.

    Args:
        features: the arrays of the last task's drift artefact, by regime and adapter.
        old: the classes whose features were carried.
        classes: how many of them are shown.
        images: how many images of each.
    """
    columns = ["regime", "adapter", "kind", "class", "image", "x", "y"]
    shown = sorted(int(label) for label in old)[:classes]
    if not shown or not features:
        return pd.DataFrame(columns=columns)
    kinds = ["stored", "carried", "current"]
    parts = []
    for regime in dict.fromkeys(regime for regime, _ in features):
        mine = {adapter: arrays for (of, adapter), arrays in features.items() if of == regime}
        # Images and their current features are the same for every adapter of a regime, and so is the plane.
        any_of_them = next(iter(mine.values()))
        labels = any_of_them["labels"]
        chosen = _first_rows(labels, shown, images)
        sets = [(adapter, kind) for adapter in mine for kind in kinds]
        _, *planes = project(any_of_them["current"], [mine[adapter][kind][chosen] for adapter, kind in sets])
        for (adapter, kind), plane in zip(sets, planes, strict=True):
            cell = {"regime": regime, "adapter": adapter, "kind": kind}
            parts.append(pd.DataFrame(cell | {"class": labels[chosen], "image": chosen, "x": plane[:, 0], "y": plane[:, 1]}))
    return pd.concat(parts)[columns]
