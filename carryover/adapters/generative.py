"""`generative`: the memory is a generator of features, trained anew after each task.

Liu et al., "Generative feature replay for class-incremental learning", CVPR workshops 2020. There feature distillation keeps drift
small, and what the previous generator makes stands for the old classes as it is; here a map may carry it. The equations of
the generator's training are in `carryover.forms.generator`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carryover.adapters import Adapter
from carryover.adapters._carried import CarriedForm
from carryover.adapters.linear import LinearAdapter
from carryover.adapters.none import NoAdapter
from carryover.forms.generator import GeneratorForm

__all__ = ["GenerativeAdapter"]


class GenerativeAdapter(CarriedForm):
    """A generator of features; what it makes is carried by an adapter for vectors before the next generator learns from it.

    Args:
        carry: the adapter, "none" (the paper) or "linear".
        ridge: of the linear map, as in `LinearAdapter`.
        latent, width, steps, batch_size, learning_rate, critic_steps, penalty, samples, seed: of the generator and its training, as
            in `GeneratorForm`.
    """

    def __init__(
        self,
        carry: Literal["none", "linear"] = "none",
        ridge: Annotated[float, Field(ge=0)] = 0.01,
        latent: Annotated[int, Field(gt=0)] = 16,
        width: Annotated[int, Field(gt=0)] = 128,
        steps: Annotated[int, Field(gt=0)] = 1000,
        batch_size: Annotated[int, Field(gt=0)] = 64,
        learning_rate: Annotated[float, Field(gt=0)] = 2e-3,
        critic_steps: Annotated[int, Field(gt=0)] = 5,
        penalty: Annotated[float, Field(ge=0)] = 10.0,
        samples: Annotated[int, Field(gt=0)] = 200,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.carry = carry
        self.ridge = ridge
        self.latent = latent
        self.width = width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.critic_steps = critic_steps
        self.penalty = penalty
        self.samples = samples
        self.seed = seed
        self.form = GeneratorForm(latent, width, steps, batch_size, learning_rate, critic_steps, penalty, samples, seed)

    def _map(self) -> Adapter:
        return LinearAdapter(self.ridge) if self.carry == "linear" else NoAdapter()
