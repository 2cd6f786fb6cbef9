"""Where the gap between carried features and the oracle's comes from: from where a class lies, or from how it spreads about its mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Rows = tuple[np.ndarray, np.ndarray]
"""Features [n, d] and their labels, int [n]."""


@dataclass(frozen=True)
class Parts:
    """A carried memory taken apart.

    Args:
        at_true_means: the carried rows of each class, shifted so that their mean is the oracle's.
        true_about_means: the oracle's rows of each class, shifted so that their mean is the carried rows'.
        offset: mean over the old classes of |carried mean - oracle's mean| over the square root of the trace of the oracle's covariance.
        spread: mean over the old classes of the trace of the carried rows' covariance over that of the oracle's: below 1 where an
            adapter draws a class together, as regression on what it cannot tell apart does.
    """

    at_true_means: Rows
    true_about_means: Rows
    offset: float
    spread: float


def taken_apart(carried: Rows, oracle: Rows, old: int) -> Parts:
    """Return a carried memory with either part replaced by the oracle's.

    Args:
        carried: what an adapter made of the memory.
        oracle: the same classes' features under the current network.
        old: how many classes, the first of them, were carried at all.

    Raises:
        ValueError: if the classes differ, or none is old.
    """
    features, labels = carried
    true, true_labels = oracle
    classes = np.unique(labels)
    if not np.array_equal(classes, np.unique(true_labels)):
        raise ValueError("The carried memory and the oracle's are not of the same classes.")
    if not (classes < old).any():
        raise ValueError("No class has been carried yet: there is no gap to take apart.")
    shifted, about = np.array(features), np.array(true)
    offsets, spreads = [], []
    for label in classes:
        here, there = labels == label, true_labels == label
        mean, true_mean = features[here].mean(axis=0), true[there].mean(axis=0)
        shifted[here] += true_mean - mean
        about[there] += mean - true_mean
        if label < old:
            trace = max(float(true[there].var(axis=0).sum()), float(np.finfo(np.float32).tiny))
            offsets.append(float(np.linalg.norm(mean - true_mean)) / trace**0.5)
            spreads.append(float(features[here].var(axis=0).sum()) / trace)
    return Parts((shifted, labels), (about, true_labels), float(np.mean(offsets)), float(np.mean(spreads)))
