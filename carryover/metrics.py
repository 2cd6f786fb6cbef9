"""Metrics of class-incremental learning, for tasks of any sizes.

R[i, j] is the accuracy on task j's classes after task i, the prediction being free among all classes seen. Accuracies
are means over classes, so that A_i, over all classes seen after task i, is the mean of R[i, 0..i] weighted by the
tasks' numbers of classes. On test sets with as many images of each class it is the plain share of correct answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def class_accuracies(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return each class's share of correct predictions, float [classes]; NaN for a class without images."""
    totals = np.bincount(labels, minlength=classes).astype(float)
    correct = np.bincount(labels[predicted == labels], minlength=classes)
    accuracies: np.ndarray = np.divide(correct, totals, out=np.full(classes, math.nan), where=totals > 0)
    return accuracies


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return how many images of class i were taken for class j, int [classes, classes] as [i, j]."""
    counts: np.ndarray = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return counts


def accuracy_row(per_class: np.ndarray, sizes: Sequence[int]) -> tuple[list[float], float]:
    """Return R[i, 0..i] and A_i from the per-class accuracies [classes seen] and the sizes of tasks 0..i.

    Classes without images count in neither.
    """
    parts = np.split(per_class, np.cumsum(sizes)[:-1])
    return [_mean(part) for part in parts], _mean(per_class)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def average_incremental(accuracies: Sequence[float]) -> float:
    """Return the mean of A_0..A_T, the first task included; NaN, before any class with images, does not count."""
    return _mean(np.asarray(accuracies, dtype=float))


def forgetting(matrix: Sequence[Sequence[float]]) -> float:
    """Return the mean over tasks j < T of max_{l<T} R[l, j] - R[T, j]; 0 for a single task.

    Chaudhry et al., "Riemannian walk for incremental learning", ECCV 2018, equation 3. `matrix` is R as its rows
    R[i, 0..i]; before task j arrives R[l, j] does not exist. A task without images (NaN) does not count.
    """
    last = len(matrix) - 1
    drops = [max(matrix[i][j] for i in range(j, last)) - matrix[last][j] for j in range(last)]
    return _mean(np.array(drops)) if drops else 0.0


def backward_transfer(matrix: Sequence[Sequence[float]]) -> float:
    """Return the mean over tasks j < T of R[T, j] - R[j, j]; 0 for a single task. A task without images (NaN) does not count.

    Lopez-Paz and Ranzato, "Gradient episodic memory", NeurIPS 2017, equation 3.
    """
    last = len(matrix) - 1
    changes = [matrix[last][j] - matrix[j][j] for j in range(last)]
    return _mean(np.array(changes)) if changes else 0.0


def gap_closed(method: float, none: float, oracle: float) -> float | None:
    """Return (method - none) / (oracle - none), how much of the loss to drift an adapter recovers.

    None where the oracle is no better than stale features: there was no loss to recover.
    """
    return (method - none) / (oracle - none) if oracle > none else None
