"""Pictures: the curves, drawn with the template that `dvc plots` uses, so that both show the same, and accuracy against memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from carryover.artefacts import replacing

TEMPLATE = Path(".dvc/plots/curves.json")


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
    kept = kept[kept["classifier"].isin(["softmax", "nme", "head"])]
    rows = [
        {"regime": row["regime"], "method": row["adapter"].replace("-", "head"), "classifier": row["classifier"], "bytes": row["bytes"]}
        | {"accuracy": round(row["average_mean"], 2), "name": row["method"]}
        for row in kept.to_dict("records")
    ]
    template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    present = list(dict.fromkeys(row["method"] for row in rows))
    # The head comes first, as among the curves, so that a method has the same colour in both pictures.
    colours = template["spec"]["encoding"]["color"]["scale"] | {"domain": ["head", *(method for method in present if method != "head")]}
    spec = {key: template[key] for key in ("$schema", "config")} | {
        "title": {"text": "Accuracy against memory", "anchor": "start"},
        "data": {"values": rows},
        "facet": {"field": "regime", "type": "nominal", "title": None, "sort": None, "header": template["facet"]["column"]["header"]},
        "columns": 3,
        "spec": {
            "width": 300,
            "height": 260,
            "encoding": {
                "x": {
                    "field": "bytes",
                    "type": "quantitative",
                    "title": "bytes kept between tasks",
                    "scale": {"type": "log"},
                    "axis": {"format": "~s"},
                },
                "y": {"field": "accuracy", "type": "quantitative", "title": "average incremental accuracy, %", "scale": {"zero": False}},
                "color": {"field": "method", "type": "nominal", "sort": None, "scale": colours, "legend": {"values": present}},
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


def _write(path: Path, spec: str) -> None:
    import vl_convert

    with replacing(path) as temporary:
        temporary.write_bytes(vl_convert.vegalite_to_png(spec, scale=2))
