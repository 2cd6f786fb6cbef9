"""`distill`: the paper's backbone training, cross-entropy with distillation of logits and of features.

Iscen et al., "Memory-efficient incremental learning through feature adaptation", ECCV 2020, section 3.1:
L = CE + lambda KD + gamma (1 - cos(h_t(x), h_{t-1}(x))). KD is that of Li and Hoiem, "Learning without forgetting",
ECCV 2016, without the factor T^2, as the field's toolkits have it. With gamma = 0 this is multi-class LwF.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from carryover.regimes import Regime, Step

__all__ = ["Distill"]


class Distill(Regime):
    """Cross-entropy, knowledge distillation and feature distillation.

    Args:
        distillation: lambda, the weight of knowledge distillation.
        temperature: T, by which the logits of both networks are divided.
        feature: gamma, the weight of the cosine distance between new and old features.
        separate: whether cross-entropy is taken over the new task's classes alone, so that learning them does not push
            the old classes' logits down. They are then held by distillation only.
    """

    needs_teacher = True

    def __init__(
        self,
        distillation: Annotated[float, Field(ge=0)] = 2.0,
        temperature: Annotated[float, Field(gt=0)] = 2.0,
        feature: Annotated[float, Field(ge=0)] = 1.0,
        separate: bool = False,
    ) -> None:
        self.distillation = distillation
        self.temperature = temperature
        self.feature = feature
        self.separate = separate

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return {"cross_entropy"} in the first task, and with it {"distillation", "feature"} later."""
        terms = cross_entropy_and_distillation(step, self.distillation, self.temperature, self.separate)
        if step.teacher is not None:
            terms["feature"] = self.feature * cosine_distance(step.features, step.teacher.features)
        return terms


def cross_entropy_and_distillation(step: Step, weight: float, temperature: float, separate: bool) -> dict[str, Tensor]:
    """Return {"cross_entropy"} in the first task, and with it {"distillation"}, times `weight`, later.

    With `separate`, cross-entropy is taken over the new task's classes alone.
    """
    if step.teacher is None:
        return {"cross_entropy": F.cross_entropy(step.logits, step.labels)}
    old = step.teacher.logits.shape[1]
    start = old if separate else 0
    return {
        "cross_entropy": F.cross_entropy(step.logits[:, start:], step.labels - start),
        "distillation": weight * knowledge_distillation(step.logits[:, :old], step.teacher.logits, temperature),
    }


def knowledge_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean over rows of -sum_c softmax(teacher / T)_c log softmax(student / T)_c, both [b, c]."""
    return F.cross_entropy(student / temperature, (teacher / temperature).softmax(dim=1))


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over rows of 1 - cos(student, teacher), both [b, d]."""
    return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()
