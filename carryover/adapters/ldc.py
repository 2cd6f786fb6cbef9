"""`ldc`: learnable drift compensation, class means carried by the linear map that best predicts current features.

Gomez-Villa et al., "Exemplar-free continual representation learning via learnable drift compensation", ECCV 2024: a linear
map without a bias, fitted on the task's images to the squared error |f_{t-1}(x) A - f_t(x)|^2, and applied to the means.
The authors train it by gradient descent; its optimum is the least-squares solution, which is what is computed here.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field

from carryover.adapters import Adapter, Head, check_features, image_pairs

__all__ = ["LDCAdapter"]


class LDCAdapter(Adapter):
    """A linear map x A of class means, by least squares.

    Where the task's features leave A open, for a feature that is dead or for fewer images than features, it is the
    solution nearest to the identity: what no image speaks of stays as it is.

    Args:
        ridge: a penalty |A - I|^2, as a share of the features' mean square times the number of pairs, so that its meaning
            depends neither on the network's units nor on the number of images. 0 is the paper's objective.
        views: whether unlabelled pairs are learned from as well, those of blends of the task's images. The paper learns
            from the images alone.
    """

    keeps = "means"

    def __init__(self, ridge: Annotated[float, Field(ge=0)] = 1e-4, views: bool = False) -> None:
        self.ridge = ridge
        self.views = views

    def fit(self, previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None = None, head: Head | None = None) -> Self:
        """Solve for `matrix_` [d, d] on pairs [n, d], without those labelled -1 unless `views` is set.

        Raises:
            ValueError: as `image_pairs`.
        """
        before, after = image_pairs(previous, current, labels, self.views)
        d = before.shape[1]
        x = before.astype(np.float64)
        # The penalty as d further pairs sqrt(penalty) e_j without drift.
        root = np.sqrt(self.ridge * (x**2).sum() / d)
        rows = np.vstack([x, root * np.eye(d)])
        drift = np.vstack([after.astype(np.float64) - x, np.zeros((d, d))])
        # What is below the rounding of the float32 features is no direction of theirs.
        slope = np.linalg.lstsq(rows, drift, rcond=float(np.finfo(np.float32).eps))[0]
        self.matrix_ = (np.eye(d) + slope).astype(np.float32)
        return self

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Return features [m, d] @ matrix_."""
        carried: np.ndarray = check_features(features, len(self.matrix_)) @ self.matrix_
        return carried

    def state(self) -> dict[str, np.ndarray]:
        """Return the map."""
        return {"matrix": self.matrix_}

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take back the map."""
        self.matrix_ = arrays["matrix"]
        return self
