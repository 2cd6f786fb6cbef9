"""`gaussian`: a normal distribution a class, its mean and covariance, in place of the class's rows.

AdaGauss (Rypesc et al., "Task-recency bias strikes back: adapting covariances in exemplar-free class incremental learning",
NeurIPS 2024) keeps these of each class, and carries them from task to task by drawing from them. Here the rows drawn have the
stored moments themselves and not only in expectation, so that nothing but the map that carries them changes a mean or a full covariance.

The covariance is kept as its Cholesky factor L, S = L L', lower triangle only. The product of any factor is a covariance, however
the factor was rounded; and rounding by 2^-11, that of float16, costs the standard deviations of S and not its variances: directions
survive that have a millionth of the largest variance, where a covariance in float16 loses all below a thousandth, and its definiteness.

A diagonal covariance has the standard deviations alone for a factor: d numbers in place of d (d + 1) / 2. Of x A + b the variances are
kept, diag(A' S A), and the correlations lost in each task. Of a class of at most d rows they are not exact: so few rows have correlations
by chance, which A turns into variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from carryover.seeds import generator

__all__ = ["GaussianForm"]


class GaussianForm:
    """Mean and covariance of each class.

    Args:
        samples: the most rows of a class that are drawn, or d + 1 where that is more, for fewer cannot have a given covariance
            of d dimensions. A class never gets more rows than it had: what reads them may go by their number.
        storage: the number type of the factors. A class takes 4 d bytes for its mean, d (d + 1) for a full factor in float16 and
            2 d for a diagonal one, twice that in float32.
        covariance: "full", or "diagonal": the variance of each dimension alone.
    """

    name = "gaussian"
    device = "auto"

    def __init__(
        self,
        samples: Annotated[int, Field(gt=0)] = 500,
        storage: Literal["float16", "float32"] = "float16",
        covariance: Literal["full", "diagonal"] = "full",
    ) -> None:
        self.samples = samples
        self.storage = storage
        self.covariance = covariance

    def condense(self, features: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Return the moments of features [n, d], class by class, counts[c] rows of class c; covariances divide by the number of rows.

        Returns:
            `means` float32 [classes, d]; `factors` [classes, d (d + 1) / 2], the rows of each lower triangle one after another, or
            [classes, d], the standard deviations, over `scales` float32 [classes], powers of two that keep them within float16;
            `counts` int32 [classes], the rows to be drawn.

        Raises:
            ValueError: if features are no matrix, or counts are not positive or do not add up to its rows.
        """
        rows, sizes = check_rows(features, counts)
        d = rows.shape[1]
        triangle = np.tril_indices(d)
        means = np.zeros((len(sizes), d))
        diagonal = self.covariance == "diagonal"
        factors = np.zeros((len(sizes), d if diagonal else len(triangle[0])))
        for c, own in enumerate(np.split(rows, np.cumsum(sizes)[:-1]) if len(sizes) else []):
            means[c] = own.mean(axis=0)
            factors[c] = own.std(axis=0) if diagonal else _factor(own - means[c])[triangle]
        # Powers of two, so that writing what was read changes nothing.
        exponents = np.frexp(np.abs(factors).max(axis=1, initial=0))[1].clip(-126, 127)
        scales = np.ldexp(1.0, exponents)
        return {
            "means": means.astype(np.float32),
            "factors": (factors / scales[:, None]).astype(self.storage),
            "scales": scales.astype(np.float32),
            "counts": np.minimum(sizes, max(self.samples, d + 1)).astype(np.int32),
        }


def expand(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return features float32 [n, d] and counts int32 [classes]: rows with the stored means and covariances, the same each time.

    Raises:
        ValueError: if the arrays do not fit together.
        KeyError: if one is missing.
    """
    means, factors, scales, counts = (arrays[name] for name in ("means", "factors", "scales", "counts"))
    if means.ndim != 2 or means.dtype != np.float32 or scales.dtype != np.float32 or factors.dtype not in (np.float16, np.float32):
        raise ValueError(f"means are {means.dtype} {means.shape}, factors {factors.dtype} and scales {scales.dtype}")
    classes, d = means.shape
    if factors.shape not in ((classes, d * (d + 1) // 2), (classes, d)) or scales.shape != (classes,) or counts.shape != (classes,):
        raise ValueError(f"factors {factors.shape}, scales {scales.shape} and counts {counts.shape} do not fit means {means.shape}")
    if counts.dtype != np.int32 or (counts < 1).any():
        raise ValueError(f"counts are {counts.dtype}, the least of them {counts.min(initial=1)}: each class has at least one row")
    features = np.empty((int(counts.sum()), d), dtype=np.float32)
    factor = np.zeros((d, d))
    triangle = np.tril_indices(d)
    start = 0
    for c, count in enumerate(counts.tolist()):
        random = generator(0, "gaussian", c)
        if factors.shape[1] == d:
            deviations = _standard(count, d, random) * factors[c]
        else:
            factor[triangle] = factors[c]
            # n rows have n - 1 directions; so has the factor of a class of n rows, whose further columns are zero.
            rank = min(count - 1, d)
            deviations = _white(count, rank, random) @ factor[:, :rank].T
        features[start : start + count] = means[c] + float(scales[c]) * deviations
        start += count
    return features, counts


def check_rows(features: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features as float64 [n, d] and counts as int64 [classes].

    Raises:
        ValueError: if features are no finite matrix, or counts are not positive or do not add up to its rows.
    """
    rows, sizes = np.asarray(features, dtype=np.float64), np.asarray(counts, dtype=np.int64)
    if rows.ndim != 2 or sizes.ndim != 1 or (sizes < 1).any() or sizes.sum() != len(rows):
        raise ValueError(f"Features {rows.shape} need a positive count of rows for each class, that add up to theirs; got {sizes.tolist()}.")
    if not np.isfinite(rows).all():
        raise ValueError("Features must be finite; some are not.")
    return rows, sizes


def _factor(centred: np.ndarray) -> np.ndarray:
    """Return L [d, d], lower triangular with a diagonal of no sign, L L' the covariance of rows [n, d] of mean zero.

    It is the triangle of a QR decomposition of the rows: the covariance itself is never formed, which would square its condition
    number, and may be singular. The column of ones takes up the direction that centring took from the rows, which leaves n - 1.
    """
    n, d = centred.shape
    extended = np.hstack([np.ones((n, 1)), centred])
    upper = np.asarray(np.linalg.qr(extended, mode="r"))[1:, 1:] / np.sqrt(n)
    signs = np.where(np.diag(upper) < 0, -1.0, 1.0)
    factor = np.zeros((d, d))
    factor[:, : len(upper)] = (signs[:, None] * upper).T
    return factor


def _white(n: int, rank: int, random: np.random.Generator) -> np.ndarray:
    """Return normal rows [n, rank], centred and whitened: mean 0 and covariance I; rank < n."""
    extended = np.hstack([np.ones((n, 1)), random.normal(size=(n, rank))])
    white: np.ndarray = np.linalg.qr(extended).Q[:, 1:] * np.sqrt(n)
    return white


def _standard(n: int, d: int, random: np.random.Generator) -> np.ndarray:
    """Return normal rows [n, d], each column of mean 0 and variance 1: uncorrelated where n > d, as fewer rows cannot be."""
    if n > d:
        return _white(n, d, random)
    rows = random.normal(size=(n, d))
    rows -= rows.mean(axis=0)
    # A single row has no variance, and its class none to give it.
    standard: np.ndarray = rows / rows.std(axis=0) if n > 1 else rows
    return standard
