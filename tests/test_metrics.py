"""Metrics on matrices worked out by hand, with tasks of unequal sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carryover import metrics

# Three tasks; the second is forgotten most after it peaked in between.
MATRIX = [[0.9], [0.6, 0.8], [0.7, 0.5, 0.4]]


def test_forgetting_is_the_drop_from_the_best_earlier_accuracy() -> None:
    assert metrics.forgetting(MATRIX) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)


def test_forgetting_of_a_task_that_improved_to_the_end_is_negative() -> None:
    assert metrics.forgetting([[0.5], [0.7, 0.2], [0.8, 0.1, 0.3]]) == pytest.approx(((0.7 - 0.8) + (0.2 - 0.1)) / 2)


def test_forgetting_takes_the_peak_in_between() -> None:
    assert metrics.forgetting([[0.5], [0.9, 0.0], [0.6, 0.0, 0.0]]) == pytest.approx((0.3 + 0.0) / 2)


def test_backward_transfer_compares_with_the_accuracy_right_after_learning() -> None:
    assert metrics.backward_transfer(MATRIX) == pytest.approx(((0.7 - 0.9) + (0.5 - 0.8)) / 2)
    assert metrics.backward_transfer([[0.5], [0.9, 0.1], [0.6, 0.4, 0.0]]) == pytest.approx((0.1 + 0.3) / 2)


def test_a_single_task_neither_forgets_nor_transfers() -> None:
    assert metrics.forgetting([[0.3]]) == 0.0
    assert metrics.backward_transfer([[0.3]]) == 0.0


def test_a_task_without_images_does_not_count() -> None:
    nan = math.nan
    matrix = [[nan], [nan, 0.8], [nan, 0.5, 0.4]]
    assert metrics.forgetting(matrix) == pytest.approx(0.3)
    assert metrics.backward_transfer(matrix) == pytest.approx(-0.3)
    assert metrics.average_incremental([nan, 0.8, 0.4]) == pytest.approx(0.6)
    assert math.isnan(metrics.average_incremental([nan, nan]))


def test_average_incremental_counts_the_first_task() -> None:
    assert metrics.average_incremental([0.9, 0.6, 0.3]) == pytest.approx(0.6)


def test_class_accuracies_by_hand() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 1, 2, 2, 2])
    found = metrics.class_accuracies(predicted, labels, 4)
    assert found[:3] == pytest.approx([2 / 3, 0, 1]) and math.isnan(found[3])


def test_accuracy_row_of_fifty_and_five_times_ten_classes() -> None:
    per_class = np.repeat([0.5, 0.1, 0.2, 0.3, 0.4, 1.0], [50, 10, 10, 10, 10, 10])
    row, overall = metrics.accuracy_row(per_class, [50, 10, 10, 10, 10, 10])
    assert row == pytest.approx([0.5, 0.1, 0.2, 0.3, 0.4, 1.0])
    # The first task weighs five times as much: the mean of the row would be 0.4167.
    assert overall == pytest.approx(0.45)


def test_a_class_without_images_counts_in_neither_row_nor_overall() -> None:
    row, overall = metrics.accuracy_row(np.array([1.0, math.nan, 0.5, math.nan]), [2, 1, 1])
    assert row[:2] == [1.0, 0.5] and math.isnan(row[2])
    assert overall == 0.75


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_the_accuracy_over_all_classes_is_the_class_weighted_mean_of_the_row(sizes: list[int], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(0, 1), min_size=sum(sizes), max_size=sum(sizes)))
    row, overall = metrics.accuracy_row(np.array(values), sizes)
    start = 0
    for size, accuracy in zip(sizes, row, strict=True):
        assert accuracy == pytest.approx(sum(values[start : start + size]) / size)
        start += size
    assert overall == pytest.approx(sum(a * size for a, size in zip(row, sizes, strict=True)) / sum(sizes))


@given(st.integers(1, 6), st.integers(1, 8), st.data())
def test_with_as_many_images_of_each_class_it_is_the_plain_share_of_correct_answers(classes: int, each: int, data: st.DataObject) -> None:
    labels = np.repeat(np.arange(classes), each)
    predicted = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=len(labels), max_size=len(labels))))
    _, overall = metrics.accuracy_row(metrics.class_accuracies(predicted, labels, classes), [classes])
    assert overall == pytest.approx(sum(p == t for p, t in zip(predicted, labels, strict=True)) / len(labels))


@pytest.mark.parametrize(
    ("method", "none", "oracle", "expected"),
    [(0.5, 0.4, 0.6, 0.5), (0.3, 0.4, 0.6, -0.5), (0.7, 0.4, 0.6, 1.5), (0.5, 0.6, 0.6, None), (0.5, 0.6, 0.5, None)],
)
def test_gap_closed(method: float, none: float, oracle: float, expected: float | None) -> None:
    found = metrics.gap_closed(method, none, oracle)
    assert found is None if expected is None else found == pytest.approx(expected)
