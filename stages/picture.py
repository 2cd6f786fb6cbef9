"""Pictures: charts of Vega-Lite, each a unit that is drawn once for each panel, in the look of the template that `dvc plots` uses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from carryover import runs
from carryover.artefacts import replacing

TEMPLATE = Path(".dvc/plots/curves.json")
LINE = {"type": "line", "strokeWidth": 2}
POINT = {"type": "point", "filled": True, "size": 45, "opacity": 1}
ACCURACY = {"field": "accuracy", "type": "quantitative", "title": "average incremental accuracy, %", "scale": {"zero": False}}
BYTES = {
    "field": "bytes",
    "type": "quantitative",
    "title": "bytes kept between tasks",
    "scale": {"type": "log", "nice": False},
    "axis": {"format": "~s"},
}
PLACE = {"type": "quantitative", "title": None, "axis": {"labels": False, "ticks": False}}
CLASS = {"field": "class", "type": "nominal", "scale": {"range": ["#0072B2", "#D55E00", "#009E73"]}}


@dataclass(frozen=True)
class Chart:
    """A chart of Vega-Lite.

    Args:
        title: stands above.
        rows: the data.
        panels: the field whose values are panels, or the two fields whose values are rows and columns of them. Panels stand in the
            order in which their values first appear in `rows`.
        unit: what is drawn in each panel.
        scales: which scales are each panel's own, as Vega-Lite's `resolve.scale`.
        columns: panels in a row, where a single field names them.
        subtitle: stands below the title.
    """

    title: str
    rows: Sequence[Mapping[Any, Any]]
    panels: Sequence[str]
    unit: Mapping[str, Any]
    scales: Mapping[str, str] = field(default_factory=dict)
    columns: int = 3
    subtitle: str = ""

    def spec(self) -> dict[str, Any]:
        """Return the specification of Vega-Lite."""
        template = _template()
        facets = [
            {"field": name, "type": "nominal", "title": None, "sort": list(dict.fromkeys(row[name] for row in self.rows))}
            | {"header": template["facet"]["header"]}
            for name in self.panels
        ]
        together = {"facet": facets[0], "columns": self.columns} if len(facets) == 1 else {"facet": dict(zip(("row", "column"), facets, strict=True))}
        return {key: template[key] for key in ("$schema", "config")} | {
            "title": {"text": self.title, "subtitle": self.subtitle, "anchor": "start"},
            "data": {"values": list(self.rows)},
            "spec": self.unit,
            "resolve": {"scale": dict(self.scales)},
            **together,
        }

    def draw(self, path: Path) -> None:
        """Write the chart as a PNG file."""
        import vl_convert

        with replacing(path) as temporary:
            temporary.write_bytes(vl_convert.vegalite_to_png(self.spec(), scale=2))


def curves(rows: Sequence[Mapping[Any, Any]], title: str = "Accuracy over all classes seen") -> Chart:
    """Return the chart of the rows of a curves.csv, as `dvc plots` shows it."""
    text = json.dumps(_template()["spec"])
    anchors = {
        "<DVC_METRIC_X_LABEL>": "classes seen",
        "<DVC_METRIC_Y_LABEL>": "accuracy, %",
        "<DVC_METRIC_X>": "classes",
        "<DVC_METRIC_Y>": "accuracy",
    }
    for anchor, value in anchors.items():
        text = text.replace(anchor, value)
    return Chart(title, [{**row, "rev": "workspace"} for row in rows], ["regime"], json.loads(text))


def memory(table: pd.DataFrame) -> Chart:
    """Return accuracy against bytes, a panel a regime, from the table of `carryover.runs.aggregate`, with the front of all regimes in each."""
    kept = table[~((table["adapter"] == "exemplars") & (table["budget"] != 0)) & ~table["setting"].str.startswith(runs.STORAGE)]
    kept = kept[kept["classifier"].isin(["softmax", "nme", "head"]) & (kept["regime"] != "joint") & (kept["bytes"] > 0)]
    front = runs.front(table)[["bytes", "average_mean"]].to_numpy().tolist()
    of_one_size = set(kept["adapter"]) - set(kept["adapter"][kept["budget"] != 0])
    rows = [
        {"regime": row["regime"], "method": row["adapter"].replace("-", "head"), "classifier": row["classifier"], "bytes": row["bytes"]}
        | {"accuracy": round(row["average_mean"], 2), "name": row["method"]}
        | {"kept": "everything" if row["budget"] == 0 else f"{row['budget']} of a class"}
        # Budgets of vectors make a line for each setting; what has no vectors makes one over the settings.
        | {"line": "" if row["adapter"] in of_one_size else row["setting"]}
        for row in kept.to_dict("records")
    ]
    # The front begins and ends with the axis, which has no place for 0 bytes.
    least, most = kept["bytes"].min(), kept["bytes"].max()
    steps = dict((max(size, least), accuracy) for size, accuracy in front) | dict((most, accuracy) for _, accuracy in front[-1:])
    front_rows = [
        {"regime": regime, "bytes": size, "accuracy": round(accuracy, 2), "front": True}
        for regime in dict.fromkeys(row["regime"] for row in rows)
        for size, accuracy in steps.items()
    ]
    own: dict[str, Any] = {"color": _method_colours(rows), "order": {"field": "bytes"}, "detail": {"field": "line"}}
    tooltip = [{"field": "name", "title": "method"}, {"field": "kept"}, {"field": "bytes", "format": ","}, {"field": "accuracy", "format": ".1f"}]
    methods = {"transform": [{"filter": "!datum.front"}]}
    layers = [
        {"transform": [{"filter": "datum.front"}], "mark": {"type": "line", "interpolate": "step-after", "color": "#b0b0b0", "strokeWidth": 5}},
        methods | {"mark": LINE | {"strokeWidth": 1.5}, "encoding": own | {"strokeDash": {"field": "classifier", "type": "nominal", "legend": None}}},
        methods | {"mark": POINT, "encoding": own | {"shape": {"field": "classifier", "type": "nominal"}, "tooltip": tooltip}},
    ]
    unit = {"width": 300, "height": 260, "encoding": {"x": BYTES, "y": ACCURACY}, "layer": layers}
    return Chart(
        "Accuracy against memory",
        rows + front_rows,
        ["regime"],
        unit,
        subtitle="grey: the best of all methods within so many bytes, under any classifier and storage",
    )


def storage(table: pd.DataFrame) -> Chart:
    """Return accuracy against bytes for each storage of vectors, a panel a method, from the table of `carryover.runs.storages`."""
    rows = [
        {"method": row["method"], "storage": row["storage"], "bytes": row["bytes"], "accuracy": round(row["average_mean"], 2)}
        for row in table[table["classifier"] == "softmax"].to_dict("records")
    ]
    # The domain is said, so that colours and shapes have one legend.
    domain = {"domain": list(dict.fromkeys(row["storage"] for row in rows))}
    stored_as = {"field": "storage", "type": "nominal", "sort": None, "scale": domain}
    layers = [{"mark": LINE | {"strokeWidth": 1.5}}, {"mark": POINT, "encoding": {"shape": stored_as}}]
    colour = stored_as | {"scale": domain | {"range": _colours()["range"][1:]}}
    encoding = {"x": BYTES, "y": ACCURACY, "color": colour, "order": {"field": "bytes"}}
    unit = {"width": 360, "height": 260, "encoding": encoding, "layer": layers}
    return Chart("Accuracy against memory, by what a vector is stored as", rows, ["method"], unit, columns=2)


def drift(by_age: pd.DataFrame) -> Chart:
    """Return how well predicted drift meets actual drift, by age, a row a regime, from the table of `carryover.report.drift_by_age`."""
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
    tooltip = [{"field": "method"}, {"field": "age"}, {"field": "value", "title": "mean", "format": ".3f"}]
    points = {"mark": POINT, "encoding": {"shape": _method_shapes(rows), "tooltip": tooltip}}
    unit = {"width": 320, "height": 220, "encoding": encoding, "layer": [{"mark": LINE}, points]}
    return Chart("Predicted against actual drift of old classes' test features", rows, ["regime", "measure"], unit, {"y": "independent"})


def matrix(table: pd.DataFrame) -> Chart:
    """Return the accuracy on each task's classes after each task, a panel a method, from the table of `carryover.report.matrices`."""
    rows = [
        {"panel": f"{row['regime']} x {row['adapter']}".replace(" x -", ""), "method": row["method"]}
        | {"after": row["task"] + 1, "of": row["of"] + 1, "accuracy": row["accuracy"]}
        for row in table.to_dict("records")
    ]
    axis = {"labelAngle": 0, "grid": False, "domain": False, "ticks": False}
    colour = {"field": "accuracy", "type": "quantitative", "title": "accuracy, %", "scale": {"scheme": "viridis", "domain": [0, 100]}}
    tooltip = [{"field": "method"}, {"field": "after", "title": "after task"}, {"field": "of", "title": "on the classes of task"}]
    encoding = {
        "x": {"field": "of", "type": "ordinal", "title": "on the classes of task", "axis": axis},
        "y": {"field": "after", "type": "ordinal", "title": "after task", "axis": axis},
        "tooltip": [*tooltip, {"field": "accuracy", "title": "accuracy, %", "format": ".1f"}],
    }
    number = {
        "text": {"field": "accuracy", "format": ".0f"},
        "color": {"condition": {"test": "datum.accuracy > 55", "value": "black"}, "value": "white"},
    }
    layers: list[dict[str, Any]] = [{"mark": "rect", "encoding": {"color": colour}}]
    # More numbers than these are too small to read, and say themselves on hover.
    if table["task"].max() < 8:
        layers.append({"mark": {"type": "text", "fontSize": 10}, "encoding": number})
    unit = {"width": 115, "height": 130, "encoding": encoding, "layer": layers}
    return Chart("Accuracy on each task's classes after each task", rows, ["panel"], unit, columns=6)


