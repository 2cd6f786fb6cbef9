"""Classifiers over stored features: each at the optimum of its own loss, written out again here in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from carryover import classifiers
from carryover.classifiers import FITTERS, fit_cosine, fit_nme, fit_softmax


def blobs(seed: int = 0, classes: int = 3, each: int = 20, d: int = 4, apart: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, d)) * apart
    labels = np.repeat(np.arange(classes), each)
    return (centres[labels] + random.normal(size=(len(labels), d))).astype(np.float32), labels


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]).mean())


def probabilities(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = exponential / exponential.sum(axis=1, keepdims=True)
    return shares


def captured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Keep the loss and the start that a fitter hands to the optimiser, and the optimum that it found."""
    seen: dict[str, Any] = {}
    original = classifiers._minimise

    def spy(loss: Any, start: np.ndarray) -> np.ndarray:
        found = original(loss, start)
        seen.update(loss=loss, start=start, found=found)
        return found

    monkeypatch.setattr(classifiers, "_minimise", spy)
    return seen


def test_softmax_finds_the_optimum_of_the_penalised_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = captured(monkeypatch)
    features, labels = blobs()
    penalty = 0.01
    fit_softmax(features, labels, 3, penalty)
    x = features.astype(float)
    x = (x - x.mean(axis=0)) / np.mean([x[:, j].std() for j in range(4)])
    extended = np.hstack([x, np.ones((len(x), 1))])
    weight = seen["found"].reshape(3, 5)
    residual = probabilities(extended @ weight.T) - np.eye(3)[labels]
    gradient = residual.T @ extended / len(x)
    gradient[:, :-1] += penalty * weight[:, :-1]
    # Converged to the noise of single precision, from a start whose gradient is of the order of one.
    assert np.abs(gradient).max() < 2e-3


def test_softmax_equals_scikit_learn_s_logistic_regression() -> None:
    features, labels = blobs(seed=1)
    penalty = 0.02
    scores = fit_softmax(features, labels, 3, penalty)
    x = features.astype(float)
    standard = (x - x.mean(axis=0)) / np.mean([x[:, j].std() for j in range(4)])
    # scikit-learn minimises |W|^2 / 2 + C times the *sum* of losses.
    reference = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=2000).fit(standard, labels)
    assert np.abs(probabilities(scores(features)) - reference.predict_proba(standard)).max() < 5e-3
    assert np.array_equal(scores(features).argmax(axis=1), reference.predict(standard))


@pytest.mark.parametrize("name", ["softmax", "cosine"])
@pytest.mark.parametrize("seed", range(3))
def test_gradients_equal_finite_differences(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = captured(monkeypatch)
    features, labels = blobs(seed)
    FITTERS[name](features, labels, 3, 0.1)
    point = seen["start"] + np.random.default_rng(seed).normal(size=seen["start"].shape) * 0.5
    _, gradient = seen["loss"](point)
    step = 1e-2  # wide, for the losses are computed in single precision
    for i in range(len(point)):
        shift = step * np.eye(len(point))[i]
        numeric = (seen["loss"](point + shift)[0] - seen["loss"](point - shift)[0]) / (2 * step)
        assert gradient[i] == pytest.approx(numeric, abs=2e-3)


def test_losses_equal_their_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = captured(monkeypatch)
    features, labels = blobs()
    x = features.astype(float)
    random = np.random.default_rng(0)

    fit_softmax(features, labels, 3, 0.3)
    standard = (x - x.mean(axis=0)) / np.mean([x[:, j].std() for j in range(4)])
    weight, bias = random.normal(size=(3, 4)), random.normal(size=3)
    value, _ = seen["loss"](np.hstack([weight, bias[:, None]]).ravel())
    assert value == pytest.approx(mean_cross_entropy(standard @ weight.T + bias, labels) + 0.15 * (weight**2).sum(), rel=1e-5)

    fit_cosine(features, labels, 3, 0.3)
    scale = 7.0
    cosine = np.array([[row @ w / np.linalg.norm(row) / np.linalg.norm(w) for w in weight] for row in x])
    value, _ = seen["loss"](np.append(weight.ravel(), scale))
    assert value == pytest.approx(mean_cross_entropy(scale * cosine, labels) + 0.15 * 3 * scale**2, rel=1e-5)


def test_cosine_finds_as_good_an_optimum_as_an_independent_search() -> None:
    features, labels = blobs(seed=2)
    penalty = 1e-3
    x = features.astype(float)
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)

    def loss(flat: np.ndarray) -> float:
        weight = flat[:-1].reshape(3, 4)
        cosine = rows @ (weight / np.linalg.norm(weight, axis=1, keepdims=True)).T
        return mean_cross_entropy(flat[-1] * cosine, labels) + penalty / 2 * 3 * float(flat[-1]) ** 2

    start = np.append(np.stack([rows[labels == c].mean(axis=0) for c in range(3)]).ravel(), 10.0)
    best = minimize(loss, start, method="BFGS").fun
    scores = fit_cosine(features, labels, 3, penalty)
    scale = np.sqrt(max((scores(np.eye(4, dtype=np.float32))[:, 0] ** 2).sum(), 0))
    assert mean_cross_entropy(scores(features).astype(float), labels) + penalty / 2 * 3 * scale**2 == pytest.approx(best, abs=2e-3)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 5), d=st.integers(2, 6))
