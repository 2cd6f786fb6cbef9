"""`hybrid`: the paper's backbone training with a few old images beside the features ("Ours-hybrid").

Iscen et al., "Memory-efficient incremental learning through feature adaptation", ECCV 2020, section 4: P images and L
features a class. The backbone trains on the images too, and they give the adapter true pairs of old classes. On new images
and exemplars together, L = CE(softmax(z), y) + lambda CE(softmax(z_{t-1} / T), softmax(z_old / T)) + gamma (1 - cos(h_t(x), h_{t-1}(x))),
the loss of `distill`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from carryover.exemplars import Exemplars
from carryover.regimes.distill import Distill

__all__ = ["Hybrid"]


class Hybrid(Distill):
    """Cross-entropy over all classes, knowledge distillation and feature distillation, on new images and exemplars.

    Args:
        exemplars: `per_class` or `total`, how many images are kept; the features' budget is in the section `memory`.
        distillation: lambda, the weight of knowledge distillation.
        temperature: T, by which the logits of both networks are divided.
        feature: gamma, the weight of the cosine distance between new and old features.
    """

    def __init__(
        self,
        exemplars: Mapping[str, int | None],
        distillation: Annotated[float, Field(ge=0)] = 2.0,
        temperature: Annotated[float, Field(gt=0)] = 2.0,
        feature: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__(distillation, temperature, feature)
        self.exemplars = exemplars
        self.store = Exemplars.of(exemplars, "regimes.hybrid.exemplars")
