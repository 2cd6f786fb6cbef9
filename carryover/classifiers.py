"""Classifiers over stored features: fitted on a memory of old and new classes alike, the backbone untouched.

`nme` is the nearest mean of exemplars (Rebuffi et al., "iCaRL", CVPR 2017, algorithm 1); `softmax` the feature
classifier of Iscen et al. (ECCV 2020, section 3.3), trained by cross-entropy; `cosine` the same with cosine logits
(Hou et al., "LUCIR", CVPR 2019). Both trained ones minimise a smooth function by L-BFGS from a fixed start: no seed,
no learning rate, the same answer every time. `gaussian` is quadratic discriminant analysis with shrunk covariances
(Friedman, "Regularized discriminant analysis", JASA 1989; Goswami et al., "FeCAM", NeurIPS 2023), in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

from carryover.adapters import Head
from carryover.selection import unit

ITERATIONS = 200
# What a shape is made of: the number of classes and the dimension of features.
_C, _D = "classes", "d"


class Classifier(Protocol):
    """A fitted classifier: scores [n, classes] of features [n, d], and the arrays that it is made of.

    Attributes:
        shapes: of each array, in terms of the number of "classes" and of the dimension "d".
    """

    shapes: ClassVar[dict[str, tuple[str, ...]]]

    def __call__(self, features: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Linear:
    """Scores W (f - centre) / spread + b."""

    shapes: ClassVar[dict[str, tuple[str, ...]]] = {"weight": (_C, _D), "bias": (_C,), "centre": (_D,), "spread": ()}
    weight: np.ndarray
    bias: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        scores: np.ndarray = ((features - self.centre) / self.spread) @ self.weight.T + self.bias
        return scores


@dataclass(frozen=True)
class Cosine:
    """Scores s cos(w_c, f), with rows w_c of length one."""

    shapes: ClassVar[dict[str, tuple[str, ...]]] = {"weight": (_C, _D), "scale": ()}
    weight: np.ndarray
    scale: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self.scale * unit(features) @ self.weight.T
        return scores


@dataclass(frozen=True)
class Gaussian:
    """Scores -|A_c (f - mu_c)|^2 / 2 - log det A_c^-1, with A_c the whitening of class c: log densities, but for a constant."""

    shapes: ClassVar[dict[str, tuple[str, ...]]] = {"centres": (_C, _D), "whitening": (_C, _D, _D), "determinants": (_C,)}
    centres: np.ndarray
    whitening: np.ndarray
    determinants: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        points = features.astype(np.float32)
        found = np.empty((len(points), len(self.centres)), dtype=np.float32)
        for c, centre in enumerate(self.centres):
            white = (points - centre) @ self.whitening[c].T
            found[:, c] = -np.einsum("ij,ij->i", white, white) / 2 - self.determinants[c]
        return found


KINDS: dict[str, type[Linear] | type[Cosine] | type[Gaussian]] = {"linear": Linear, "cosine": Cosine, "gaussian": Gaussian}


def of_head(head: Head) -> Linear | Cosine:
    """Return a network's own head as a classifier."""
    if head.scale is not None:
        return Cosine(unit(head.weight), np.asarray(head.scale, dtype=np.float32))
    return Linear(head.weight, head.bias, np.zeros(head.weight.shape[1], dtype=np.float32), np.ones((), dtype=np.float32))


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of scores [n, classes] over classes, float32.

    Of `softmax`, `cosine`, `gaussian` and heads these are the probabilities that they model. Nearest means have none: their scores lie
    between -1 and 1, so the shares are alike, and only their order says something.
    """
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: np.ndarray = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def fit_nme(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> Cosine:
    """Return the scores of the nearest mean on features of unit length: cosines, which fall as the distance to a mean grows.

    Args:
        features: [n, d]. labels: int [n], each class present. classes: how many. penalty: not used.
    """
    rows = unit(features)
    means = unit(np.stack([rows[labels == c].mean(axis=0) for c in range(classes)]))
    # Both sides have length one, so the nearest mean is the one with the largest product.
    return Cosine(means, np.ones((), dtype=np.float32))


def fit_softmax(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> Linear:
    """Return the logits of multinomial logistic regression on standardised features.

    Args:
        features: [n, d]. labels: int [n]. classes: how many. penalty: lambda of the term lambda/2 |W|^2 beside the mean
            cross-entropy.
    """
    centre, spread = features.mean(axis=0), float(features.std(axis=0).mean()) or 1.0
    x = np.ascontiguousarray((features - centre) / spread, dtype=np.float32)
    extended = np.hstack([x, np.ones((len(x), 1), dtype=np.float32)])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat.reshape(classes, -1).astype(np.float32)
        value, residual = _cross_entropy(extended @ weight.T, labels)
        gradient = (residual.T @ extended).astype(np.float64)
        gradient[:, :-1] += penalty * weight[:, :-1]
        return value + penalty / 2 * float((weight[:, :-1].astype(np.float64) ** 2).sum()), gradient.ravel()

    weight = _minimise(loss, np.zeros(classes * extended.shape[1])).reshape(classes, -1).astype(np.float32)
    return Linear(weight[:, :-1], weight[:, -1], centre, np.asarray(spread, dtype=np.float32))


def fit_cosine(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> Cosine:
    """Return the logits s cos(w_c, f), w and s learned from the class means on.

    Args:
        features: [n, d]. labels: int [n], each class present. classes: how many. penalty: lambda of the term
            lambda/2 (classes) s^2, without which s grows for ever on separable features.
    """
    x = unit(features).astype(np.float32)
    start = np.stack([x[labels == c].mean(axis=0) for c in range(classes)]).astype(np.float64)
    start = unit(start)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        scale, weight = float(flat[-1]), flat[:-1].reshape(classes, -1)
        lengths = np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-12)
        direction = weight / lengths
        cosines = x @ direction.T.astype(np.float32)
        value, residual = _cross_entropy(np.float32(scale) * cosines, labels)
        towards = scale * (residual.T @ x).astype(np.float64)
        # The derivative of w / |w| takes out the part of the gradient along w.
        gradient = (towards - (towards * direction).sum(axis=1, keepdims=True) * direction) / lengths
        slope = float((residual * cosines).sum(dtype=np.float64)) + penalty * classes * scale
        return value + penalty / 2 * classes * scale**2, np.append(gradient.ravel(), slope)

    flat = _minimise(loss, np.append(start.ravel(), 10.0))
    scale, direction = flat[-1], unit(flat[:-1].reshape(classes, -1)).astype(np.float32)
    return Cosine(direction, np.asarray(scale))


def fit_gaussian(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> Gaussian:
    """Return log densities, but for a constant: -|L_c^-1 (x - mu_c)|^2 / 2 - log det L_c, with L_c L_c' the covariance of class c.

    A covariance of few rows is singular or nearly so. It is the mean of the class's own and of the pooled one within
    classes, weighted by their n_c - 1 rows and by d, as if d rows of the pooled distribution had been seen beside its own; the pooled
    one is drawn in the same way to the sphere of its own mean variance. So a class of one row has the pooled
    covariance, and where all have one this is the nearest mean. Classes count as equally frequent.

    FeCAM compares Mahalanobis distances alone. With the log-determinants validation accuracy was higher where classes have
    like numbers of rows, and lower where one has a hundred and another a single row.

    Args:
        features: [n, d]. labels: int [n], each class present. classes: how many. penalty: added to every variance, as a
            share of the mean variance within classes.
    """
    x = features.astype(np.float64)
    d = x.shape[1]
    counts = np.bincount(labels, minlength=classes)
    means = np.stack([x[labels == c].mean(axis=0) for c in range(classes)])
    x -= means[labels]
    rows = len(x) - classes
    scatter = x.T @ x
    # Without any spread within classes, that between them gives the scale.
    variance = float(np.trace(scatter)) / (d * max(rows, 1)) or float(means.var(axis=0).mean()) or 1.0
    sphere = variance * np.eye(d)
    pooled = (scatter + d * sphere) / (rows + d)
    whitening = np.empty((classes, d, d), dtype=np.float32)
    determinants = np.empty(classes, dtype=np.float32)
    for c in range(classes):
        own = x[labels == c]
        lower = np.linalg.cholesky((own.T @ own + d * pooled) / (counts[c] - 1 + d) + penalty * sphere)
        whitening[c] = solve_triangular(lower, np.eye(d), lower=True)
        determinants[c] = np.log(np.diag(lower)).sum()
    return Gaussian(means.astype(np.float32), whitening, determinants)


Fitter = Callable[[np.ndarray, np.ndarray, int, float], Classifier]
FITTERS: dict[str, Fitter] = {
    "nme": fit_nme,
    "softmax": fit_softmax,
    "cosine": fit_cosine,
    "gaussian": fit_gaussian,
}


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy of logits [n, c] and its derivative by them [n, c]."""
    n = len(labels)
    rows = np.arange(n)
    shifted = logits - logits.max(axis=1, keepdims=True)
    at_label = shifted[rows, labels].astype(np.float64)
    np.exp(shifted, out=shifted)
    total = shifted.sum(axis=1, keepdims=True)
    value = float((np.log(total[:, 0].astype(np.float64)) - at_label).mean())
    shifted /= total
    shifted[rows, labels] -= 1
    shifted /= n
    return value, shifted


def _minimise(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray) -> np.ndarray:
    # The losses are computed in single precision: a tolerance below its noise would only burn iterations.
    found: np.ndarray = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "ftol": 1e-6, "gtol": 1e-5}).x
    return found
