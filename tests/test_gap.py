"""A carried memory taken apart: class means and what lies about them, each replaced by the oracle's."""

from __future__ import annotations

import numpy as np
import pytest

from carryover.gap import taken_apart

classes_of = np.repeat([0, 1, 2], 6)


def rows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(18, 4)).astype(np.float32)


def test_classes_that_only_moved_are_the_oracles_once_they_are_at_its_means() -> None:
    true = rows()
    shift = np.array([[3, 0, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]], dtype=np.float32)[classes_of]
    parts = taken_apart((true + shift, classes_of), (true, classes_of), old=2)
    np.testing.assert_allclose(parts.at_true_means[0], true, atol=1e-5)
    np.testing.assert_allclose(parts.true_about_means[0], true + shift, atol=1e-5)
    traces = [true[classes_of == c].var(axis=0).sum() for c in (0, 1)]
    assert parts.offset == pytest.approx((3 / traces[0] ** 0.5 + 4 / traces[1] ** 0.5) / 2, rel=1e-5)
    assert parts.spread == pytest.approx(1, rel=1e-5)


def test_classes_that_only_shrank_are_the_oracles_about_their_own_means() -> None:
    true = rows()
    means = np.stack([true[classes_of == c].mean(axis=0) for c in range(3)])[classes_of]
    shrunk = means + (true - means) / 2
    parts = taken_apart((shrunk, classes_of), (true, classes_of), old=3)
    np.testing.assert_allclose(parts.true_about_means[0], true, atol=1e-5)
    np.testing.assert_allclose(parts.at_true_means[0], shrunk, atol=1e-5)
    assert parts.offset == pytest.approx(0, abs=1e-6) and parts.spread == pytest.approx(0.25, rel=1e-5)


def test_the_memory_may_have_other_rows_than_the_oracle_and_stays_as_it_was() -> None:
    carried, true = rows(1)[::2], rows()
    before = carried.copy()
    parts = taken_apart((carried, classes_of[::2]), (true, classes_of), old=2)
    assert np.array_equal(carried, before)
    assert len(parts.at_true_means[0]) == 9 and len(parts.true_about_means[0]) == 18
    for label in range(3):
        np.testing.assert_allclose(parts.at_true_means[0][classes_of[::2] == label].mean(axis=0), true[classes_of == label].mean(axis=0), atol=1e-5)


def test_other_classes_and_a_first_task_are_refused() -> None:
    with pytest.raises(ValueError, match="not of the same classes"):
        taken_apart((rows()[:12], classes_of[:12]), (rows(), classes_of), old=2)
    with pytest.raises(ValueError, match="No class has been carried yet"):
        taken_apart((rows(), classes_of), (rows(), classes_of), old=0)
