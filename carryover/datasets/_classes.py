"""What a data set gives: its class names, and the images of one class after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from carryover.errors import DataError
from carryover.images import EncodedImages, ImageSet, PackedImages
from carryover.seeds import generator


@dataclass(frozen=True)
class ClassImages:
    """The images of the class called `name`. All their labels are 0: the class register knows the labels."""

    name: str
    train: ImageSet
    test: ImageSet


@dataclass(frozen=True)
class Loaded:
    """An opened data set: the `names` of its classes, and an iterator over the `classes` in that order."""

    names: list[str]
    classes: Iterator[ClassImages]


class Dataset(Protocol):
    """A data set, made from the parameters in the section `dataset`."""

    def load(self) -> Loaded:
        """Open the data set; memory holds one class at a time where the storage allows it.

        Raises:
            DataError: if the data set is missing or damaged, here or while the classes are read.
        """


def held_out(count: int, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Split a class's images by chance; return the sorted indices that stay for training, and those held out for the test.

    The draw depends on the class's name, its `count` and the `seed` alone, so other classes never change it. Each side
    has at least one image.

    Raises:
        DataError: if there are fewer than 2 images.
    """
    if count < 2:
        raise DataError(f"Class {name!r} has {count} image(s): holding out a test set needs at least 2 in every class.")
    size = min(max(round(count * fraction), 1), count - 1)
    order = generator(seed, "test", name).permutation(count)
    return np.sort(order[size:]), np.sort(order[:size])


def image_set(images: Sequence[bytes], shape: tuple[int, int, int], encoded: bool) -> ImageSet:
    """Return the set of n images, each given as its pixels in bytes or, if `encoded`, as its JPEG or PNG file; labels are 0."""
    labels = np.zeros(len(images), dtype=np.int64)
    if encoded:
        return EncodedImages.from_files(images, labels, shape)
    # A bytearray, for arrays on bytes are read-only and torch warns about those.
    pixels = np.frombuffer(bytearray().join(images), dtype=np.uint8)
    return PackedImages(pixels.reshape(len(images), *shape), labels)
