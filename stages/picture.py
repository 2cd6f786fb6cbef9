"""Pictures: the curves, drawn with the template that `dvc plots` uses, so that both show the same; accuracy against memory; drift."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from carryover.artefacts import replacing

TEMPLATE = Path(".dvc/plots/curves.json")
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
    kept = kept[~kept["setting"].str.startswith("storage=")]
    kept = kept[kept["classifier"].isin(["softmax", "nme", "head"])]
    rows = [
        {"regime": row["regime"], "method": row["adapter"].replace("-", "head"), "classifier": row["classifier"], "bytes": row["bytes"]}
        | {"accuracy": round(row["average_mean"], 2), "name": row["method"]}
        for row in kept.to_dict("records")
    ]
    template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    spec = {key: template[key] for key in ("$schema", "config")} | {
        "title": {"text": "Accuracy against memory", "anchor": "start"},
        "data": {"values": rows},
        "facet": {"field": "regime", "type": "nominal", "title": None, "sort": None, "header": template["facet"]["column"]["header"]},
        "columns": 3,
        "spec": {
            "width": 300,
            "height": 260,
            "encoding": {
                "x": BYTES,
                "y": {"field": "accuracy", "type": "quantitative", "title": "average incremental accuracy, %", "scale": {"zero": False}},
                "color": _method_colours(template, [row["method"] for row in rows]),
                "order": {"field": "bytes"},
            },
            "layer": [
                {
                    "mark": {"type": "line", "strokeWidth": 1.5},
                    "encoding": {"strokeDash": {"field": "classifier", "type": "nominal", "legend": None}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
                    "encoding": {"shape": {"field": "classifier", "type": "nominal"}},
                },
            ],
        },
    }
    _write(path, json.dumps(spec))


def draw_storage(table: pd.DataFrame, path: Path) -> None:
    """Write accuracy against bytes for each storage of vectors, a panel a method, from the table of `carryover.runs.storages`."""
    rows = [
        {"method": row["method"], "storage": row["storage"], "bytes": row["bytes"], "accuracy": round(row["average_mean"], 2)}
        for row in table[table["classifier"] == "softmax"].to_dict("records")
    ]
    template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    header = template["facet"]["column"]["header"]
    scale = {"range": template["spec"]["encoding"]["color"]["scale"]["range"][1:]}
    spec = {key: template[key] for key in ("$schema", "config")} | {
        "title": {"text": "Accuracy against memory, by what a vector is stored as", "anchor": "start"},
        "data": {"values": rows},
        "facet": {"field": "method", "type": "nominal", "title": None, "sort": None, "header": header},
        "columns": 2,
        "spec": {
            "width": 360,
            "height": 260,
            "encoding": {
                "x": BYTES,
                "y": {"field": "accuracy", "type": "quantitative", "title": "average incremental accuracy, %", "scale": {"zero": False}},
                "color": {"field": "storage", "type": "nominal", "sort": None, "scale": scale},
                "order": {"field": "bytes"},
            },
            "layer": [
                {"mark": {"type": "line", "strokeWidth": 1.5}},
                {
                    "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
                    "encoding": {"shape": {"field": "storage", "type": "nominal", "sort": None}},
                },
            ],
        },
    }
    _write(path, json.dumps(spec))


def draw_drift(by_age: pd.DataFrame, path: Path) -> None:
    """Write how well predicted drift meets actual drift, by age, a row a regime, from the table of `carryover.report.drift_by_age`."""
    measures = {"relative_error": "relative error (0 is perfect)", "cosine": "cosine (1 is perfect)"}
    rows = [
        {"regime": row["regime"], "method": row["adapter"], "age": row["age"], "measure": title, "value": round(row[measure], 4)}
        for measure, title in measures.items()
        for row in by_age.to_dict("records")
        if pd.notna(row[measure])
    ]
    template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    header = template["facet"]["column"]["header"]
    x = {"field": "age", "type": "quantitative", "title": "age, in tasks since the class was learned", "axis": {"tickMinStep": 1}}
    spec = {key: template[key] for key in ("$schema", "config")} | {
        "title": {"text": "Predicted against actual drift of old classes' test features", "anchor": "start"},
        "data": {"values": rows},
        "facet": {
            "row": {"field": "regime", "type": "nominal", "title": None, "sort": None, "header": header},
            "column": {"field": "measure", "type": "nominal", "title": None, "sort": None, "header": header},
        },
        "resolve": {"scale": {"y": "independent"}},
        "spec": {
            "width": 320,
            "height": 220,
            "encoding": {
                "x": x | {"scale": {"zero": False, "nice": False, "padding": 12}},
                "y": {"field": "value", "type": "quantitative", "title": None},
                "color": _method_colours(template, [row["method"] for row in rows]),
            },
            "layer": [{"mark": {"type": "line", "strokeWidth": 2}}, {"mark": {"type": "point", "filled": True, "size": 45, "opacity": 1}}],
        },
    }
    _write(path, json.dumps(spec))


def draw_projection(projection: pd.DataFrame, path: Path) -> None:
    """Write where old classes' test features are carried, and where they are, from the table of `carryover.report.projection`."""
    template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    header = template["facet"]["column"]["header"]
    names = {"stored": "as stored", "carried": "carried", "current": "where they are"}
    shown = projection[["regime", "adapter", "kind", "class", "x", "y"]].replace({"kind": names}).round(3)
    spec = {key: template[key] for key in ("$schema", "config")} | {
        "title": {"text": "Test features of old classes after the last task, in the plane of their two principal components", "anchor": "start"},
        "data": {"values": shown.to_dict("records")},
        "facet": {
            "row": {"field": "regime", "type": "nominal", "title": None, "sort": None, "header": header},
            "column": {"field": "adapter", "type": "nominal", "title": None, "sort": None, "header": header},
        },
        "spec": {
            "width": 240,
            "height": 240,
            "mark": {"type": "point", "size": 50, "strokeWidth": 1.6},
            "encoding": {
                "x": {"field": "x", "type": "quantitative", "title": None, "axis": {"labels": False, "ticks": False}},
                "y": {"field": "y", "type": "quantitative", "title": None, "axis": {"labels": False, "ticks": False}},
                "color": {"field": "class", "type": "nominal", "scale": {"range": ["#0072B2", "#D55E00", "#009E73"]}},
                "shape": {
                    "field": "kind",
                    "type": "nominal",
                    "title": "features",
                    "sort": None,
                    "scale": {"domain": list(names.values()), "range": ["triangle", "cross", "circle"]},
                },
                "opacity": {
                    "field": "kind",
                    "type": "nominal",
                    "sort": None,
                    "scale": {"domain": list(names.values()), "range": [0.25, 0.9, 0.9]},
                    "legend": None,
                },
            },
        },
        "resolve": {"scale": {"x": "shared", "y": "shared"}},
    }
    _write(path, json.dumps(spec))


def _method_colours(template: dict[str, Any], methods: Sequence[str]) -> dict[str, Any]:
    """Return the encoding of methods by the colours of the curves; the head comes first there, so that a method has the same one everywhere."""
    present = list(dict.fromkeys(methods))
    scale = template["spec"]["encoding"]["color"]["scale"] | {"domain": ["head", *(method for method in present if method != "head")]}
    return {"field": "method", "type": "nominal", "sort": None, "scale": scale, "legend": {"values": present}}


def _write(path: Path, spec: str) -> None:
    import vl_convert

    with replacing(path) as temporary:
        temporary.write_bytes(vl_convert.vegalite_to_png(spec, scale=2))
