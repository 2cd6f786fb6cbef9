"""Drift: how far an adapter carries features from where they truly go, measured on test images, which no method looks at.

A test image of an old class has a feature under the network that learned the class, `stored`; under today's network, `current`; and
one that the adapters of all tasks since have made of the stored one, `carried`. Actual drift is current - stored, predicted drift is
carried - stored. An adapter that compounds errors shows them by age, the number of tasks since the class was learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

MEASURES = ["cosine", "relative_error", "explained"]
RIGID = 1e-4  # of a class's drift, what deviates from its mean; less is rounding


@dataclass(frozen=True)
class ClassDrift:
    """Predicted against actual drift of one class's test images.

    Args:
        label: of the class.
        learned: position of the task that brought the class, from 0.
        age: tasks since then.
        images: how many were measured.
        cosine: mean over images of the cosine between predicted and actual drift, of those where neither is zero.
        relative_error: |predicted - actual| / |actual|, Frobenius norms over the class's images; 0 is perfect, and 1 is what
            doing nothing scores.
        explained: share of the variance of actual drift that the prediction explains, 1 - |predicted - actual|^2 / |actual -
            mean actual|^2: above 0 it beats the best shift of the whole class, which can only be known afterwards. None for a class
            that moved as one.
    """

    label: int
    learned: int
    age: int
    images: int
    cosine: float | None
    relative_error: float | None
    explained: float | None

    def row(self) -> dict[str, float | int | None]:
        """Return the values by name, rounded for a file."""
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}


def measure(stored: np.ndarray, carried: np.ndarray, current: np.ndarray, labels: np.ndarray, sizes: Sequence[int]) -> list[ClassDrift]:
    """Return the drift of each class that is at least one task old and has test images.

    What is 0 / 0, as for a network that did not move at all, is None.

    Args:
        stored: features [n, d] under the network that learned each image's class.
        carried: the same, carried by every adapter since, [n, d].
        current: features [n, d] of the same images under the current network.
        labels: class of each image, [n].
        sizes: number of classes of each task so far.

    Raises:
        ValueError: if shapes do not fit each other.
    """
    if not stored.shape == carried.shape == current.shape or labels.shape != stored.shape[:1]:
        raise ValueError(f"features of {stored.shape}, {carried.shape} and {current.shape} with labels of {labels.shape} do not belong together")
    learned = np.repeat(np.arange(len(sizes)), sizes)
    rows = []
    for label in range(sum(sizes[:-1])):
        mine = labels == label
        if mine.any():
            predicted, actual = (np.asarray(side[mine], dtype=np.float64) - stored[mine] for side in (carried, current))
            rows.append(_class_drift(label, int(learned[label]), len(sizes) - 1 - int(learned[label]), predicted, actual))
    return rows


def _class_drift(label: int, learned: int, age: int, predicted: np.ndarray, actual: np.ndarray) -> ClassDrift:
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(actual, axis=1)
    moved = lengths > 0
    cosine = float(np.mean((predicted * actual).sum(axis=1)[moved] / lengths[moved])) if moved.any() else None
    error, size, spread = (float(np.linalg.norm(side)) for side in (predicted - actual, actual, actual - actual.mean(axis=0)))
    # A class that moved as one has no variance to explain; what rounding leaves of it is none either.
    explained = 1 - (error / spread) ** 2 if spread > RIGID * size else None
    return ClassDrift(label, learned, age, len(actual), cosine, error / size if size > 0 else None, explained)


def project(current: np.ndarray, others: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return `current` [n, d] and each of `others` [m, d] in the plane of the first two principal components of `current`, [., 2].

    The plane is fitted once, so that all of them can be seen in one picture. Of fewer than two dimensions or rows the rest is zero.
    """
    from sklearn.decomposition import PCA

    components = min(2, *current.shape)
    with np.errstate(invalid="ignore"):  # of one row, or without variance, shares of variance are 0 / 0
        plane = PCA(components, svd_solver="full").fit(current)
    flat = [plane.transform(some) if len(some) else np.empty((0, components)) for some in (current, *others)]
    return [np.pad(some, ((0, 0), (0, 2 - components))) for some in flat]
