"""Selection: which rows of a class are worth keeping, as an order whose every prefix is the choice for a smaller budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from carryover.seeds import generator

# Classes of up to so many rows have the products of all pairs of rows computed at once: 128 MiB at most.
_PAIRS_UP_TO = 4096
# Scores closer than this are ties: rounding tells them apart, for equal rows may differ in their products' last bits.
_TIE = 1e-11


def unit(features: np.ndarray) -> np.ndarray:
    """Return the rows [n, d] scaled to length one; a zero row stays zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1)


def herding(features: np.ndarray, limit: int | None = None) -> np.ndarray:
    """Return the herding order of features [n, d], the first `limit` of it (all by default): int64 [min(n, limit)].

    Rebuffi et al., "iCaRL", CVPR 2017, algorithm 4: p_k = argmin_x |mu - (f(x) + sum_{j<k} f(p_j)) / k| over the rows
    that are not yet chosen, on features of unit length. Ties go to the lower row.

    Since |k mu - s - f|^2 = |k mu - s|^2 - 2 <k mu - s, f> + |f|^2, a row's score <k mu - s, f> - |f|^2 / 2 rises by its
    product with the mean at each step and falls by its product with the row just chosen. One matrix product gives all of
    those at once, and a step is O(n); where that matrix is too large, a step is a matrix-vector product, O(n d).
    """
    rows = unit(np.asarray(features, dtype=np.float64))
    n = len(rows)
    count = n if limit is None else min(n, limit)
    order = np.empty(count, dtype=np.int64)
    towards_mean = rows @ rows.mean(axis=0) if n else np.empty(0)
    # For a few rows the products with those alone are less work.
    products = rows @ rows.T if n <= _PAIRS_UP_TO and count > n // 16 else None
    score = (rows**2).sum(axis=1) / -2
    for k in range(count):
        score += towards_mean
        chosen = order[k] = (score >= score.max() - _TIE).argmax()
        score -= products[chosen] if products is not None else rows @ rows[chosen]
        score[chosen] = -np.inf
    return order


def _random(features: np.ndarray, limit: int | None, seed: int, label: int) -> np.ndarray:
    return generator(seed, "random selection", label).permutation(len(features))[:limit].astype(np.int64)


def _herding(features: np.ndarray, limit: int | None, seed: int, label: int) -> np.ndarray:
    return herding(features, limit)


def _all(features: np.ndarray, limit: int | None, seed: int, label: int) -> np.ndarray:
    return np.arange(len(features), dtype=np.int64)[:limit]


SELECTORS: dict[str, Callable[[np.ndarray, int | None, int, int], np.ndarray]] = {"herding": _herding, "random": _random, "all": _all}


def order(selector: str, features: np.ndarray, labels: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """Return row numbers of features [n, d], class by class in rising label, each class in its order of selection.

    Args:
        selector: "herding", "random", or "all" (the order in which they stand).
        features: [n, d].
        labels: int [n].
        limit: the most rows kept of a class; None keeps all. A smaller class keeps all it has.
        seed: of the random selector.
    """
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen.append(rows[SELECTORS[selector](features[rows], limit, seed, int(label))])
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
