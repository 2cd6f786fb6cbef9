"""`sdc`: semantic drift compensation, the kernel-weighted mean drift of the current images near each stored vector.

Yu et al., "Semantic drift compensation for class-incremental learning", CVPR 2020, equations 8 and 9:
x += sum_i w_i d_i / sum_i w_i, with d_i = current_i - previous_i and w_i = exp(-|previous_i - x|^2 / 2 sigma^2).
The paper moves class means; here every stored vector moves, and a mean moves as any vector does.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field

from carryover.adapters import Adapter, Head, check_features, check_pairs

__all__ = ["SDCAdapter"]

# Vectors at a time: their weights take 40 MB for ten thousand pairs.
CHUNK = 1024


class SDCAdapter(Adapter):
    """Semantic drift compensation.

    Args:
        bandwidth: sigma, as a share of the features' spread (the root mean squared distance of the previous features
            from their mean). The paper's 0.3 is for features of unit length; scaled to the features, no weight vanishes
            because of the network's units.
    """

    def __init__(self, bandwidth: Annotated[float, Field(gt=0)] = 0.3) -> None:
        self.bandwidth = bandwidth

    def fit(self, previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None = None, head: Head | None = None) -> Self:
        """Keep the pairs [n, d] and scale the bandwidth to them."""
        before, after = check_pairs(previous, current)
        self.previous_ = before
        self.drift_ = after - before
        spread = float(np.sqrt(((before - before.mean(axis=0)) ** 2).sum(axis=1).mean()))
        self.sigma_ = np.float32(self.bandwidth * spread) if spread > 0 else np.float32(1)
        return self

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Move each of the features [m, d] by the weighted mean drift around it.

        Weights are relative to the nearest pair's, so that a vector far from all pairs takes the nearest one's drift
        where the plain formula would be 0 / 0.
        """
        stored = check_features(features, self.previous_.shape[1])
        moved = np.empty_like(stored)
        # The exponent -|x - p|^2 / 2 s^2 is (<x, p> - |p|^2 / 2) / s^2 and a term that all pairs share, which the division
        # by the sum of weights takes out again. Features are centred, for large ones would lose their digits.
        centre = self.previous_.mean(axis=0)
        pairs = (self.previous_ - centre) / self.sigma_
        half_squared = (pairs**2).sum(axis=1) / 2
        for start in range(0, len(stored), CHUNK):
            chunk = stored[start : start + CHUNK]
            weights = ((chunk - centre) / self.sigma_) @ pairs.T
            weights -= half_squared
            weights -= weights.max(axis=1, keepdims=True)
            np.exp(weights, out=weights)
            moved[start : start + CHUNK] = chunk + (weights @ self.drift_) / weights.sum(axis=1, keepdims=True)
        return moved

    def state(self) -> dict[str, np.ndarray]:
        """Return the pairs and the bandwidth."""
        return {"previous": self.previous_, "drift": self.drift_, "sigma": np.array([self.sigma_], dtype=np.float32)}

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take back the pairs and the bandwidth."""
        self.previous_, self.drift_, self.sigma_ = arrays["previous"], arrays["drift"], arrays["sigma"][0]
        return self