def drawn(table: pd.DataFrame, name: str) -> Chart:
    """Return what is drawn from the memory of the method called `name` beside test images' features, from the table of `carryover.report.drawn`."""
    shown = table.replace({"kind": {"memory": f"drawn from the memory of {name}"}}).round(3)
    encoding = {"x": {"field": "x"} | PLACE, "y": {"field": "y"} | PLACE, "color": CLASS}
    unit = {"width": 300, "height": 300, "mark": POINT | {"opacity": 0.7}, "encoding": encoding}
    title = "Features of the first classes after the last task, in the plane of the two principal components of the test images'"
    return Chart(title, shown.to_dict("records"), ["kind"], unit)


def projection(table: pd.DataFrame) -> Chart:
    """Return where old classes' test features are carried, and where they are, from the table of `carryover.report.projection`."""
    names = {"stored": "as stored", "carried": "carried", "current": "where they are"}
    shown = table[["regime", "adapter", "kind", "class", "image", "x", "y"]].replace({"kind": names}).round(3)
    kind = {"field": "kind", "type": "nominal", "title": "features", "sort": None}
    encoding = {
        "x": {"field": "x"} | PLACE,
        "y": {"field": "y"} | PLACE,
        "color": CLASS,
        "shape": kind | {"scale": {"domain": list(names.values()), "range": ["triangle", "cross", "circle"]}},
        "opacity": kind | {"scale": {"domain": list(names.values()), "range": [0.25, 0.9, 0.9]}},
        "tooltip": [{"field": "class"}, {"field": "image"}, {"field": "kind", "title": "features"}],
    }
    unit = {"width": 240, "height": 240, "mark": {"type": "point", "size": 50, "strokeWidth": 1.6}, "encoding": encoding}
    title = "Test features of old classes after the last task, in the plane of their two principal components"
    return Chart(title, shown.to_dict("records"), ["regime", "adapter"], unit)


