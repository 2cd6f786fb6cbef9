"""Pictures: the curves, drawn with the template that `dvc plots` uses, so that both show the same; accuracy against memory; drift."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from carryover import runs
from carryover.artefacts import replacing

TEMPLATE = Path(".dvc/plots/curves.json")
LINE = {"type": "line", "strokeWidth": 2}
POINT = {"type": "point", "filled": True, "size": 45, "opacity": 1}
ACCURACY = {"field": "accuracy", "type": "quantitative", "title": "average incremental accuracy, %", "scale": {"zero": False}}
BYTES = {"field": "bytes", "type": "quantitative", "title": "bytes kept between tasks", "scale": {"type": "log"}, "axis": {"format": "~s"}}


def draw(curves: Sequence[Mapping[Any, Any]], path: Path, title: str = "Accuracy over all classes seen") -> None:
    """Write the picture of `curves`, the rows of a curves.csv, as a PNG file."""
    text = TEMPLATE.read_text(encoding="utf-8")
    anchors = {
        '"<DVC_METRIC_DATA>"': json.dumps([{**row, "rev": "workspace"} for row in curves]),
        "<DVC_METRIC_TITLE>": title,
        "<DVC_METRIC_X_LABEL>": "classes seen",
        "<DVC_METRIC_Y_LABEL>": "accuracy, %",
        "<DVC_METRIC_X>": "classes",
        "<DVC_METRIC_Y>": "accuracy",
    }
    for anchor, value in anchors.items():
        text = text.replace(anchor, value)
    _write(path, text)


def draw_memory(table: pd.DataFrame, path: Path) -> None:
    """Write accuracy against bytes, a panel a regime, as a PNG file, from the table of `carryover.runs.aggregate`."""
    kept = table[(table["bytes"] > 0) & ~((table["adapter"] == "exemplars") & (table["budget"] != 0))]
    kept = kept[~kept["setting"].str.startswith(runs.STORAGE)]
    kept = kept[kept["classifier"].isin(["softmax", "nme", "head"])]
    rows = [
        {"regime": row["regime"], "method": row["adapter"].replace("-", "head"), "classifier": row["classifier"], "bytes": row["bytes"]}
        | {"accuracy": round(row["average_mean"], 2), "name": row["method"]}
        # Budgets of vectors make a line for each setting; what has no vectors makes one over the settings.
        | {"line": "" if row["adapter"] in ("-", "exemplars") else row["setting"]}
        for row in kept.to_dict("records")
    ]
    layers = [
        {"mark": LINE | {"strokeWidth": 1.5}, "encoding": {"strokeDash": {"field": "classifier", "type": "nominal", "legend": None}}},
        {"mark": POINT, "encoding": {"shape": {"field": "classifier", "type": "nominal"}}},
    ]
    encoding = {"x": BYTES, "y": ACCURACY, "color": _method_colours(rows), "order": {"field": "bytes"}, "detail": {"field": "line"}}
    _draw("Accuracy against memory", rows, ["regime"], 3, {"width": 300, "height": 260, "encoding": encoding, "layer": layers}, path)


def draw_storage(table: pd.DataFrame, path: Path) -> None:
    """Write accuracy against bytes for each storage of vectors, a panel a method, from the table of `carryover.runs.storages`."""
    rows = [
        {"method": row["method"], "storage": row["storage"], "bytes": row["bytes"], "accuracy": round(row["average_mean"], 2)}
        for row in table[table["classifier"] == "softmax"].to_dict("records")
    ]
    storage = {"field": "storage", "type": "nominal", "sort": None}
    layers = [{"mark": LINE | {"strokeWidth": 1.5}}, {"mark": POINT, "encoding": {"shape": storage}}]
    encoding = {"x": BYTES, "y": ACCURACY, "color": storage | {"scale": {"range": _colours()["range"][1:]}}, "order": {"field": "bytes"}}
    unit = {"width": 360, "height": 260, "encoding": encoding, "layer": layers}
    _draw("Accuracy against memory, by what a vector is stored as", rows, ["method"], 2, unit, path)


def draw_drift(by_age: pd.DataFrame, path: Path) -> None:
    """Write how well predicted drift meets actual drift, by age, a row a regime, from the table of `carryover.report.drift_by_age`."""
    measures = {"relative_error": "relative error (0 is perfect)", "cosine": "cosine (1 is perfect)"}
    rows = [
        {"regime": row["regime"], "method": row["adapter"], "age": row["age"], "measure": title, "value": round(row[measure], 4)}
        for measure, title in measures.items()
        for row in by_age.to_dict("records")
        if pd.notna(row[measure])
    ]
    age = {"field": "age", "type": "quantitative", "title": "age, in tasks since the class was learned"}
    encoding = {
        "x": age | {"axis": {"values": sorted({row["age"] for row in rows}), "format": "d"}, "scale": {"zero": False, "nice": False, "padding": 12}},
        "y": {"field": "value", "type": "quantitative", "title": None},
        "color": _method_colours(rows),
    }
    unit = {"width": 320, "height": 220, "encoding": encoding, "layer": [{"mark": LINE}, {"mark": POINT}]}
    _draw("Predicted against actual drift of old classes' test features", rows, ["regime", "measure"], None, unit, path, {"y": "independent"})


def draw_projection(projection: pd.DataFrame, path: Path) -> None:
    """Write where old classes' test features are carried, and where they are, from the table of `carryover.report.projection`."""
    names = {"stored": "as stored", "carried": "carried", "current": "where they are"}
    shown = projection[["regime", "adapter", "kind", "class", "x", "y"]].replace({"kind": names}).round(3)
    place = {"type": "quantitative", "title": None, "axis": {"labels": False, "ticks": False}}
    kind = {"field": "kind", "type": "nominal", "title": "features", "sort": None}
    encoding = {
        "x": {"field": "x"} | place,
        "y": {"field": "y"} | place,
        "color": {"field": "class", "type": "nominal", "scale": {"range": ["#0072B2", "#D55E00", "#009E73"]}},
        "shape": kind | {"scale": {"domain": list(names.values()), "range": ["triangle", "cross", "circle"]}},
        "opacity": kind | {"scale": {"domain": list(names.values()), "range": [0.25, 0.9, 0.9]}},
    }
    unit = {"width": 240, "height": 240, "mark": {"type": "point", "size": 50, "strokeWidth": 1.6}, "encoding": encoding}
    title = "Test features of old classes after the last task, in the plane of their two principal components"
    _draw(title, shown.to_dict("records"), ["regime", "adapter"], None, unit, path)


