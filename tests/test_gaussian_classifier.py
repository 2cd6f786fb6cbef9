"""The Gaussian classifier scores by the log density of its shrunk covariances, and stays sensible where there are few rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from carryover.classifiers import fit_gaussian, fit_nme


def blobs(seed: int, counts: list[int], d: int, apart: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Classes with a centre and a covariance of their own."""
    random = np.random.default_rng(seed)
    rows = [random.normal(size=d) * apart + random.normal(size=(count, d)) @ random.normal(size=(d, d)) for count in counts]
    return np.concatenate(rows).astype(np.float32), np.repeat(np.arange(len(counts)), counts)


def shrunk(features: np.ndarray, labels: np.ndarray, penalty: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Means and covariances by loops over rows, in float64."""
    classes, d = int(labels.max()) + 1, features.shape[1]
    means, scatters = [], []
    for c in range(classes):
        rows = [row.astype(float) for row, label in zip(features, labels, strict=True) if label == c]
        mean = sum(rows) / len(rows)
        means.append(mean)
        scatters.append(sum((np.outer(row - mean, row - mean) for row in rows), np.zeros((d, d))))
    dof = len(labels) - classes
    variance = sum(float(np.trace(s)) for s in scatters) / dof / d
    pooled = (sum(scatters, np.zeros((d, d))) + d * variance * np.eye(d)) / (dof + d)
    covariances = []
    for c, scatter in enumerate(scatters):
        weight = d / (int((labels == c).sum()) - 1 + d)
        own = scatter / max(int((labels == c).sum()) - 1, 1)
        covariances.append((1 - weight) * own + weight * pooled + penalty * variance * np.eye(d))
    return means, covariances


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4).filter(lambda counts: max(counts) > 1),
    d=st.integers(1, 6),
    penalty=st.sampled_from([0.0, 1e-3, 0.5]),
)
def test_scores_are_log_densities_but_for_a_constant(seed: int, counts: list[int], d: int, penalty: float) -> None:
    features, labels = blobs(seed, counts, d)
    points = np.random.default_rng(seed + 1).normal(size=(9, d)).astype(np.float32) * 2
    scores = fit_gaussian(features, labels, len(counts), penalty)(points)
    means, covariances = shrunk(features, labels, penalty)
    densities = [multivariate_normal(mean, covariance).logpdf(points.astype(float)) for mean, covariance in zip(means, covariances, strict=True)]
    expected = np.stack(densities, axis=1) + d / 2 * np.log(2 * np.pi)
    assert np.allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_many_rows_leave_a_covariance_as_it_is() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20_000)
    features = random.normal(size=(40_000, 3)) * np.where(labels[:, None] == 0, [1, 2, 3], [3, 1, 0.5])
    points = random.normal(size=(20, 3))
    expected = np.stack([multivariate_normal(np.zeros(3), np.diag(np.square(s))).logpdf(points) for s in ([1, 2, 3], [3, 1, 0.5])], axis=1)
    assert np.allclose(fit_gaussian(features, labels, 2, 0.0)(points), expected + 1.5 * np.log(2 * np.pi), atol=0.2)


def test_classes_that_differ_in_covariance_alone_are_told_apart() -> None:
    random = np.random.default_rng(1)
    labels = np.tile([0, 1], 2000)
    features = (random.normal(size=(4000, 4)) * np.where(labels[:, None] == 0, 1.0, 4.0)).astype(np.float32)
    scores = fit_gaussian(features[:1000], labels[:1000], 2, 1e-3)(features[1000:])
    assert (scores.argmax(axis=1) == labels[1000:]).mean() > 0.9


def test_a_class_of_one_row_has_the_pooled_covariance() -> None:
    features, labels = blobs(2, [30, 40, 1], 3)
    scores = fit_gaussian(features, labels, 3, 0.0)
    pooled = sum((features[labels == c].astype(float) - features[labels == c].mean(axis=0)).T @ (features[labels == c]) for c in (0, 1))
    pooled = (pooled + np.trace(pooled) / 68 * np.eye(3)) / (68 + 3)
    point = np.array([[1.0, -2.0, 0.5]], dtype=np.float32)
    expected = multivariate_normal(features[-1].astype(float), pooled).logpdf(point[0]) + 1.5 * np.log(2 * np.pi)
    assert scores(point)[0, 2] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 1e-3])
def test_with_one_row_a_class_it_is_the_nearest_row(penalty: float) -> None:
    random = np.random.default_rng(3)
    features, points = random.normal(size=(8, 5)).astype(np.float32), random.normal(size=(200, 5)).astype(np.float32)
    nearest = ((points[:, None] - features[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(fit_gaussian(features, np.arange(8), 8, penalty)(points).argmax(axis=1), nearest)


@pytest.mark.parametrize("penalty", [0.0, 1e-3])
def test_a_dead_feature_takes_no_part(penalty: float) -> None:
    features, labels = blobs(4, [30, 30, 30], 4)
    with_dead = np.insert(features, 2, 7.0, axis=1)
    scores = fit_gaussian(with_dead, labels, 3, penalty)(with_dead)
    assert np.isfinite(scores).all()
    # It changes the amount of shrinking a little, and where it differs from its only value it speaks for no class much more than for another.
    assert (scores.argmax(axis=1) == fit_gaussian(features, labels, 3, penalty)(features).argmax(axis=1)).mean() > 0.97


def test_fewer_rows_than_dimensions() -> None:
    random = np.random.default_rng(5)
    centres = random.normal(size=(5, 60)) * 1.5
    labels = np.repeat(np.arange(5), 4)
    features = (centres[labels] + random.normal(size=(20, 60))).astype(np.float32)
    truth = random.integers(0, 5, 500)
    points = (centres[truth] + random.normal(size=(500, 60))).astype(np.float32)
    found = fit_gaussian(features, labels, 5, 1e-3)(points)
    assert np.isfinite(found).all() and (found.argmax(axis=1) == truth).mean() > 0.97


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), power=st.integers(-20, 20))
def test_units_add_the_same_to_every_score(seed: int, power: int) -> None:
    features, labels = blobs(seed, [10, 15, 1], 3)
    plain = fit_gaussian(features, labels, 3, 1e-3)(features)
    scaled = fit_gaussian(features * np.float32(2.0**power), labels, 3, 1e-3)(features * np.float32(2.0**power))
    assert np.allclose(plain - scaled, 3 * power * np.log(2), rtol=1e-4, atol=1e-3)


def test_a_large_common_shift_changes_nothing() -> None:
    features, labels = blobs(6, [20, 20], 3)
    plain, shifted = fit_gaussian(features, labels, 2, 1e-3)(features), fit_gaussian(features + 256, labels, 2, 1e-3)(features + 256)
    assert np.allclose(plain, shifted, atol=2e-2)


def test_it_reads_digits_better_than_nearest_means() -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    features, labels = np.asarray(data.data, dtype=np.float32), np.asarray(data.target)
    accuracies = [
        (fit(features[:900], labels[:900], 10, 1e-3)(features[900:]).argmax(axis=1) == labels[900:]).mean() for fit in (fit_gaussian, fit_nme)
    ]
    assert accuracies[0] > 0.94 and accuracies[0] > accuracies[1] + 0.03
