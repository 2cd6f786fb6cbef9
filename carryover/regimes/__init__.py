"""Regimes: how the backbone learns a task. One file a regime, found by its name.

A regime is a class with a constructor whose annotated arguments are its parameters, and two members:
`needs_teacher`, whether the previous network is run beside the new one, and `loss(step)`, the terms of its loss by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Teacher:
    """What the frozen previous network says of a batch: features [b, d] and logits [b, old classes]."""

    features: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Step:
    """What a loss may see of one batch: labels [b], features [b, d], logits [b, classes], and the teacher's view.

    `teacher` is None in the first task and in regimes that need none.
    """

    labels: Tensor
    features: Tensor
    logits: Tensor
    teacher: Teacher | None


class Regime(Protocol):
    """The interface of a regime."""

    needs_teacher: bool

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the terms of the loss, scalars by name; training minimises their sum."""
        ...