def recall(table: pd.DataFrame) -> Chart:
    """Return recall of nearest neighbours against the number of pairs, a row a new model, from the table of `examples.reembed`."""
    measures = {"recall@1": "recall@1, %", "recall@10": "recall@10, %", "same_class": "nearest of the query's class, %"}
    bounds = table[table["pairs"] == 0]
    fitted = table[table["pairs"] > 0]
    ends = (fitted["pairs"].min(), fitted["pairs"].max())
    # What needs no pairs is a level line.
    level = pd.concat([bounds.assign(pairs=end) for end in ends])
    rows = [
        {"model": row["model"], "measure": title, "method": row["adapter"], "pairs": row["pairs"], "value": round(100 * row[measure], 2)}
        for measure, title in measures.items()
        for row in pd.concat([level, fitted]).to_dict("records")
    ]
    encoding = {
        "x": {"field": "pairs", "type": "quantitative", "title": "pairs", "scale": {"type": "log", "nice": False}, "axis": {"format": "~s"}},
        "y": {"field": "value", "type": "quantitative", "title": None},
        "color": _method_colours(rows),
    }
    points = {"mark": POINT, "encoding": {"shape": _method_shapes(rows)}}
    unit = {"width": 260, "height": 220, "encoding": encoding, "layer": [{"mark": LINE}, points]}
    return Chart("Search in a carried index, by the number of pairs", rows, ["model", "measure"], unit, {"y": "independent"})


def _template() -> dict[str, Any]:
    template: dict[str, Any] = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    return template


def _colours() -> dict[str, Any]:
    """Return the scale of colours of the curves."""
    scale: dict[str, Any] = _template()["spec"]["layer"][1]["encoding"]["color"]["scale"]
    return scale


def _method_colours(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the encoding of methods by the colours of the curves; the head comes first there, so that a method has the same one everywhere."""
    present = list(dict.fromkeys(row["method"] for row in rows))
    scale = _colours() | {"domain": ["head", *(method for method in present if method != "head")]}
    return {"field": "method", "type": "nominal", "sort": None, "scale": scale, "legend": {"values": present}}


def _method_shapes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the encoding of methods by shapes, in the order of their colours, so that both have one legend."""
    colours = _method_colours(rows)
    return colours | {"scale": {"domain": colours["scale"]["domain"]}}
