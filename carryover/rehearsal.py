"""Rehearsal: what some regimes keep of old images, so that the backbone can train on them again.

Between tasks it is one artefact a task: exemplar images (none, for most regimes), or a generator that makes images.
Either is read as a set of labelled images, and its bytes are part of the memory that the method reports.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from carryover import artefacts
from carryover.images import ImageSet, PackedImages, Shape, read_images, write_images
from carryover.machine import Machine

KIND = "exemplars"


@dataclass(frozen=True)
class Learned:
    """What a store may look at after a task.

    Attributes:
        images: the task's own n images.
        features: their features under the new network, [n, d].
        rehearsed: the m images that the previous artefact gave.
        rehearsed_features: their features under the new network, [m, d].
        seed: for what is drawn at random.
        where: the device, for stores that train something.
    """

    images: ImageSet
    features: np.ndarray
    rehearsed: ImageSet
    rehearsed_features: np.ndarray
    seed: int
    where: Machine


class Kept(Protocol):
    """What is kept after a task, with its features under the new network."""

    @property
    def images(self) -> ImageSet:
        """Labelled images."""
        ...

    @property
    def features(self) -> np.ndarray:
        """Their features [m, d]; no rows where images are generated."""
        ...

    def write(self, path: str | os.PathLike[str], **fields: Any) -> None:
        """Write the artefact, all that remains until the next task."""
        ...


class Store(Protocol):
    """How a regime keeps old images."""

    def update(self, learned: Learned) -> Kept:
        """Return what is kept after a task."""
        ...

    def load(self, path: str | os.PathLike[str]) -> ImageSet:
        """Return the images of an artefact that the store's `Kept` wrote.

        Raises:
            ArtefactError: if it is none.
        """
        ...


@dataclass(frozen=True)
class KeptImages:
    """Exemplar images [m, h, w, c] with their features [m, d]; `store` is "none" where a regime promises to keep no image."""

    images: ImageSet
    features: np.ndarray
    store: str = "images"

    @classmethod
    def none(cls, shape: Shape, features: int) -> KeptImages:
        """Return no image of this shape, and no row of so many features."""
        images = PackedImages(np.empty((0, *shape), dtype=np.uint8), np.empty(0, dtype=np.int64))
        return cls(images, np.empty((0, features), dtype=np.float32), "none")

    def write(self, path: str | os.PathLike[str], **fields: Any) -> None:
        """Write the images; features are worth nothing once the network has changed."""
        write_images(path, self.images, KIND, store=self.store, count=len(self.images), **fields)


def read(path: str | os.PathLike[str], store: Store | None, **expected: Any) -> ImageSet:
    """Return the images of a rehearsal artefact: those kept, or those that its generator makes; none where there is no `store`.

    Raises:
        ArtefactError: if the file is no such artefact, or not the expected one.
    """
    fields = artefacts.read_header(path, KIND, **expected)["fields"]
    return read_images(path, KIND)[0] if store is None or not fields.get("count") else store.load(path)


def size(path: str | os.PathLike[str], **expected: Any) -> int:
    """Return the bytes that a regime keeps of old images: the size of the file, or 0 where it gives no image."""
    fields = artefacts.read_header(path, KIND, **expected)["fields"]
    return Path(path).stat().st_size if fields.get("count") else 0
