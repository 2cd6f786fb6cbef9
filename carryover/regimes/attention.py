"""`attention`: learning without memorizing, distillation of logits and of the attention of the old classes.

Dhar et al., "Learning without memorizing", CVPR 2019: L = L_C + beta L_D + gamma L_AD, with the attention distillation
L_AD = | Q_old / |Q_old|_2 - Q_new / |Q_new|_2 |_1 (equation 3), Q the Grad-CAM map of the likeliest old class, here
by the previous network. Grad-CAM is that of Selvaraju et al., ICCV 2017: Q = ReLU(sum_k alpha_k A_k), alpha_k the mean
over space of the derivative of the class's score by the map A_k.

The new network's map is part of the loss, so its weights alpha are computed with a graph of their own: the gradient
flows through the maps *and* through alpha.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from carryover.backbones import CosineHead, LinearHead
from carryover.regimes import Regime, Step
from carryover.regimes.distill import cross_entropy_and_distillation

__all__ = ["Attention"]


class Attention(Regime):
    """Cross-entropy, knowledge distillation and attention distillation.

    Args:
        distillation: beta, the weight of knowledge distillation.
        temperature: T, by which the logits of both networks are divided.
        attention: gamma, the weight of attention distillation.
        separate: whether cross-entropy is taken over the new task's classes alone, as in `LwF`.
    """

    needs_teacher = True

    def __init__(
        self,
        distillation: Annotated[float, Field(ge=0)] = 3.0,
        temperature: Annotated[float, Field(gt=0)] = 2.0,
        attention: Annotated[float, Field(ge=0)] = 0.1,
        separate: bool = True,
    ) -> None:
        self.distillation = distillation
        self.temperature = temperature
        self.attention = attention
        self.separate = separate

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return {"cross_entropy"} in the first task, and with it {"distillation", "attention"} later."""
        terms = cross_entropy_and_distillation(step, self.distillation, self.temperature, self.separate)
        if step.teacher is not None:
            likeliest = step.teacher.logits.argmax(dim=1)
            new, old = grad_cam(step.maps, step.head, likeliest), grad_cam(step.teacher.maps, step.teacher.head, likeliest).detach()
            terms["attention"] = self.attention * attention_distance(new, old)
        return terms


def grad_cam(maps: Tensor, head: LinearHead | CosineHead, classes: Tensor) -> Tensor:
    """Return the Grad-CAM map of one class an image, [b, h, w], for maps [b, d, h, w] and classes [b].

    The score depends on the maps through their mean over space alone, so that its derivative by A_k is its derivative
    by the feature f_k over h w, at every place. Where gradients are recorded, so are those of the derivative, also by a
    head alone whose backbone is frozen.
    """
    # In the precision of the head's weights: the maps of a bfloat16 pass are too coarse for differences of maps.
    maps = maps.to(head.weight.dtype)
    features = maps.mean(dim=(2, 3))
    recorded = torch.is_grad_enabled() and (features.requires_grad or any(weight.requires_grad for weight in head.parameters()))
    with torch.enable_grad():
        inputs = features if features.requires_grad else features.detach().requires_grad_()
        score = head(inputs).gather(1, classes[:, None]).sum()
        (slope,) = torch.autograd.grad(score, inputs, create_graph=recorded)
    weights = slope / (maps.shape[2] * maps.shape[3])
    return F.relu((weights[:, :, None, None] * maps).sum(dim=1))


def attention_distance(new: Tensor, old: Tensor) -> Tensor:
    """Return the mean over images of the L1 distance between maps [b, h, w] scaled to L2 length one; an all-zero map stays zero."""
    return (F.normalize(new.flatten(1), dim=1) - F.normalize(old.flatten(1), dim=1)).abs().sum(dim=1).mean()
