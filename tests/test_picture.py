"""The charts: where their panels stand, and the front of accuracy against bytes."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from carryover import runs
from stages import picture

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def table(rows: list[tuple[str, str, int, float]]) -> pd.DataFrame:
    columns = ["regime", "adapter", "bytes", "average_mean"]
    frame = pd.DataFrame(rows, columns=columns).assign(setting="", classifier="softmax", budget=0)
    return frame.assign(method=frame["regime"] + " x " + frame["adapter"])


def test_panels_of_many_regimes_stand_three_in_a_row(tmp_path: Path) -> None:
    rows = [{"regime": f"regime{i}", "adapter": "none", "method": "m", "classes": c, "accuracy": 50.0} for i in range(7) for c in (2, 3)]
    sizes = []
    for some in (rows[:6], rows):
        picture.curves(some).draw(tmp_path / "curves.png")
        sizes.append(Image.open(io.BytesIO((tmp_path / "curves.png").read_bytes())).size)
    (three_wide, three_high), (seven_wide, seven_high) = sizes
    assert seven_wide == pytest.approx(three_wide, rel=0.1) and seven_wide < 2600
    assert seven_high > 2.5 * three_high


def test_the_front_is_what_no_method_beats_with_as_few_bytes() -> None:
    rows = [("a", "mlp", 0, 30.0), ("a", "none", 10, 50.0), ("a", "sdc", 10, 40.0), ("b", "mlp", 20, 45.0), ("b", "none", 30, 60.0)]
    bounds = [("a", "oracle", 5, 99.0), ("joint", "oracle", 5, 99.0)]
    assert runs.front(table(rows + bounds))[["bytes", "average_mean"]].to_numpy().tolist() == [[0, 30], [10, 50], [30, 60]]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=20))
def test_a_row_is_on_the_front_if_and_only_if_nothing_dominates_it(points: list[tuple[int, int]]) -> None:
    front = set(runs.front(table([("a", "none", x, float(y)) for x, y in points]))[["bytes", "average_mean"]].itertuples(index=False, name=None))
    dominated = {(x, y) for x, y in points if any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)}
    assert front == set(points) - dominated


def drawn(chart: picture.Chart, front: bool) -> list[dict[Any, Any]]:
    return [dict(row) for row in chart.rows if row.get("front", False) == front]


def test_the_memory_chart_draws_the_front_of_all_regimes_in_each_panel_across_the_axis() -> None:
    chart = picture.memory(
        table([("a", "-", 0, 30.0), ("a", "mlp", 10, 50.0), ("b", "mlp", 20, 45.0), ("b", "none", 30, 60.0), ("b", "sdc", 40, 20.0)])
    )
    for regime in "ab":
        assert [(r["bytes"], r["accuracy"]) for r in drawn(chart, True) if r["regime"] == regime] == [(10, 50), (30, 60), (40, 60)]
    assert {row["bytes"] for row in drawn(chart, False)} == {10, 20, 30, 40}


def test_the_front_counts_classifiers_and_storages_that_the_chart_does_not_draw() -> None:
    rows = [table([("a", "mlp", 10, 50.0)]), table([("a", "mlp", 12, 60.0)]).assign(classifier="cosine")]
    rows += [table([("a", "mlp", 15, 70.0)]).assign(setting="storage=int8"), table([("a", "mlp", 20, 65.0)]).assign(budget=5)]
    chart = picture.memory(pd.concat(rows))
    assert [row["bytes"] for row in drawn(chart, False)] == [10, 20]
    assert [(row["bytes"], row["accuracy"]) for row in drawn(chart, True)] == [(10, 50), (12, 60), (15, 70), (20, 70)]


def test_budgets_make_a_line_a_setting_and_memories_of_one_size_make_one_over_the_settings() -> None:
    budgets = [table([("a", adapter, size, 40.0)]) for adapter, size in (("mlp", 10), ("gaussian", 20))]
    budgets += [table([("a", "mlp", 5, 30.0)]).assign(budget=1)]
    rows = pd.concat([frame.assign(setting=setting, bytes=frame["bytes"] + i) for frame in budgets for i, setting in enumerate(("", "x=1"))])
    lines = {(row["method"], row["line"]) for row in drawn(picture.memory(rows), False)}
    assert lines == {("mlp", ""), ("mlp", "x=1"), ("gaussian", "")}


def test_a_memory_chart_without_a_memory_is_drawn(tmp_path: Path) -> None:
    picture.memory(table([("a", "-", 0, 30.0)])).draw(tmp_path / "memory.png")
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


def legends(chart: picture.Chart) -> list[int]:
    """Return the number of marks in each legend of the drawn chart."""
    _, *drawn_legends = vl_convert.vegalite_to_svg(chart.spec()).split('aria-roledescription="legend"')
    return [len(re.findall(r'role-legend-symbol" pointer-events="none"><path transform="[^"]*" d="M', legend)) for legend in drawn_legends]


def test_the_legend_of_recall_has_a_mark_for_each_method() -> None:
    methods = ["embedded again", "none", "sdc", "mlp"]
    rows = [("m", method, pairs, 0.5, 0.6, 0.7) for method in methods for pairs in ([0] if method in methods[:2] else [10, 20])]
    chart = picture.recall(pd.DataFrame(rows, columns=["model", "adapter", "pairs", "recall@1", "recall@10", "same_class"]))
    assert legends(chart) == [len(methods)]


def test_colours_and_shapes_of_storages_have_one_legend() -> None:
    rows = table([("a", adapter, size, 50.0) for adapter in ("none", "mlp") for size in (10, 20, 40)])
    assert legends(picture.storage(rows.assign(storage=["as is", "float16", "int8"] * 2))) == [3]
