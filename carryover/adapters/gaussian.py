"""`gaussian`: the memory is a mean and a covariance of each class, which follow the map that carries vectors.

After Rypesc et al., "Task-recency bias strikes back: adapting covariances in exemplar-free class incremental learning" (AdaGauss),
NeurIPS 2024: between tasks a class is a normal distribution; rows drawn from it are carried, and their mean and covariance are the
class's in the new feature space. With a linear map x A + b these are exactly mu A + b and A' S A, or its diagonal (see `GaussianForm`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carryover.adapters import Adapter
from carryover.adapters._carried import CarriedForm
from carryover.adapters.linear import LinearAdapter
from carryover.adapters.mlp import MLPAdapter
from carryover.adapters.none import NoAdapter
from carryover.forms.gaussian import GaussianForm

__all__ = ["GaussianAdapter"]


class GaussianAdapter(CarriedForm):
    """A class's mean and covariance, carried by an adapter for vectors.

    Args:
        carry: the adapter, "none", "linear" or "mlp".
        ridge: of the linear map, and of the perceptron's linear start, as in `LinearAdapter`.
        width: of the perceptron, as in `MLPAdapter`.
        steps: of the perceptron's training.
        samples: rows of a class that stand for its distribution, as in `GaussianForm`.
        storage: the number type of the covariances' factors.
        covariance: "full", or "diagonal", the variances alone: d + 1 over 2 times fewer numbers.
    """

    def __init__(
        self,
        carry: Literal["none", "linear", "mlp"] = "linear",
        ridge: Annotated[float, Field(ge=0)] = 0.01,
        width: Annotated[float, Field(gt=0)] = 8,
        steps: Annotated[int, Field(gt=0)] = 200,
        samples: Annotated[int, Field(gt=0)] = 500,
        storage: Literal["float16", "float32"] = "float16",
        covariance: Literal["full", "diagonal"] = "full",
    ) -> None:
        self.carry = carry
        self.ridge = ridge
        self.width = width
        self.steps = steps
        self.samples = samples
        self.storage = storage
        self.covariance = covariance
        self.form = GaussianForm(samples, storage, covariance)

    def _map(self) -> Adapter:
        if self.carry == "mlp":
            return MLPAdapter(width=self.width, steps=self.steps, ridge=self.ridge)
        return LinearAdapter(self.ridge) if self.carry == "linear" else NoAdapter()
