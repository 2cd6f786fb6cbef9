"""The linear adapter is the ridge solution for the drift, and knows an affine map when it sees one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover.adapters.linear import LinearAdapter


def pairs(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    previous = (random.normal(size=(n, d)) @ random.normal(size=(d, d)) + random.normal(size=d)).astype(np.float32)
    return previous, (np.tanh(previous) + random.normal(size=(n, d))).astype(np.float32)


def ridge_by_augmented_rows(previous: np.ndarray, current: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of the drift on centred features, the penalty as d further rows sqrt(alpha) I with target zero."""
    x, drift = previous.astype(float), current.astype(float) - previous.astype(float)
    n, d = x.shape
    mean = x.mean(axis=0)
    alpha = ridge * n * float(np.mean([x[:, j].var() for j in range(d)]))
    rows = np.vstack([x - mean, np.sqrt(alpha) * np.eye(d)])
    targets = np.vstack([drift - drift.mean(axis=0), np.zeros((d, d))])
    slope = np.linalg.lstsq(rows, targets, rcond=None)[0]
    return np.eye(d) + slope, drift.mean(axis=0) - mean @ slope


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), d=st.integers(1, 7), ridge=st.floats(1e-3, 10))
def test_linear_equals_an_independent_ridge_solution(seed: int, n: int, d: int, ridge: float) -> None:
    previous, current = pairs(seed, n, d)
    adapter = LinearAdapter(ridge).fit(previous, current)
    matrix, offset = ridge_by_augmented_rows(previous, current, ridge)
    assert np.allclose(adapter.matrix_, matrix, atol=1e-4, rtol=1e-4)
    assert np.allclose(adapter.offset_, offset, atol=1e-4, rtol=1e-4)


def test_linear_satisfies_the_normal_equations() -> None:
    previous, current = pairs(0, 30, 5)
    adapter = LinearAdapter(0.1).fit(previous, current)
    x = previous.astype(float) - previous.astype(float).mean(axis=0)
    y = current.astype(float) - current.astype(float).mean(axis=0)
    slope = adapter.matrix_ - np.eye(5)
    alpha = 0.1 * (x**2).sum() / 5
    assert np.allclose(x.T @ (x @ adapter.matrix_ - y) + alpha * slope, 0, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 6))
def test_an_affine_map_is_recovered_without_a_ridge(seed: int, d: int) -> None:
    random = np.random.default_rng(seed)
    matrix, offset = random.normal(size=(d, d)), random.normal(size=d)
    previous, stored = random.normal(size=(50, d)), random.normal(size=(9, d)) * 3
    adapter = LinearAdapter(0.0).fit(previous, previous @ matrix + offset)
    assert np.allclose(adapter.transform(stored), stored @ matrix + offset, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), power=st.integers(-10, 10))
def test_units_do_not_matter(seed: int, power: int) -> None:
    previous, current = pairs(seed, 20, 4)
    factor = np.float32(2.0**power)
    plain = LinearAdapter(0.05).fit(previous, current).transform(previous)
    scaled = LinearAdapter(0.05).fit(previous * factor, current * factor).transform(previous * factor)
    assert np.allclose(scaled / factor, plain, atol=1e-4)


def test_repeating_all_pairs_changes_nothing() -> None:
    previous, current = pairs(3, 12, 4)
    once, thrice = LinearAdapter(0.3).fit(previous, current), LinearAdapter(0.3).fit(np.tile(previous, (3, 1)), np.tile(current, (3, 1)))
    assert np.allclose(once.matrix_, thrice.matrix_, atol=1e-5) and np.allclose(once.offset_, thrice.offset_, atol=1e-5)


def test_a_heavy_ridge_leaves_the_shift_of_the_means_alone() -> None:
    previous, current = pairs(4, 25, 3)
    adapter = LinearAdapter(1e9).fit(previous, current)
    assert np.allclose(adapter.matrix_, np.eye(3), atol=1e-5)
    assert np.allclose(adapter.transform(previous), previous + (current - previous).mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_a_dead_feature_stays_finite_and_takes_its_mean_drift(ridge: float) -> None:
    previous, current = pairs(5, 20, 4)
    previous[:, 2] = current[:, 2] = 0
    adapter = LinearAdapter(ridge).fit(previous, current)
    assert np.allclose(adapter.transform(previous)[:, 2], 0, atol=1e-5)
    assert np.allclose(adapter.matrix_[2], np.eye(4)[2], atol=1e-5)


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_fewer_pairs_than_dimensions(ridge: float) -> None:
    previous, current = pairs(6, 4, 10)
    adapter = LinearAdapter(ridge).fit(previous, current)
    assert np.isfinite(adapter.matrix_).all() and np.isfinite(adapter.offset_).all()
    error = np.abs(adapter.transform(previous) - current).max()
    assert error < 1e-3 if ridge == 0 else error < np.abs(previous - current).max()
    # Directions that no pair has are left alone but for the mean drift.
    beyond = np.linalg.svd(previous - previous.mean(axis=0), full_matrices=True)[2][-1]
    assert np.allclose(beyond @ adapter.matrix_, beyond, atol=1e-3)


def test_one_pair_is_a_shift() -> None:
    adapter = LinearAdapter().fit(np.array([[1.0, 2.0]]), np.array([[3.0, 1.0]]))
    assert np.allclose(adapter.transform(np.array([[5.0, 5.0]])), [[7.0, 4.0]])
