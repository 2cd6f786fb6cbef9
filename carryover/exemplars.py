"""Exemplar images: the few old images that a rehearsal regime keeps, chosen by herding on the newest network's features."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from carryover import registry
from carryover.errors import ConfigurationError
from carryover.images import ImageSet, concatenate, read_images
from carryover.rehearsal import KIND, KeptImages, Learned
from carryover.selection import herding


class Exemplars:
    """Keeps images of every class, the first ones of its herding order (Rebuffi et al., "iCaRL", CVPR 2017, algorithms 4 and 5).

    Exactly one of the two limits is set.

    Args:
        per_class: the most images of a class.
        total: the most images in all, shared equally: the share shrinks as classes arrive.
        where: the path of the section that the limits stand in, for messages.

    Raises:
        ConfigurationError: if both limits are set, or neither.
    """

    def __init__(
        self, per_class: Annotated[int, Field(gt=0)] | None = None, total: Annotated[int, Field(gt=0)] | None = None, where: str = "exemplars"
    ) -> None:
        if (per_class is None) == (total is None):
            raise ConfigurationError(f"Section {where} takes either per_class or total: set one and leave the other null.")
        self.per_class = per_class
        self.total = total
        self.where = where

    @classmethod
    def of(cls, section: Mapping[str, Any], where: str) -> Exemplars:
        """Return the store that a regime's section describes; `where` is the section's path.

        Raises:
            ConfigurationError: if a parameter is unknown or of a wrong type or range, or not exactly one limit is set.
        """
        return cls(**registry.checked(cls, section, where, skip={"where"}), where=where)

    def update(self, learned: Learned) -> KeptImages:
        """Return the exemplars after a task: earlier ones cut to the new share, then the new classes' own, in herding order.

        Raises:
            ConfigurationError: if the total is less than one image a class.
        """
        old_labels, labels = np.asarray(learned.rehearsed.labels), np.asarray(learned.images.labels)
        old, new = np.unique(old_labels), np.unique(labels)
        share = self.per_class if self.per_class is not None else (self.total or 0) // max(len(old) + len(new), 1)
        if share < 1:
            raise ConfigurationError(
                f"Parameter {self.where}.total is {self.total}: that is less than one image for each of {len(old) + len(new)} classes."
            )
        none = np.empty(0, dtype=np.int64)
        earlier = np.concatenate([none, *(np.flatnonzero(old_labels == label)[:share] for label in old)])
        by_class = [np.flatnonzero(labels == label) for label in new]
        chosen = np.concatenate([none, *(rows[herding(learned.features[rows], share)] for rows in by_class)])
        return KeptImages(
            concatenate([learned.rehearsed.subset(earlier), learned.images.subset(chosen)]),
            np.concatenate([learned.rehearsed_features[earlier], learned.features[chosen]]),
        )

    def load(self, path: str | os.PathLike[str]) -> ImageSet:
        """Return the images that were kept."""
        return read_images(path, KIND)[0]
