"""Optimisers: torch's own update rules, called as functions on tensors that the caller holds.

The classes of `torch.optim` import the whole compiler at their first use, a second that every short stage would pay;
and with the state in plain lists a checkpoint is nothing but arrays.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam as _adam
from torch.optim.sgd import sgd as _sgd


class SGD:
    """Stochastic gradient descent with Nesterov momentum and weight decay.

    Args:
        parameters: updated in place.
        momentum: 0 is plain gradient descent.
        weight_decay: added to the gradient as weight_decay * parameter.
    """

    def __init__(self, parameters: Iterable[Tensor], momentum: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.momentum = momentum
        self.weight_decay = weight_decay
        # Zeros give the same first step as no buffer, for the dampening is zero.
        self.buffers = [torch.zeros_like(parameter) for parameter in self.parameters]

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients, and forget the gradients."""
        with torch.no_grad():
            _sgd(
                self.parameters,
                _gradients(self.parameters),
                list(self.buffers),
                fused=True,
                weight_decay=self.weight_decay,
                momentum=self.momentum,
                lr=learning_rate,
                dampening=0.0,
                nesterov=self.momentum > 0,
                maximize=False,
            )


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019).

    Args:
        parameters: updated in place.
        weight_decay: parameters shrink by learning_rate * weight_decay a step.
        first_moment: beta 1, by which the running mean of gradients decays a step.
        second_moment: beta 2, by which that of their squares does.
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float, first_moment: float = 0.9, second_moment: float = 0.999) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.first_moment = first_moment
        self.second_moment = second_moment
        self._first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = [torch.zeros((), dtype=torch.float32, device=parameter.device) for parameter in self.parameters]

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients, and forget the gradients."""
        with torch.no_grad():
            _adam(
                self.parameters,
                _gradients(self.parameters),
                self._first,
                self._second,
                [],
                self._steps,
                fused=True,
                decoupled_weight_decay=True,
                amsgrad=False,
                beta1=self.first_moment,
                beta2=self.second_moment,
                lr=learning_rate,
                weight_decay=self.weight_decay,
                eps=1e-8,
                maximize=False,
            )


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    gradients = []
    for parameter in parameters:
        assert parameter.grad is not None, "every parameter takes part in the loss"
        gradients.append(parameter.grad)
        parameter.grad = None
    return gradients
