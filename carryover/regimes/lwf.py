"""`lwf`: learning without forgetting for many classes, cross-entropy with knowledge distillation, and no memory.

Li and Hoiem, "Learning without forgetting", ECCV 2016, equations 2 and 3:
L = CE(softmax(z), y) + lambda CE(softmax(z_{t-1} / T), softmax(z_old / T)), z_old the logits of the old classes and z_{t-1} those
of the previous network. One head over all classes, as Rebuffi et al. (iCaRL, CVPR 2017) run it under the name LwF.MC; without
the factor T^2, as the field's toolkits have it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carryover.regimes.distill import Distill

__all__ = ["LwF"]


class LwF(Distill):
    """Distillation of logits alone.

    Args:
        distillation: lambda, the weight of knowledge distillation.
        temperature: T, by which the logits of both networks are divided.
        separate: whether cross-entropy is taken over the new task's classes alone.
    """

    def __init__(
        self,
        distillation: Annotated[float, Field(ge=0)] = 3.0,
        temperature: Annotated[float, Field(gt=0)] = 2.0,
        separate: bool = True,
    ) -> None:
        super().__init__(distillation, temperature, feature=0.0, separate=separate)
