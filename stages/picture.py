"""The picture of the curves, drawn with the template that `dvc plots` uses, so that both show the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carryover.artefacts import replacing

TEMPLATE = Path(".dvc/plots/curves.json")


def draw(curves: Sequence[Mapping[Any, Any]], path: Path, title: str = "Accuracy over all classes seen") -> None:
    """Write the picture of `curves`, the rows of a curves.csv, as a PNG file."""
    import vl_convert

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
    with replacing(path) as temporary:
        temporary.write_bytes(vl_convert.vegalite_to_png(text, scale=2))
