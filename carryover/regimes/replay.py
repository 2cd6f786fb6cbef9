"""`replay`: cross-entropy and knowledge distillation on new images and on generated images of the old classes.

Shin et al., "Continual learning with deep generative replay", NeurIPS 2017: a generator stands for the old images. There
the old network labels what an unconditional generator makes; here the generator is told the class. On new and generated images
together, L = CE(softmax(z), y) + lambda CE(softmax(z_{t-1} / T), softmax(z_old / T)), the distillation of `distill`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from carryover import registry
from carryover.generator import ImageGenerator
from carryover.regimes import Regime, Step
from carryover.regimes.distill import cross_entropy_and_distillation

__all__ = ["Replay"]


class Replay(Regime):
    """Cross-entropy over all classes and knowledge distillation, on new and generated images.

    Args:
        generator: the arguments of `ImageGenerator`.
        distillation: lambda, the weight of knowledge distillation.
        temperature: T, by which the logits of both networks are divided.
    """

    needs_teacher = True

    def __init__(
        self,
        generator: Mapping[str, Any],
        distillation: Annotated[float, Field(ge=0)] = 2.0,
        temperature: Annotated[float, Field(gt=0)] = 2.0,
    ) -> None:
        self.generator = generator
        self.distillation = distillation
        self.temperature = temperature
        self.store = ImageGenerator(**registry.checked(ImageGenerator, generator, "regimes.replay.generator"))

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return {"cross_entropy"} in the first task, and with it {"distillation"} later."""
        return cross_entropy_and_distillation(step, self.distillation, self.temperature, separate=False)
