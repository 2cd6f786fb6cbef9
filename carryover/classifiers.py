"""Classifiers over stored features: fitted on a memory of old and new classes alike, the backbone untouched.

`nme` is the nearest mean of exemplars (Rebuffi et al., "iCaRL", CVPR 2017, algorithm 1); `softmax` the feature
classifier of Iscen et al. (ECCV 2020, section 3.3), trained by cross-entropy; `cosine` the same with cosine logits
(Hou et al., "LUCIR", CVPR 2019). Both trained ones minimise a smooth function by L-BFGS from a fixed start: no seed,
no learning rate, the same answer every time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from carryover.selection import unit

ITERATIONS = 200


def fit_nme(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the scores of the nearest mean: minus half the squared distance to it, on features of unit length.

    Args:
        features: [n, d]. labels: int [n], each class present. classes: how many. penalty: not used.
    """
    rows = unit(features)
    means = unit(np.stack([rows[labels == c].mean(axis=0) for c in range(classes)]))
    # Both sides have length one, so the nearest mean is the one with the largest product.
    return lambda x: unit(x) @ means.T


def fit_softmax(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
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
    return lambda z: ((z - centre) / spread) @ weight[:, :-1].T + weight[:, -1]


def fit_cosine(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
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
    return lambda z: scale * unit(z) @ direction.T


FITTERS = {"nme": fit_nme, "softmax": fit_softmax, "cosine": fit_cosine}


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
