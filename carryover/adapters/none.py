"""`none`: stored features stay as they are, stale, while the backbone moves on. The row every adapter must beat."""

from __future__ import annotations

from typing import Self

import numpy as np

from carryover.adapters import Adapter, Head, check_features, check_pairs

__all__ = ["NoAdapter"]


class NoAdapter(Adapter):
    """The identity."""

    def fit(self, previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None = None, head: Head | None = None) -> Self:
        """Learn nothing of the pairs [n, d]."""
        check_pairs(previous, current)
        return self

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Return the features [m, d] unchanged, as float32."""
        return check_features(features)

    def state(self) -> dict[str, np.ndarray]:
        """Return no arrays."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take back no arrays."""
        return self
