"""Selection: herding equals the greedy rule of iCaRL tried out row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover.seeds import generator
from carryover.selection import SELECTORS, herding, order, unit


def normalised(rows: np.ndarray) -> np.ndarray:
    result = np.zeros(rows.shape)
    for i, row in enumerate(rows.astype(float)):
        length = float(np.sqrt((row**2).sum()))
        result[i] = row / length if length else row
    return result


def distances(rows: np.ndarray, chosen: list[int]) -> dict[int, float]:
    """The greedy rule: |mu - (f(x) + sum of the chosen) / k| for every row x that is still free."""
    total = sum((rows[j] for j in chosen), np.zeros(rows.shape[1]))
    mean = rows.mean(axis=0)
    free = [i for i in range(len(rows)) if i not in chosen]
    return {i: float(np.linalg.norm(mean - (rows[i] + total) / (len(chosen) + 1))) for i in free}


def is_greedy(features: np.ndarray, found: np.ndarray, tolerance: float = 1e-9) -> bool:
    rows = normalised(features)
    chosen: list[int] = []
    for pick in found.tolist():
        options = distances(rows, chosen)
        if pick not in options or options[pick] > min(options.values()) + tolerance:
            return False
        chosen.append(pick)
    return True


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 25), d=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_herding_order_equals_brute_force(n: int, d: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(n, d)) * 10 + 1
    found = herding(features)
    assert sorted(found.tolist()) == list(range(n)) and found.dtype == np.int64
    assert is_greedy(features, found)


def test_herding_picks_exactly_the_brute_force_rows_where_no_two_are_alike() -> None:
    features = np.random.default_rng(3).normal(size=(40, 8))
    chosen: list[int] = []
    while len(chosen) < 40:
        options = distances(normalised(features), chosen)
        chosen.append(min(options, key=lambda i: options[i]))
    assert herding(features).tolist() == chosen


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 20), limit=st.integers(0, 30), seed=st.integers(0, 10_000))
def test_a_smaller_budget_is_a_prefix_and_a_larger_one_keeps_all(n: int, limit: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(n, 4))
    assert herding(features, limit).tolist() == herding(features).tolist()[:limit]
    assert len(herding(features, limit)) == min(n, limit)


@settings(deadline=None, max_examples=30)
@given(power=st.integers(-20, 20), seed=st.integers(0, 1000))
def test_herding_looks_at_directions_alone(power: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    features = random.normal(size=(15, 5))
    # Powers of two, so that unit vectors keep their bits.
    lengths = 2.0 ** random.integers(-8, 8, (15, 1)) * 2.0**power
    assert herding(features).tolist() == herding(features * lengths).tolist()


def test_few_rows_of_a_large_class_are_the_first_of_its_whole_order() -> None:
    features = np.random.default_rng(5).normal(size=(300, 6))
    assert herding(features, 5).tolist() == herding(features).tolist()[:5]
    assert is_greedy(features, herding(features, 5))


def test_ties_go_to_the_lower_row() -> None:
    assert herding(np.ones((5, 3))).tolist() == [0, 1, 2, 3, 4]
    # Mirror images about their mean are equally good first picks.
    assert herding(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist() == [0, 1]


def test_one_row_zero_rows_and_no_rows() -> None:
    assert herding(np.array([[3.0, 4.0]])).tolist() == [0]
    assert herding(np.zeros((3, 2))).tolist() == [0, 1, 2]
    assert herding(np.empty((0, 4))).tolist() == []
    features = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.2], [0.0, 0.0]])
    assert is_greedy(features, herding(features))


def test_herding_beats_the_order_of_rows_at_approximating_the_mean() -> None:
    rows = normalised(np.random.default_rng(0).normal(size=(100, 10)) + 1)
    mean, found = rows.mean(axis=0), herding(rows, 10)
    assert np.linalg.norm(rows[found].mean(axis=0) - mean) < 0.5 * np.linalg.norm(rows[:10].mean(axis=0) - mean)


@pytest.mark.parametrize("selector", sorted(SELECTORS))
@settings(deadline=None, max_examples=20)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=30), limit=st.one_of(st.none(), st.integers(1, 8)), seed=st.integers(0, 99))
def test_order_goes_class_by_class_within_the_limit(selector: str, labels: list[int], limit: int | None, seed: int) -> None:
    targets = np.array(labels)
    features = np.random.default_rng(seed).normal(size=(len(labels), 3)).astype(np.float32)
    found = order(selector, features, targets, limit, seed)
    assert len(set(found.tolist())) == len(found)
    kept = targets[found]
    assert (np.diff(kept) >= 0).all()
    for label in set(labels):
        own = labels.count(label)
        assert (kept == label).sum() == (own if limit is None else min(own, limit))
    full = order(selector, features, targets, None, seed)
    for label in set(labels):
        assert found[kept == label].tolist() == full[targets[full] == label].tolist()[:limit]


def test_order_by_herding_herds_each_class_apart() -> None:
    features, labels = np.random.default_rng(1).normal(size=(20, 4)), np.arange(20) % 2
    found = order("herding", features, labels, 6, 0)
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        assert found[6 * label : 6 * label + 6].tolist() == rows[herding(features[rows], 6)].tolist()


def test_order_all_keeps_rows_as_they_stand() -> None:
    assert order("all", np.zeros((5, 2)), np.array([1, 0, 1, 0, 0]), None, 0).tolist() == [1, 3, 4, 0, 2]


def test_random_order_depends_on_seed_and_label_alone() -> None:
    features, labels = np.zeros((30, 2)), np.repeat([0, 7], 15)
    first = order("random", features, labels, None, 5)
    assert first.tolist() == order("random", features + 3, labels, None, 5).tolist()
    assert first.tolist() != order("random", features, labels, None, 6).tolist()
    assert first[15:].tolist() == (15 + generator(5, "random selection", 7).permutation(15)).tolist()
    assert first[:15].tolist() != (first[15:] - 15).tolist()
    # A class's own order does not depend on which other classes there are.
    assert order("random", features[15:], labels[15:], None, 5).tolist() == (first[15:] - 15).tolist()


def test_order_of_nothing_is_empty() -> None:
    assert order("herding", np.empty((0, 3)), np.empty(0, dtype=np.int64), 4, 0).tolist() == []


def test_unit_scales_rows_to_length_one_and_leaves_zero_rows() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0], [1e-100, 0.0]])
    assert np.allclose(unit(rows), np.array([[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]))
