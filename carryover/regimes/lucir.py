"""`lucir`: learning a unified classifier via rebalancing, a cosine head with three terms against imbalance.

Hou et al., "Learning a unified classifier incrementally via rebalancing", CVPR 2019:
L = L_ce + lambda L_dis + L_mr, with the less-forget constraint L_dis = 1 - <f, f_old> (equation 6), its weight
lambda = lambda_base sqrt(old classes / new classes) as in the authors' code, and the margin ranking loss of exemplars
L_mr = sum_{k=1..K} max(m - <w_y, f> + <w_k, f>, 0) over the K new classes nearest to the image (equation 8); f and w are of
unit length; the mean over exemplars and K, as in the authors' code. New rows of the head begin imprinted, and old rows are
fixed, as section 3.3 has it: the less-forget constraint holds features to rows that do not move. The authors' network
has no ReLU before its features; here all regimes share one backbone, with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from carryover.backbones import CosineHead
from carryover.exemplars import Exemplars
from carryover.regimes import Regime, Step
from carryover.regimes.distill import cosine_distance

__all__ = ["LUCIR"]


class LUCIR(Regime):
    """Cross-entropy of cosine logits, the less-forget constraint and margin ranking.

    Args:
        exemplars: `per_class` or `total`, how many images are kept.
        less_forget: lambda_base; 5 in the paper for CIFAR-100.
        margin: m, of cosines.
        nearest: K, how many new classes an exemplar is held away from.
        ranking: the weight of margin ranking.
    """

    needs_teacher = True
    head = "cosine"
    imprints = True

    def __init__(
        self,
        exemplars: Mapping[str, int | None],
        less_forget: Annotated[float, Field(ge=0)] = 5.0,
        margin: Annotated[float, Field(ge=0)] = 0.5,
        nearest: Annotated[int, Field(gt=0)] = 2,
        ranking: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        self.exemplars = exemplars
        self.less_forget = less_forget
        self.margin = margin
        self.nearest = nearest
        self.ranking = ranking
        self.store = Exemplars.of(exemplars, "regimes.lucir.exemplars")

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return {"cross_entropy"} in the first task, and with it {"less_forget", "ranking"} later."""
        if step.teacher is None:
            return {"cross_entropy": F.cross_entropy(step.logits, step.labels)}
        assert isinstance(step.head, CosineHead), "networks of this regime have a cosine head"
        old = step.teacher.logits.shape[1]
        weight = self.less_forget * (old / (step.logits.shape[1] - old)) ** 0.5
        cosines = fixed_cosines(step.features, step.head.weight, old)
        return {
            "cross_entropy": F.cross_entropy(step.head.scale * cosines, step.labels),
            "less_forget": weight * cosine_distance(step.features, step.teacher.features),
            "ranking": self.ranking * margin_ranking(cosines, step.labels, old, self.margin, self.nearest),
        }


def fixed_cosines(features: Tensor, weight: Tensor, old: int) -> Tensor:
    """Return the cosines [b, classes] of features [b, d] and rows of the weight [classes, d], of which the first `old` get no gradient.

    Weight decay still shortens those rows, which leaves their cosines as they are.
    """
    rows = torch.cat([weight[:old].detach(), weight[old:]])
    return F.linear(F.normalize(features, dim=1), F.normalize(rows, dim=1))


def margin_ranking(cosines: Tensor, labels: Tensor, old: int, margin: float, nearest: int) -> Tensor:
    """Return the mean of max(m - cos_y + cos_k, 0) over exemplars and their `nearest` new classes; 0 in a batch without any.

    Args:
        cosines: [b, classes], the first `old` of them of old classes.
        labels: [b]; an exemplar is a row with a label below `old`.
    """
    exemplar = (labels < old).to(cosines.dtype)
    k = min(nearest, cosines.shape[1] - old)
    hardest = cosines[:, old:].topk(k, dim=1).values
    own = cosines.gather(1, labels[:, None])
    # Rows are weighed, not picked: the number of exemplars is not known without waiting for the device.
    violations = F.relu(margin - own + hardest).sum(dim=1)
    return (violations * exemplar).sum() / (k * exemplar.sum()).clamp(min=1)
