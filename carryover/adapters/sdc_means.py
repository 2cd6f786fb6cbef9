"""`sdc_means`: semantic drift compensation of class means, as in the paper; a class is one vector in memory.

Yu et al., "Semantic drift compensation for class-incremental learning", CVPR 2020, equations 8 and 9, read with the
nearest mean. Weights relative to the nearest pair's, as `SDCAdapter` has them, are the paper's own: the division by their
sum takes the common factor out again. They differ only where all of the paper's weights vanish, which is 0 / 0 there.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field

from carryover.adapters import Head, image_pairs
from carryover.adapters.sdc import SDCAdapter

__all__ = ["SDCMeans"]


class SDCMeans(SDCAdapter):
    """Semantic drift compensation of class means.

    The paper's features have unit length. Here means and pairs are of features as the network gives them, and the
    bandwidth is relative to their spread.

    Args:
        bandwidth: sigma, as in `SDCAdapter`.
        views: whether the drift of unlabelled pairs counts as well, those of blends of the task's images. The paper takes
            the images alone.
    """

    keeps = "means"

    def __init__(self, bandwidth: Annotated[float, Field(gt=0)] = 0.3, views: bool = False) -> None:
        super().__init__(bandwidth)
        self.views = views

    def fit(self, previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None = None, head: Head | None = None) -> Self:
        """Keep the pairs [n, d], without those labelled -1 unless `views` is set, and scale the bandwidth to them.

        Raises:
            ValueError: as `image_pairs`.
        """
        return super().fit(*image_pairs(previous, current, labels, self.views))