def _draw(
    title: str,
    rows: Sequence[Mapping[Any, Any]],
    panels: Sequence[str],
    columns: int | None,
    unit: Mapping[str, Any],
    path: Path,
    scales: Mapping[str, str] | None = None,
) -> None:
    """Write `unit`, a chart of Vega-Lite, once for each panel, in the look of the curves.

    `panels` names the field whose values are panels, in so many columns, or the two fields that are rows and columns. Panels
    stand in the order in which their values first appear in `rows`.
    """
    template = _template()
    header = template["facet"]["column"]["header"]
    facets = [
        {"field": field, "type": "nominal", "title": None, "sort": list(dict.fromkeys(row[field] for row in rows)), "header": header}
        for field in panels
    ]
    spec = {key: template[key] for key in ("$schema", "config")} | {
        "title": {"text": title, "anchor": "start"},
        "data": {"values": list(rows)},
        "facet": facets[0] if len(facets) == 1 else dict(zip(("row", "column"), facets, strict=True)),
        "spec": unit,
        "resolve": {"scale": dict(scales or {})},
    }
    _write(path, json.dumps(spec | ({"columns": columns} if columns else {})))


def _template() -> dict[str, Any]:
    template: dict[str, Any] = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    return template


def _colours() -> dict[str, Any]:
    """Return the scale of colours of the curves."""
    scale: dict[str, Any] = _template()["spec"]["encoding"]["color"]["scale"]
    return scale


def _method_colours(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the encoding of methods by the colours of the curves; the head comes first there, so that a method has the same one everywhere."""
    present = list(dict.fromkeys(row["method"] for row in rows))
    scale = _colours() | {"domain": ["head", *(method for method in present if method != "head")]}
    return {"field": "method", "type": "nominal", "sort": None, "scale": scale, "legend": {"values": present}}


def _write(path: Path, spec: str) -> None:
    import vl_convert

    with replacing(path) as temporary:
        temporary.write_bytes(vl_convert.vegalite_to_png(spec, scale=2))
