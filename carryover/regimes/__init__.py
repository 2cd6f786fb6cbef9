"""Regimes: how the backbone learns a task. One file a regime, found by its name.

A regime is a class with a constructor whose annotated arguments are its parameters, and a loss. What else it wants is
said by the attributes of `Regime`, which it inherits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from carryover.backbones import CosineHead, LinearHead
from carryover.rehearsal import Store


@dataclass(frozen=True)
class Teacher:
    """What the frozen previous network says of a batch: features [b, d], logits [b, old classes], last maps [b, d, h, w], and its head."""

    features: Tensor
    logits: Tensor
    maps: Tensor
    head: LinearHead | CosineHead


@dataclass(frozen=True)
class Step:
    """What a loss may see of one batch: labels [b], features [b, d], logits [b, classes], last maps [b, d, h, w], and the teacher's view.

    Features are the maps' mean over space, and logits the head's view of the features. `teacher` is None in the first
    task and in regimes that need none.
    """

    labels: Tensor
    features: Tensor
    logits: Tensor
    maps: Tensor
    head: LinearHead | CosineHead
    teacher: Teacher | None


class Regime:
    """The interface of a regime.

    Attributes:
        needs_teacher: whether the frozen previous network is run beside the new one.
        head: the head that the regime's networks have; None leaves it to `backbone.head`.
        imprints: whether a new class's row of the head begins as the mean of its features under the previous network.
        store: what is kept of old images for rehearsal; None keeps nothing.
    """

    needs_teacher: ClassVar[bool] = False
    head: ClassVar[str | None] = None
    imprints: ClassVar[bool] = False
    store: Store | None = None

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the terms of the loss, scalars by name; training minimises their sum."""
        raise NotImplementedError
