"""Sampling: rows of every class equally often, however many it has."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class BalancedRows:
    """Draws rows that stand class by class.

    Args:
        counts: rows of each class, int64 [classes].
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = torch.from_numpy(counts)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, size: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return classes [size] and a row of each one's [size], with replacement."""
        classes = torch.randint(len(self.counts), (size,), generator=random)
        within = (torch.rand(size, generator=random, dtype=torch.float64) * self.counts[classes]).long()
        return classes, self.starts[classes] + within
