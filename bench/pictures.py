"""Images to train on: small colour images with a hundred labels, natural ones whatever is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from carryover.images import PackedImages

SIDE, CLASSES = 32, 100
_SUFFIXES = {".jpg", ".jpeg", ".png"}


def crops(count: int, seed: int = 0) -> PackedImages:
    """Return `count` crops of scikit-learn's two photographs, each labelled by the place it was cut from."""
    from sklearn.datasets import load_sample_images

    photographs = [np.asarray(image) for image in load_sample_images().images]
    random = np.random.default_rng(seed)
    images = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    across, down = 10, CLASSES // 10 // len(photographs)
    for i in range(count):
        which = int(random.integers(len(photographs)))
        height, width, _ = photographs[which].shape
        row, column = int(random.integers(height - SIDE)), int(random.integers(width - SIDE))
        images[i] = photographs[which][row : row + SIDE, column : column + SIDE]
        labels[i] = (which * down + row * down // height) * across + column * across // width
    return PackedImages(images, labels)


def from_folder(folder: Path, count: int, classes: int | None = None, seed: int = 0) -> PackedImages:
    """Return `count` images, drawn at random, of a folder that has a folder a class, resized to 32 x 32; all for fewer.

    Labels number the folders that have images, at most `classes` of them, in the order of their names.
    """
    found = sorted({path.parent for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES})[:classes]
    pairs = [(path, label) for label, place in enumerate(found) for path in sorted(place.iterdir()) if path.suffix.lower() in _SUFFIXES]
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
    images = np.empty((len(chosen), SIDE, SIDE, 3), dtype=np.uint8)
    for i, k in enumerate(chosen):
        with Image.open(pairs[k][0]) as image:
            images[i] = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX))
    return PackedImages(images, np.array([pairs[k][1] for k in chosen], dtype=np.int64))
