"""The report, on cells made by hand: every number of its tables is worked out here again."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from carryover import drift, report, runs
from stages import compare, redraw

SIZES = [2, 1, 1]
# Accuracies by adapter, after each of three tasks.
SCORES = {
    "none": [[0.9], [0.5, 0.8], [0.3, 0.4, 0.7]],
    "mlp": [[0.9], [0.7, 0.8], [0.5, 0.6, 0.7]],
    "oracle": [[0.9], [0.8, 0.8], [0.7, 0.8, 0.7]],
}
HEAD = [[0.9], [0.4, 0.9], [0.2, 0.3, 0.9]]


def overall(tasks: list[float]) -> float:
    sizes = SIZES[: len(tasks)]
    return sum(a * s for a, s in zip(tasks, sizes, strict=True)) / sum(sizes)


def record(classifier: str, tasks: list[float], size: int, budget: int | None = None) -> dict[str, Any]:
    scores = {"tasks": tasks, "accuracy": overall(tasks)}
    validation = {"tasks": tasks, "accuracy": overall(tasks) / 2}
    return {"classifier": classifier, "budget": budget, "bytes": size, "test": scores, "validation": validation}


def cell(regime: str, adapter: str, task: int, tasks: list[float], head: list[float]) -> dict[str, Any]:
    found = [record("head", head, 0)]
    for budget, share in ((1, 0.5), (None, 1.0)):
        found += [record(name, [a * share for a in tasks], 1000 * (task + 1), budget) for name in ("softmax", "nme")]
    return {"regime": regime, "adapter": adapter, "task": f"task{task}", "sizes": SIZES[: task + 1], "records": found}


def cells(adapters: tuple[str, ...] = ("none", "mlp", "oracle"), tasks: int = 3, regime: str = "distill") -> list[dict[str, Any]]:
    return [cell(regime, adapter, task, SCORES[adapter][task], HEAD[task]) for adapter in adapters for task in range(tasks)]


def joint() -> dict[str, Any]:
    return cell("joint", "oracle", 2, [0.9, 0.9, 0.9], [0.95, 0.85, 0.9])


def test_a_bound_that_was_measured_after_the_last_task_alone_has_its_accuracy_and_no_course() -> None:
    frame = report.results(report.records([*cells(), joint()]))
    row = row_of(frame, "oracle", regime="joint")
    assert row["last"] == pytest.approx(90)
    assert all(math.isnan(row[name]) for name in ("average", "forgetting", "backward_transfer", "validation_average"))
    assert report.summary(frame, "softmax")["joint"]["oracle"] == {"last": pytest.approx(90), "bytes": 3000}
    assert "| joint x oracle x softmax |  | 90.0 |  |" in report.markdown(frame, "softmax", {})
    table = runs.aggregate(frame.assign(order=0, seed=0, setting="", seconds=math.nan))
    assert "| joint x oracle x softmax |  | 90.0 |  |" in runs.markdown(table, ["softmax"])


def row_of(frame: pd.DataFrame, adapter: str, classifier: str = "softmax", budget: int = 0, regime: str = "distill") -> dict[str, Any]:
    keys = (frame["regime"] == regime) & (frame["adapter"] == adapter) & (frame["classifier"] == classifier) & (frame["budget"] == budget)
    (row,) = frame[keys].to_dict("records")
    return {str(name): value for name, value in row.items()}


def test_the_head_is_recorded_once_whatever_the_adapters() -> None:
    table = report.records(cells())
    heads = table[table["classifier"] == "head"]
    assert heads["adapter"].tolist() == ["-"] * 3 and heads["task"].tolist() == [0, 1, 2] and heads["classes"].tolist() == [2, 3, 4]
    assert len(table) == 3 + 3 * 3 * 4 and set(table["budget"]) == {0, 1}


def test_results_are_the_metrics_of_the_scores_in_percent() -> None:
    frame = report.results(report.records(cells()))
    for adapter, scores in SCORES.items():
        row = row_of(frame, adapter)
        assert row["average"] == pytest.approx(100 * sum(overall(tasks) for tasks in scores) / 3)
        assert row["last"] == pytest.approx(100 * overall(scores[2]))
        peaks = max(scores[0][0], scores[1][0]) - scores[2][0], scores[1][1] - scores[2][1]
        assert row["forgetting"] == pytest.approx(100 * sum(peaks) / 2)
        assert row["backward_transfer"] == pytest.approx(100 * (scores[2][0] - scores[0][0] + scores[2][1] - scores[1][1]) / 2)
        assert row["bytes"] == 3000
        assert row["validation_average"] == pytest.approx(row["average"] / 2)
        assert row_of(frame, adapter, budget=1)["average"] == pytest.approx(row["average"] / 2)
    assert row_of(frame, "-", "head")["last"] == pytest.approx(100 * overall(HEAD[2]))


def test_tasks_may_come_in_any_order() -> None:
    expected, found = (report.results(report.records(some)) for some in (cells(), cells()[::-1]))
    for adapter in SCORES:
        assert row_of(found, adapter)["last"] == row_of(expected, adapter)["last"]
        assert row_of(found, adapter)["forgetting"] == row_of(expected, adapter)["forgetting"]


def test_the_gap_closed_is_the_share_of_the_loss_to_drift() -> None:
    row = row_of(report.results(report.records(cells())), "mlp")
    last = {adapter: overall(scores[2]) for adapter, scores in SCORES.items()}
    average = {adapter: sum(overall(tasks) for tasks in scores) / 3 for adapter, scores in SCORES.items()}
    for metric, values in {"last": last, "average": average}.items():
        assert row[f"gap_closed_{metric}"] == pytest.approx((values["mlp"] - values["none"]) / (values["oracle"] - values["none"]))


@pytest.mark.parametrize("missing", [[2], [0], [0, 1]])
def test_a_budget_larger_than_what_is_kept_after_a_task_is_the_whole_memory(missing: list[int]) -> None:
    some = cells(("mlp",))
    for task in missing:
        some[task]["records"] = [record for record in some[task]["records"] if record["budget"] is None]
    row = row_of(report.results(report.records(some)), "mlp", budget=1)
    accuracies = [overall(tasks) * (1.0 if task in missing else 0.5) for task, tasks in enumerate(SCORES["mlp"])]
    assert row["last"] == pytest.approx(100 * accuracies[-1])
    assert row["average"] == pytest.approx(100 * sum(accuracies) / 3)
    assert row["validation_average"] == pytest.approx(row["average"] / 2)
    assert row["bytes"] == 3000


def test_bounds_and_heads_have_no_gap() -> None:
    frame = report.results(report.records(cells()))
    for adapter, classifier in (("none", "softmax"), ("oracle", "nme"), ("-", "head")):
        assert pd.isna(row_of(frame, adapter, classifier)["gap_closed_average"])


@pytest.mark.parametrize("adapters", [("mlp", "oracle"), ("none", "mlp"), ("mlp",)])
def test_without_none_or_oracle_there_is_no_gap(adapters: tuple[str, ...]) -> None:
    frame = report.results(report.records(cells(adapters)))
    assert pd.isna(row_of(frame, "mlp")["gap_closed_average"]) and pd.isna(row_of(frame, "mlp")["gap_closed_last"])
    assert "gap_closed" not in report.summary(frame, "softmax")["distill"]["mlp"]
    assert "nan" not in report.markdown(frame, "softmax", {}).lower() and "None" not in report.markdown(frame, "softmax", {})


def test_where_nothing_drifted_there_is_no_gap_to_close() -> None:
    frame = report.results(report.records(cells(tasks=1)))
    assert pd.isna(row_of(frame, "mlp")["gap_closed_average"])


def test_a_single_task_neither_forgets_nor_transfers() -> None:
    row = row_of(report.results(report.records(cells(tasks=1))), "mlp")
    assert row["average"] == row["last"] == pytest.approx(90) and row["forgetting"] == row["backward_transfer"] == 0


def test_one_class_with_one_record() -> None:
    tiny = {"regime": "finetune", "adapter": "none", "sizes": [1], "records": [record("head", [1.0], 0), record("softmax", [1.0], 10)]}
    frame = report.results(report.records([tiny]))
    assert row_of(frame, "none", regime="finetune")["last"] == 100
    assert report.summary(frame, "softmax")["finetune"]["none"] == {"average": 100.0, "last": 100.0, "forgetting": 0.0, "bytes": 10}


def test_what_was_measured_on_no_image_is_left_out_of_the_means() -> None:
    blank = cells(("none",))
    for one in blank:
        for found in one["records"]:
            found["validation"] = {"tasks": [None] * len(one["sizes"]), "accuracy": None}
            found["test"] = {"tasks": [None, *found["test"]["tasks"][1:]], "accuracy": None if len(one["sizes"]) == 1 else found["test"]["accuracy"]}
    row = row_of(report.results(report.records(blank)), "none")
    assert math.isnan(row["validation_average"])
    assert row["average"] == pytest.approx(100 * sum(overall(tasks) for tasks in SCORES["none"][1:]) / 2)
    assert row["forgetting"] == pytest.approx(100 * (0.8 - 0.4))


def test_the_summary_shows_the_whole_memory_under_the_primary_classifier_and_the_heads() -> None:
    frame = report.results(report.records([*cells(), joint()]))
    found = report.summary(frame, "softmax")
    assert set(found) == {"distill", "joint"} and set(found["distill"]) == {"head", "none", "mlp", "oracle"}
    row = row_of(frame, "mlp")
    assert found["distill"]["mlp"] == {
        "average": round(row["average"], 4),
        "last": round(row["last"], 4),
        "forgetting": round(row["forgetting"], 4),
        "bytes": 3000,
        "gap_closed": round(row["gap_closed_average"], 4),
    }
    assert "gap_closed" not in found["distill"]["none"]
    assert found["joint"]["head"]["last"] == pytest.approx(100 * overall([0.95, 0.85, 0.9]), abs=1e-4)


def test_curves_are_long_and_the_joint_bound_stands_in_each_regime_s_panel() -> None:
    table = report.records([*cells(), *cells(regime="finetune"), joint()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report.curves(table, "softmax")
    assert set(found["regime"]) == {"distill", "finetune"} and set(found["adapter"]) == {"head", "none", "mlp", "oracle", "joint"}
    bound = found[found["adapter"] == "joint"]
    assert bound["regime"].tolist() == ["distill", "finetune"] and bound["accuracy"].tolist() == pytest.approx([91.25, 91.25])
    mlp = found[(found["regime"] == "distill") & (found["adapter"] == "mlp")]
    assert mlp["classes"].tolist() == [2, 3, 4]
    assert mlp["accuracy"].tolist() == pytest.approx([100 * overall(tasks) for tasks in SCORES["mlp"]], abs=1e-4)


def test_curves_without_a_joint_bound() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report.curves(report.records(cells()), "softmax")
    assert len(found) == 4 * 3 and "joint" not in set(found["adapter"])


def test_the_table_has_a_line_for_each_shown_row() -> None:
    frame = report.results(report.records(cells()))
    lines = report.markdown(frame, "softmax", {("distill", "mlp"): 1.234}).splitlines()
    assert len(lines) == 2 + 4 and len({line.count("|") for line in lines}) == 1
    (line,) = (line for line in lines if "Feature adaptation" in line)
    row = row_of(frame, "mlp")
    gap = f"{100 * row['gap_closed_average']:.0f}"
    expected = ["Feature adaptation (distill x mlp x softmax)", *(f"{row[m]:.1f}" for m in ("average", "last", "forgetting")), gap, "3,000", "1.23"]
    assert [part.strip() for part in line.strip("|").split("|")] == expected


@pytest.mark.parametrize(
    ("coordinates", "name"),
    [
        (("distill", "sdc_means", "nme"), "SDC (distill x sdc_means x nme)"),
        (("lwf", "-", "head"), "LwF (lwf x head)"),
        (("rehearsal", "mlp", "cosine"), "rehearsal x mlp x cosine"),
    ],
)
def test_method_names(coordinates: tuple[str, str, str], name: str) -> None:
    assert report.method_name(*coordinates) == name


def several_runs() -> pd.DataFrame:
    values = {(0, 0): (50.0, 60.0), (0, 1): (40.0, 56.0), (1, 0): (45.0, 49.0)}
    rows = []
    for (order, seed), pair in values.items():
        for adapter, average in zip(("none", "mlp"), pair, strict=True):
            keys = {"order": order, "seed": seed, "regime": "distill", "adapter": adapter, "classifier": "softmax", "budget": 0}
            gap = None if adapter == "none" else 0.5
            measured = {"average": average, "last": 1.0, "forgetting": 2.0, "gap_closed_average": gap, "validation_average": average - 1}
            rows.append(keys | measured | {"method": adapter, "bytes": 100})
    return pd.DataFrame(rows)


def test_runs_are_averaged_and_compared_in_pairs() -> None:
    table = runs.aggregate(several_runs()).set_index("adapter")
    assert table.loc["mlp", "runs"] == 3
    assert table.loc["mlp", "average_mean"] == pytest.approx(55)
    assert table.loc["mlp", "average_sd"] == pytest.approx(math.sqrt((25 + 1 + 36) / 2))
    # The differences are 10, 16 and 4 within a run, whatever the runs' own levels.
    assert table.loc["mlp", "difference_mean"] == pytest.approx(10) and table.loc["mlp", "difference_sd"] == pytest.approx(6)
    assert table.loc["none", "difference_mean"] == 0


def test_the_table_of_several_runs() -> None:
    text = runs.markdown(runs.aggregate(several_runs()), ["softmax"])
    (line,) = (line for line in text.splitlines() if line.startswith("| mlp"))
    parts = [part.strip() for part in line.strip("|").split("|")]
    assert parts == ["mlp", "55.0 ± 5.6", "1.0 ± 0.0", "2.0 ± 0.0", "10.0 ± 6.0", "50 ± 0", "100"]
    timed = runs.markdown(runs.aggregate(several_runs().assign(seconds=[float("nan"), 2.0] * 3)), ["softmax"]).splitlines()
    assert timed[0].endswith("| memory bytes | adapter s |") and timed[2].endswith("| 100 |  |") and timed[3].endswith("| 100 | 2.0 |")


def budgets() -> pd.DataFrame:
    """A method with two budgets, rehearsal with two settings, and the oracle, as `runs.aggregate` gives them."""
    columns = ["regime", "setting", "adapter", "classifier", "budget", "method", "bytes", "average_mean"]
    rows = [
        ("distill", "", "mlp", "softmax", 0, "ours", 1000.0, 70.0),
        ("distill", "", "mlp", "softmax", 5, "ours", 100.0, 60.0),
        ("distill", "", "oracle", "softmax", 5, "oracle", 100.0, 90.0),
        ("rehearsal", "", "exemplars", "nme", 0, "iCaRL", 500.0, 65.0),
        ("rehearsal", "", "exemplars", "nme", 5, "iCaRL", 500.0, 66.0),
        ("rehearsal", "exemplars.per_class=2", "exemplars", "nme", 0, "iCaRL", 50.0, 64.0),
    ]
    frame = pd.DataFrame(rows, columns=columns)
    # Validation images would choose the same, but for the five exemplars of twenty.
    return frame.assign(average_sd=math.nan, last_mean=50.0, last_sd=math.nan, validation_average_mean=[70.0, 60.0, 90.0, 65.0, 64.0, 63.0])


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(100, [("iCaRL", 64.0), ("ours", 60.0)]), (500, [("iCaRL", 65.0), ("ours", 60.0)]), (60, [("iCaRL", 64.0)])],
)
def test_within_so_many_bytes_each_method_makes_the_most_of_them(limit: int, expected: list[tuple[str, float]]) -> None:
    found = runs.within(budgets(), limit)
    assert list(zip(found["method"], found["average_mean"], strict=True)) == expected


def test_what_has_no_validation_accuracy_stands_for_a_method_only_where_nothing_has() -> None:
    unknown = budgets()
    unknown.loc[unknown["method"] == "iCaRL", "validation_average_mean"] = [float("nan"), 60.0, float("nan")]
    (chosen,) = runs.within(unknown, 500).query("method == 'iCaRL'").to_dict("records")
    assert chosen["validation_average_mean"] == 60


def test_the_table_within_so_many_bytes_says_what_is_kept() -> None:
    lines = runs.within_markdown(budgets(), 100).splitlines()
    assert lines[2] == "| iCaRL, exemplars.per_class=2 | its images | 64.0 | 50.0 | 50 |"
    assert lines[3] == "| ours | 5 vectors | 60.0 | 50.0 | 100 |"


def test_the_table_within_so_many_bytes_says_how_many_of_the_images_are_used() -> None:
    best_in_part = budgets().assign(validation_average_mean=[70.0, 60.0, 90.0, 64.0, 65.0, 63.0])
    assert "| iCaRL | its images, 5 of them used | 66.0 | 50.0 | 500 |" in runs.within_markdown(best_in_part, 500).splitlines()


def test_rows_are_added_to_a_table_from_before_there_were_settings(tmp_path: Path) -> None:
    several_runs().to_csv(tmp_path / "runs.csv", index=False)
    together = runs.added(redraw.read(tmp_path / "runs.csv"), several_runs().assign(setting="", regime="lwf"), [*runs.CELL, "order", "seed"])
    assert runs.aggregate(together).groupby("regime")["runs"].sum().to_dict() == {"distill": 6, "lwf": 6}


@pytest.mark.parametrize(
    ("parameter", "rows"),
    [
        ("rehearsal.exemplars.per_class", ["rehearsal -", "rehearsal mlp"]),
        ("memory.storage", ["distill mlp", "rehearsal mlp"]),
        ("adapters.mlp.width", ["distill mlp", "rehearsal mlp"]),
        ("training.epochs", ["distill -", "distill mlp", "joint -", "joint oracle", "rehearsal -", "rehearsal mlp"]),
    ],
)
def test_a_variation_has_the_rows_that_it_makes_anew(parameter: str, rows: list[str]) -> None:
    cells = [("distill", "-"), ("distill", "mlp"), ("rehearsal", "-"), ("rehearsal", "mlp"), ("joint", "-"), ("joint", "oracle")]
    # Neither images nor Gaussians are stored as vectors are.
    cells += [("rehearsal", "exemplars"), ("distill", "gaussian")] if parameter.startswith("memory") else []
    changed = compare._changed(pd.DataFrame(cells, columns=["regime", "adapter"]), parameter, "1")
    assert sorted(changed["regime"] + " " + changed["adapter"]) == rows
    assert set(changed["setting"]) == {f"{parameter.partition('.')[2]}=1"}


def test_rows_of_a_memory_are_shown_in_the_plane_of_test_features_of_the_oldest_classes() -> None:
    random = np.random.default_rng(0)
    test, labels = random.normal(size=(50, 6)), np.arange(50) % 5
    memory = (test[labels < 4][:, ::-1].copy(), labels[labels < 4])
    table = report.drawn(memory, (test, labels), classes=2, rows=7)
    assert table.groupby(["kind", "class"]).size().to_dict() == {(kind, c): 7 for kind in ("memory", "test images") for c in (0, 1)}
    centred = test[labels < 2] - test[labels < 2].mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    of_class = memory[0][memory[1] == 1][:7]
    expected = (of_class - test[labels < 2].mean(axis=0)) @ axes.T
    found = table[(table["kind"] == "memory") & (table["class"] == 1)][["x", "y"]].to_numpy()
    assert np.allclose(np.abs(found), np.abs(expected))


def test_settings_are_compared_within_themselves() -> None:
    two = pd.concat([several_runs().assign(setting=""), several_runs().assign(setting="x=1", average=lambda frame: frame["average"] + 5)])
    table = runs.aggregate(two).set_index(["setting", "adapter"])
    assert table.loc[("x=1", "mlp"), "average_mean"] == pytest.approx(60)
    assert table.loc[("x=1", "mlp"), "difference_mean"] == pytest.approx(10) and table.loc[("", "mlp"), "runs"] == 3


def test_a_setting_of_an_adapter_s_own_is_compared_with_the_run_as_it_stands() -> None:
    wider = several_runs().assign(setting="mlp.width=4", average=lambda frame: frame["average"] + 5)
    both = pd.concat([several_runs().assign(setting=""), wider[wider["adapter"] == "mlp"]])
    table = runs.aggregate(both).set_index(["setting", "adapter"])
    assert table.loc[("mlp.width=4", "mlp"), "difference_mean"] == pytest.approx(table.loc[("", "mlp"), "difference_mean"] + 5)


def test_a_method_is_shown_under_its_own_classifier_where_there_is_one() -> None:
    frame = report.results(report.records([*cells(), *cells(("none",), regime="rehearsal")]))
    exemplars = frame[(frame["regime"] == "rehearsal") & (frame["adapter"] == "none")].assign(adapter="exemplars")
    shown = report.shown(pd.concat([frame, exemplars], ignore_index=True), "softmax")
    assert shown[shown["adapter"] == "exemplars"]["classifier"].tolist() == ["nme"]
    assert set(shown[shown["adapter"] == "mlp"]["classifier"]) == {"softmax"}


def test_adapters_are_shown_under_the_primary_classifier_whatever_papers_call_their_cells() -> None:
    frame = report.results(report.records(cells()))
    for primary in ("softmax", "nme"):
        assert set(report.shown(frame, primary)["classifier"]) == {primary, "head"}


def test_exemplars_are_no_adapter_that_closes_a_gap() -> None:
    table = report.records([*cells(), *[{**one, "adapter": "exemplars"} for one in cells(("mlp",))]])
    assert pd.isna(row_of(report.results(table), "exemplars")["gap_closed_average"])


def test_storages_are_told_apart_and_their_bytes_compared() -> None:
    quantised = several_runs().assign(setting="storage=int8", bytes=25, average=lambda frame: frame["average"] - 1)
    other = several_runs().assign(setting="exemplars.per_class=5", regime="rehearsal")
    head = several_runs().assign(setting="", adapter="-")
    table = runs.storages(runs.aggregate(pd.concat([several_runs().assign(setting=""), quantised, other, head])))
    assert sorted(zip(table["adapter"], table["storage"], strict=True)) == [("mlp", "as is"), ("mlp", "int8"), ("none", "as is"), ("none", "int8")]
    lines = runs.storage_markdown(table).splitlines()
    assert lines[2] == "| mlp | as is | 55.0 ± 5.6 | 1.0 ± 0.0 | 100 | 1.0 |"
    assert lines[3] == "| mlp | int8 | 54.0 ± 5.6 | 1.0 ± 0.0 | 25 | 4.0 |"


def test_a_table_takes_up_more_rows_in_the_place_of_the_same_cells_earlier_ones() -> None:
    earlier = several_runs()
    again = earlier[(earlier["adapter"] == "mlp") & (earlier["order"] == 1)].assign(average=99.0)
    other = earlier.assign(regime="lwf")
    together = runs.added(earlier, pd.concat([again, other]), ["regime", "adapter"])
    assert len(together) == 12
    assert sorted(together[(together["regime"] == "distill") & (together["adapter"] == "mlp")]["average"]) == [56.0, 60.0, 99.0]
    pd.testing.assert_frame_equal(runs.added(earlier.iloc[:0], earlier, ["regime", "adapter"]), earlier)


def curve(regime: str, adapter: str, accuracy: float, order: float = 0) -> dict[str, object]:
    row = {"method": adapter, "regime": regime, "adapter": adapter, "classifier": "head", "task": 0, "classes": 4}
    return row | {"accuracy": accuracy, "order": order, "seed": 0}


@pytest.mark.parametrize("bound_first", [True, False])
def test_the_bound_stands_in_every_panel_of_curves_put_together(bound_first: bool) -> None:
    with_bound = [curve("lwf", "head", 50.0), curve("lwf", "joint", 90.0)]
    without = [curve("distill", "head", 40.0)]
    together = runs.mean_curves(runs.curves_of(pd.DataFrame(with_bound + without if bound_first else without + with_bound)))
    panels = {regime: dict(zip(part["adapter"], part["accuracy"], strict=True)) for regime, part in together.groupby("regime")}
    assert panels == {"lwf": {"head": 50.0, "joint": 90.0}, "distill": {"head": 40.0, "joint": 90.0}}


def test_curves_are_the_mean_over_orders_and_the_bound_counts_once_an_order() -> None:
    rows = [curve(regime, "head", 60.0 - 30 * order, order) for order in (0, 1) for regime in ("lwf", "distill")]
    # The second order's run had both regimes, each with the bound in its panel.
    rows += [curve("lwf", "joint", 90.0, 0), curve("lwf", "joint", 80.0, 1), curve("distill", "joint", 80.0, 1)]
    kept = runs.curves_of(pd.DataFrame(rows))
    mean = runs.mean_curves(kept)
    assert mean["accuracy"].tolist() == [45.0, 85.0, 45.0, 85.0]
    assert list(mean.columns) == ["method", "regime", "adapter", "classifier", "task", "classes", "accuracy"]
    again = runs.added(kept, pd.DataFrame([curve("lwf", "head", 40.0, 1)]), ["regime", "adapter", "classes"])
    assert runs.mean_curves(again).set_index(["regime", "adapter"])["accuracy"].to_dict()["lwf", "head"] == 50.0


def test_a_bound_of_runs_that_were_not_kept_apart_gives_way_to_another_regimes_run() -> None:
    earlier = runs.curves_of(pd.DataFrame([curve("lwf", adapter, 60.0, math.nan) for adapter in ("head", "joint")]))
    new = runs.curves_of(pd.DataFrame([curve("distill", adapter, 30.0, 1) for adapter in ("head", "joint")]))
    mean = runs.mean_curves(runs.added(earlier, new, ["regime", "adapter", "classes"]))
    assert mean[mean["adapter"] == "joint"]["accuracy"].tolist() == [30.0, 30.0]


def test_a_mean_over_runs_that_were_not_kept_apart_gives_way_to_a_run() -> None:
    earlier = pd.DataFrame([curve("lwf", "head", 60.0, math.nan), curve("distill", "head", 50.0, math.nan)])
    together = runs.added(earlier, pd.DataFrame([curve("lwf", "head", 30.0, 1)]), ["regime", "adapter", "classes"])
    assert together["accuracy"].tolist() == [50.0, 30.0]
    assert runs.mean_curves(earlier.drop(columns=["order", "seed"]))["accuracy"].tolist() == [60.0, 50.0]


def test_drift_is_the_mean_over_the_orders_in_which_it_is_defined() -> None:
    rows = [{"regime": "lwf", "adapter": "mlp", "age": 1, "order": order, "seed": 0} for order in (0, 1)]
    measured = [{"cosine": math.nan, "relative_error": 0.2, "explained": 0.2}, {"cosine": 0.5, "relative_error": 0.4, "explained": 0.8}]
    mean = runs.mean_drift(pd.DataFrame([row | values for row, values in zip(rows, measured, strict=True)]))
    assert mean[["regime", "adapter", "age"]].to_numpy().tolist() == [["lwf", "mlp", 1]]
    assert mean[drift.MEASURES].to_numpy().tolist() == [pytest.approx([0.5, 0.3, 0.5])]


def test_without_other_storages_there_is_nothing_to_compare() -> None:
    assert runs.storages(runs.aggregate(several_runs())).empty


def test_the_table_of_drift_leaves_blank_what_is_undefined() -> None:
    row = {"regime": "distill", "adapter": "none", "age": 1, "cosine": math.nan, "relative_error": 1.0, "explained": -0.25}
    assert runs.drift_markdown(pd.DataFrame([row])).splitlines()[2] == "| distill | none | 1 |  | 1.00 | -0.25 |"
