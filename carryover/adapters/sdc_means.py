"""`sdc_means`: semantic drift compensation of class means, as in the paper; a class is one vector in memory.

Yu et al., "Semantic drift compensation for class-incremental learning", CVPR 2020, equations 8 and 9, read with the
nearest mean. Weights relative to the nearest pair's, as `SDCAdapter` has them, are the paper's own: the division by their
sum takes the common factor out again. They differ only where all of the paper's weights vanish, which is 0 / 0 there.
"""

from __future__ import annotations

from carryover.adapters.sdc import SDCAdapter

__all__ = ["SDCMeans"]


class SDCMeans(SDCAdapter):
    """Semantic drift compensation of class means; `bandwidth` is that of `SDCAdapter`.

    The paper's features have unit length. Here means and pairs are of features as the network gives them, and the
    bandwidth is relative to their spread.
    """

    keeps = "means"
