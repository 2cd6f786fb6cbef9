"""`finetune`: cross-entropy on the new task alone, the lower bound of every comparison."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from carryover.regimes import Regime, Step

__all__ = ["Finetune"]


class Finetune(Regime):
    """Cross-entropy over all classes seen so far, on the new task's images alone."""

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return {"cross_entropy"}: the mean over the batch of -log softmax(logits)_label."""
        return {"cross_entropy": F.cross_entropy(step.logits, step.labels)}
