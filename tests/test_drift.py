"""Drift: predicted against actual, on features whose drift is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carryover import report
from carryover.drift import ClassDrift, measure, project

RANDOM = np.random.default_rng(0)
STORED = RANDOM.normal(size=(30, 4))
LABELS = np.repeat([0, 1, 2], 10)
SIZES = [1, 1, 1]


def test_a_perfect_prediction_has_cosine_one_error_zero_and_explains_everything() -> None:
    current = STORED + RANDOM.normal(size=STORED.shape)
    for row in measure(STORED, current, current, LABELS, SIZES):
        assert (row.cosine, row.relative_error, row.explained) == (pytest.approx(1), 0, 1)


def test_doing_nothing_has_error_one_and_no_direction() -> None:
    current = STORED + RANDOM.normal(size=STORED.shape)
    for row in measure(STORED, STORED, current, LABELS, SIZES):
        assert row.relative_error == 1 and row.cosine is None
        assert row.explained is not None and row.explained < 0


@given(st.floats(-3, 3).filter(lambda share: abs(share) > 1e-3))
def test_a_share_of_the_drift_has_its_direction_and_misses_the_rest(share: float) -> None:
    drift = RANDOM.normal(size=STORED.shape)
    for row in measure(STORED, STORED + share * drift, STORED + drift, LABELS, SIZES):
        assert row.cosine == pytest.approx(np.sign(share)) and row.relative_error == pytest.approx(abs(1 - share))


def test_the_best_shift_of_a_whole_class_explains_nothing() -> None:
    drift = RANDOM.normal(size=STORED.shape)
    means = np.repeat([drift[label == LABELS].mean(axis=0) for label in range(3)], 10, axis=0)
    for row in measure(STORED, STORED + means, STORED + drift, LABELS, SIZES):
        assert row.explained == pytest.approx(0, abs=1e-12)


def test_only_classes_of_earlier_tasks_are_measured_each_with_its_age() -> None:
    rows = measure(STORED, STORED, STORED + 1, LABELS, SIZES)
    assert [(row.label, row.learned, row.age, row.images) for row in rows] == [(0, 0, 2, 10), (1, 1, 1, 10)]
    assert [row.learned for row in measure(STORED, STORED, STORED + 1, LABELS, [2, 1])] == [0, 0]
    assert measure(STORED, STORED, STORED, LABELS, [3]) == []


def test_a_class_without_test_images_is_left_out() -> None:
    assert [row.label for row in measure(STORED[:20], STORED[:20], STORED[:20] + 1, LABELS[:20] * 2, SIZES)] == [0]


def test_a_network_that_did_not_move_leaves_shares_undefined() -> None:
    assert measure(STORED, STORED, STORED, LABELS, SIZES)[0] == ClassDrift(0, 0, 2, 10, None, None, None)
    shifted = measure(STORED, STORED + 1, STORED + 1, LABELS, SIZES)[0]
    assert shifted.cosine == pytest.approx(1) and shifted.relative_error == pytest.approx(0, abs=1e-12)


def test_a_class_that_moved_as_one_has_no_variance_to_explain_even_where_rounding_left_some() -> None:
    current = STORED + 1
    current[0, 0] = np.nextafter(current[0, 0], np.inf)
    row = measure(STORED, STORED, current, LABELS, SIZES)[0]
    assert row.explained is None and row.relative_error == pytest.approx(1)


def test_features_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        measure(STORED, STORED[:5], STORED, LABELS, SIZES)


def test_the_plane_is_that_of_the_current_features_and_common_to_all() -> None:
    current = np.column_stack([10 * RANDOM.normal(size=50), RANDOM.normal(size=50), np.zeros(50)])
    plane, shifted = project(current, [current + np.array([1, 2, 7])])
    assert np.allclose(np.linalg.norm(plane[:, None] - plane, axis=2), np.linalg.norm(current[:, None] - current, axis=2))
    # What leaves the plane does not show; what stays in it does.
    assert np.allclose(np.linalg.norm(shifted - plane, axis=1), np.sqrt(5))


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
def test_features_of_one_dimension_or_one_image_still_have_a_place(shape: tuple[int, int]) -> None:
    plane, none = project(np.ones(shape), [np.ones((0, shape[1]))])
    assert plane.shape == (shape[0], 2) and none.shape == (0, 2) and np.isfinite(plane).all()


def cells(adapter: str, errors: list[list[float | None]]) -> list[dict[str, object]]:
    """After each task a cell of one new class a task; errors[t][c] is that of class c after task t + 1."""
    return [
        {
            "regime": "distill",
            "adapter": adapter,
            "task": f"task{t + 1}",
            "classes": [ClassDrift(c, c, t + 1 - c, 5, 0.5, error, 0.25).row() for c, error in enumerate(row)],
        }
        for t, row in enumerate(errors)
    ]


def test_the_table_of_drift_names_tasks_and_its_means_go_by_age() -> None:
    table = report.drift([*cells("none", [[1.0], [1.0, 1.0]]), *cells("mlp", [[0.2], [0.5, 0.4]])], ["task0", "task1", "task2"])
    assert table[table["adapter"] == "mlp"][["task", "learned", "age", "class", "relative_error"]].to_numpy().tolist() == [
        ["task1", "task0", 1, 0, 0.2],
        ["task2", "task0", 2, 0, 0.5],
        ["task2", "task1", 1, 1, 0.4],
    ]
    by_age = report.drift_by_age(table).set_index(["adapter", "age"])["relative_error"]
    assert by_age["mlp", 1] == pytest.approx(0.3) and by_age["mlp", 2] == 0.5 and by_age["none", 2] == 1


def test_undefined_drift_is_left_out_of_means_and_no_drift_gives_an_empty_table() -> None:
    table = report.drift(cells("mlp", [[None], [0.5, 0.4]]), ["task0", "task1", "task2"])
    assert report.drift_by_age(table).set_index("age")["relative_error"].tolist() == [0.4, 0.5]
    empty = report.drift([], ["task0"])
    assert list(empty.columns) == list(table.columns) and report.drift_by_age(empty).empty


def test_the_projection_shows_the_first_old_classes_stored_carried_and_current() -> None:
    arrays = {"stored": STORED, "carried": STORED + 1, "current": STORED + 2, "labels": LABELS}
    shown = report.projection({("distill", "mlp"): arrays}, [1, 0], classes=5, images=4)
    assert shown.groupby(["kind", "class"]).size().to_dict() == {(kind, label): 4 for kind in ("stored", "carried", "current") for label in (0, 1)}
    assert report.projection({("distill", "mlp"): arrays}, []).empty and report.projection({}, []).empty
