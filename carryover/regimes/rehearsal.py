"""`rehearsal`: iCaRL's backbone training, sigmoid cross-entropy on new labels and on the previous network's outputs.

Rebuffi et al., "iCaRL: Incremental classifier and representation learning", CVPR 2017, algorithm 3: over the new images
and the exemplars, sum_{old c} BCE(g_c(x), q_c(x)) + sum_{new c} BCE(g_c(x), [c = y]), where g_c is the sigmoid of a
class's logit and q_c that of the previous network. Its classifier, the nearest mean of exemplars (algorithm 1), is the
column `exemplars` under the classifier `nme`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from carryover.exemplars import Exemplars
from carryover.regimes import Regime, Step

__all__ = ["Rehearsal"]


class Rehearsal(Regime):
    """Sigmoid cross-entropy, with exemplars.

    Args:
        exemplars: `per_class` or `total`, how many images are kept.
        weight: of the mean over classes. The authors' code minimises the plain mean at a learning rate of 2; the factor 10
            makes the same of a learning rate of 0.2.
    """

    needs_teacher = True

    def __init__(self, exemplars: Mapping[str, int | None], weight: Annotated[float, Field(gt=0)] = 10.0) -> None:
        self.exemplars = exemplars
        self.weight = weight
        self.store = Exemplars.of(exemplars, "regimes.rehearsal.exemplars")

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return {"labels"} in the first task, and {"labels", "distillation"} later; their sum is `weight` times the mean of all outputs."""
        old = 0 if step.teacher is None else step.teacher.logits.shape[1]
        classes = step.logits.shape[1]
        # An exemplar's label is an old class: all its new outputs are to be zero.
        targets = F.one_hot(step.labels, classes)[:, old:].to(step.logits.dtype)
        share = self.weight / classes
        terms = {"labels": share * sigmoid_cross_entropy(step.logits[:, old:], targets)}
        if step.teacher is not None:
            terms["distillation"] = share * sigmoid_cross_entropy(step.logits[:, :old], step.teacher.logits.sigmoid())
        return terms


def sigmoid_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over classes, mean over rows, of -t log s(z) - (1 - t) log(1 - s(z)), for logits z and targets t [b, c]."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)
