"""Exemplar images: the few old images that a rehearsal regime keeps, chosen by herding on the newest network's features."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from carryover.errors import ConfigurationError
from carryover.images import ImageSet, concatenate
from carryover.selection import herding


class ExemplarBudget:
    """How many images a regime keeps: exactly one of the two limits.

    Args:
        per_class: the most images of a class.
        total: the most images in all, shared equally: the share shrinks as classes arrive.
    """

    def __init__(self, per_class: Annotated[int, Field(gt=0)] | None = None, total: Annotated[int, Field(gt=0)] | None = None) -> None:
        if (per_class is None) == (total is None):
            raise ConfigurationError("The section exemplars of a regime takes either per_class or total.")
        self.per_class = per_class
        self.total = total

    def update(self, kept: ImageSet, images: ImageSet, features: np.ndarray, labels: np.ndarray) -> ImageSet:
        """Return the exemplars after a task: earlier ones cut to the new share, then the new classes' own, in herding order.

        Args:
            kept: earlier exemplars, each class in herding order.
            images: the task's images.
            features: their current features [n, d].
            labels: their labels [n].
        """
        old, new = np.unique(np.asarray(kept.labels)), np.unique(labels)
        share = self.per_class if self.per_class is not None else (self.total or 0) // (len(old) + len(new))
        if share < 1:
            raise ConfigurationError(f"An exemplar budget of {self.total} images in all is less than one for each of {len(old) + len(new)} classes.")
        earlier = [np.flatnonzero(np.asarray(kept.labels) == label)[:share] for label in old]
        chosen = []
        for label in new:
            rows = np.flatnonzero(labels == label)
            chosen.append(rows[herding(features[rows], share)])
        return concatenate([kept.subset(np.concatenate([np.empty(0, dtype=np.int64), *earlier])), images.subset(np.concatenate(chosen))])
