"""What adapters share whose memory has a form of its own: the vectors that the form gives are carried by a map for vectors."""

from __future__ import annotations

from typing import Self

import numpy as np

from carryover.adapters import Adapter, Head


class CarriedForm(Adapter):
    """An adapter that leaves carrying to the map that `_map` makes."""

    def _map(self) -> Adapter:
        """Return the map, not fitted yet."""
        raise NotImplementedError

    def _placed(self) -> Adapter:
        map_ = self._map()
        map_.device = self.device
        return map_

    def fit(self, previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None = None, head: Head | None = None) -> Self:
        """Fit the map on pairs [n, d]."""
        self.map_ = self._placed().fit(previous, current, labels, head)
        return self

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Carry features [m, d] by the map."""
        return self.map_.transform(features)

    def state(self) -> dict[str, np.ndarray]:
        """Return the map's arrays."""
        return self.map_.state()

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take back the map's arrays."""
        self.map_ = self._placed().restore(arrays)
        return self
