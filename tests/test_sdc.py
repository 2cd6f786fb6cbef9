"""SDC: every stored vector moves by the kernel-weighted mean drift, as the formula says in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover.adapters.sdc import CHUNK, SDCAdapter


def pairs(seed: int, n: int = 12, d: int = 4, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    previous = random.normal(size=(n, d)) * scale
    current = previous + random.normal(size=(n, d)) * scale
    return previous.astype(np.float32), current.astype(np.float32), (random.normal(size=(7, d)) * scale).astype(np.float32)


def formula(previous: np.ndarray, current: np.ndarray, stored: np.ndarray, sigma: float) -> np.ndarray:
    moved = stored.astype(float).copy()
    for row, x in enumerate(stored.astype(float)):
        total, weights = np.zeros(len(x)), 0.0
        for before, after in zip(previous.astype(float), current.astype(float), strict=True):
            weight = math.exp(-float(((before - x) ** 2).sum()) / (2 * sigma**2))
            total += weight * (after - before)
            weights += weight
        moved[row] += total / weights
    return moved


def spread(previous: np.ndarray) -> float:
    mean = previous.astype(float).mean(axis=0)
    return math.sqrt(sum(float(((row - mean) ** 2).sum()) for row in previous.astype(float)) / len(previous))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), bandwidth=st.floats(0.3, 3), n=st.integers(2, 15), d=st.integers(1, 6))
def test_sdc_equals_loops_over_the_formula(seed: int, bandwidth: float, n: int, d: int) -> None:
    previous, current, stored = pairs(seed, n, d)
    # Near the pairs in units of their own spread, for far from all of them the plain formula is 0 / 0.
    stored = (previous[np.arange(7) % n] + stored / 10 * spread(previous)).astype(np.float32)
    found = SDCAdapter(bandwidth).fit(previous, current).transform(stored)
    assert np.allclose(found, formula(previous, current, stored, bandwidth * spread(previous)), atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), power=st.integers(-9, 9))
def test_bandwidth_is_relative_to_the_features_so_units_do_not_matter(seed: int, power: int) -> None:
    previous, current, stored = pairs(seed)
    factor = np.float32(2.0**power)
    plain = SDCAdapter(0.3).fit(previous, current).transform(stored)
    scaled = SDCAdapter(0.3).fit(previous * factor, current * factor).transform(stored * factor)
    assert np.allclose(scaled / factor, plain, atol=1e-4)


def test_bandwidth_is_a_share_of_the_root_mean_squared_distance_from_the_mean() -> None:
    previous = np.array([[0.0, 0.0], [6.0, 8.0]], dtype=np.float32)
    adapter = SDCAdapter(0.5).fit(previous, previous)
    assert float(adapter.sigma_) == pytest.approx(0.5 * 5.0)


def test_a_vector_between_two_pairs_moves_by_their_weighted_mean() -> None:
    previous = np.array([[0.0], [2.0]], dtype=np.float32)
    current = np.array([[1.0], [5.0]], dtype=np.float32)
    adapter = SDCAdapter(1.0).fit(previous, current)  # sigma is 1, drifts are 1 and 3.
    assert adapter.transform(np.array([[1.0]]))[0, 0] == pytest.approx(1 + 2)
    near, far = math.exp(0), math.exp(-2)
    assert adapter.transform(np.array([[0.0]]))[0, 0] == pytest.approx((near * 1 + far * 3) / (near + far), abs=1e-5)


def test_a_vector_far_from_all_pairs_takes_the_nearest_one_s_drift() -> None:
    previous = np.array([[0.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    current = previous + np.array([[0.5, 0.0], [0.0, -0.25]], dtype=np.float32)
    stored = np.array([[1000.0, 3.0], [-1000.0, 3.0]], dtype=np.float32)
    found = SDCAdapter(0.01).fit(previous, current).transform(stored)
    assert np.allclose(found, stored + np.array([[0.0, -0.25], [0.5, 0.0]]))


def test_one_pair_moves_everything_by_its_drift() -> None:
    adapter = SDCAdapter().fit(np.array([[1.0, 2.0]]), np.array([[2.0, 0.0]]))
    assert np.allclose(adapter.transform(np.array([[0.0, 0.0], [9.0, 9.0]])), [[1.0, -2.0], [10.0, 7.0]])


def test_equal_features_move_everything_by_their_mean_drift() -> None:
    previous = np.ones((4, 3), dtype=np.float32)
    current = previous + np.arange(4, dtype=np.float32)[:, None]
    assert np.allclose(SDCAdapter().fit(previous, current).transform(np.ones((2, 3))), 2.5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), shift=st.floats(-5, 5))
def test_a_common_drift_moves_everything_by_it(seed: int, shift: float) -> None:
    previous, _, stored = pairs(seed)
    found = SDCAdapter().fit(previous, previous + np.float32(shift)).transform(stored)
    assert np.allclose(found, stored + np.float32(shift), atol=1e-4)


def test_rows_do_not_depend_on_the_chunk_they_are_in() -> None:
    previous, current, _ = pairs(0)
    stored = np.random.default_rng(1).normal(size=(CHUNK + 5, 4)).astype(np.float32)
    adapter = SDCAdapter().fit(previous, current)
    whole = adapter.transform(stored)
    assert np.allclose(whole[CHUNK - 3 :], adapter.transform(stored[CHUNK - 3 :]), atol=1e-5)
    assert np.allclose(whole[:3], adapter.transform(stored[:3]), atol=1e-5)
