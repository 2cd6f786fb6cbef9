"""`linear`: the affine map that best predicts current features from previous ones, by ridge regression in closed form.

Hoerl and Kennard, "Ridge regression", Technometrics 1970: A = (X'X + alpha I)^-1 X'Y on centred X and Y. The penalty
pulls towards the identity, not towards zero: it is the *drift* Y - X that is regressed on X. Where Y has another dimension
than X there is no drift, and the penalty pulls towards the mean of Y.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field

from carryover.adapters import Adapter, Head, check_features, check_pairs

__all__ = ["LinearAdapter"]


class LinearAdapter(Adapter):
    """An affine map x A + b, by least squares with a ridge.

    Args:
        ridge: the penalty alpha as a share of the features' mean variance times the number of pairs, so that its meaning
            depends neither on the network's units nor on the number of images.
    """

    def __init__(self, ridge: Annotated[float, Field(ge=0)] = 0.01) -> None:
        self.ridge = ridge

    def fit(self, previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None = None, head: Head | None = None) -> Self:
        """Solve for `matrix_` [d, e] and `offset_` [e] on pairs [n, d] and [n, e]; the pipeline's have e = d."""
        before, after = (side.astype(np.float64) for side in check_pairs(previous, current, same_width=False))
        d = before.shape[1]
        square = after.shape[1] == d
        centre, drift = before.mean(axis=0), after - before if square else after
        x = before - centre
        gram = x.T @ x
        penalty = self.ridge * np.trace(gram) / d
        target = x.T @ (drift - drift.mean(axis=0))
        if penalty > 1e-9 * np.linalg.norm(gram):
            slope = np.linalg.solve(gram + penalty * np.eye(d), target)
        else:
            # lstsq, for without a ridge dead features make the system singular: the least solution leaves them alone.
            slope = np.linalg.lstsq(gram + penalty * np.eye(d), target, rcond=None)[0]
        self.matrix_ = (np.eye(d) + slope if square else slope).astype(np.float32)
        self.offset_ = (drift.mean(axis=0) - centre @ slope).astype(np.float32)
        return self

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Return features [m, d] @ matrix_ + offset_."""
        carried: np.ndarray = check_features(features, len(self.matrix_)) @ self.matrix_
        carried += self.offset_
        return carried

    def state(self) -> dict[str, np.ndarray]:
        """Return the map."""
        return {"matrix": self.matrix_, "offset": self.offset_}

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take back the map."""
        self.matrix_, self.offset_ = arrays["matrix"], arrays["offset"]
        return self