def test_nme_equals_loops_over_distances_to_means(seed: int, classes: int, d: int) -> None:
    features, labels = blobs(seed, classes, 6, d)
    fresh = np.random.default_rng(seed).normal(size=(15, d))
    means = []
    for c in range(classes):
        total = np.zeros(d)
        for row in features[labels == c].astype(float):
            total += row / np.linalg.norm(row)
        means.append(total / np.linalg.norm(total))
    scores = fit_nme(features, labels, classes, 0.0)(fresh)
    for row, x in enumerate(fresh):
        distances = [float(((x / np.linalg.norm(x) - mean) ** 2).sum()) for mean in means]
        assert np.allclose(1 - scores[row], np.array(distances) / 2, atol=1e-5)


@pytest.mark.parametrize("name", sorted(FITTERS))
@pytest.mark.parametrize("counts", [(30, 30, 30), (60, 5, 1)])
def test_separable_classes_are_all_told_apart(name: str, counts: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), counts)
    features = (8 * np.eye(3)[labels] + random.normal(size=(len(labels), 3)) * 0.3).astype(np.float32)
    scores = FITTERS[name](features, labels, 3, 1e-3)
    assert np.array_equal(scores(features).argmax(axis=1), labels)


@pytest.mark.parametrize("name", sorted(FITTERS))
def test_a_common_scale_of_the_features_changes_no_prediction(name: str) -> None:
    features, labels = blobs(4)
    fresh = blobs(5)[0]
    plain = FITTERS[name](features, labels, 3, 1e-3)(fresh)
    scaled = FITTERS[name](features * 64, labels, 3, 1e-3)(fresh * 64)
    assert np.array_equal(plain.argmax(axis=1), scaled.argmax(axis=1))


def test_softmax_does_not_see_a_common_shift_of_the_features() -> None:
    features, labels = blobs(4)
    fresh = blobs(5)[0]
    plain, shifted = fit_softmax(features, labels, 3, 1e-2)(fresh), fit_softmax(features + 8, labels, 3, 1e-2)(fresh + 8)
    assert np.abs(probabilities(plain) - probabilities(shifted)).max() < 5e-3


@pytest.mark.parametrize("name", ["nme", "cosine"])
def test_lengths_of_single_vectors_do_not_matter_where_directions_decide(name: str) -> None:
    features, labels = blobs(4)
    fresh = blobs(5)[0]
    lengths = np.random.default_rng(0).uniform(0.1, 10, (len(features), 1)).astype(np.float32)
    plain = FITTERS[name](features, labels, 3, 1e-3)(fresh)
    assert np.allclose(plain, FITTERS[name](features * lengths, labels, 3, 1e-3)(fresh * 3), atol=1e-2 * np.abs(plain).max())


@pytest.mark.parametrize("name", sorted(FITTERS))
def test_renaming_the_classes_renames_the_predictions(name: str) -> None:
    features, labels = blobs(6)
    renamed = np.array([2, 0, 1])
    plain = FITTERS[name](features, labels, 3, 1e-2)(features).argmax(axis=1)
    assert np.array_equal(renamed[plain], FITTERS[name](features, renamed[labels], 3, 1e-2)(features).argmax(axis=1))


@pytest.mark.parametrize("name", sorted(FITTERS))
def test_one_class_equal_rows_and_zero_rows_stay_finite(name: str) -> None:
    for features, labels, classes in (
        (np.ones((4, 3), dtype=np.float32), np.zeros(4, dtype=np.int64), 1),
        (np.ones((4, 3), dtype=np.float32), np.array([0, 0, 1, 1]), 2),
        (np.zeros((4, 3), dtype=np.float32), np.array([0, 0, 1, 1]), 2),
    ):
        scores = FITTERS[name](features, labels, classes, 1e-3)(np.vstack([features, np.eye(3, dtype=np.float32)]))
        assert scores.shape == (7, classes) and np.isfinite(scores).all()


@pytest.mark.parametrize("name", sorted(FITTERS))
def test_the_fit_neither_changes_its_input_nor_varies(name: str) -> None:
    features, labels = blobs(7)
    before = features.copy()
    first, second = (FITTERS[name](features, labels, 3, 1e-3)(features) for _ in range(2))
    assert np.array_equal(features, before) and np.array_equal(first, second)
