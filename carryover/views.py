"""Views: further images for the adapter to learn from, made of the current task's images (and the exemplars) alone.

An adapter sees pairs of features of the same input under two networks, and any input will do: the networks are
functions, and the pairs need no label. Crops, mirror images and blends of two images reach parts of feature space that
the task's own images leave empty, where the stored features of other classes lie.
"""

from __future__ import annotations

import numpy as np
import torch

from carryover.augment import crop_and_flip, draw
from carryover.images import ImageSet, PackedImages
from carryover.seeds import generator

UNLABELLED = -1


def mixed_views(images: ImageSet, exemplars: ImageSet, views: int, padding: int, flip: bool, seed: int) -> ImageSet:
    """Return `views` new images for each of n images: crops and mirror images, each blended with another of them.

    Args:
        images: the task's.
        exemplars: whatever old images the regime keeps; they are blended in too.
        views: how many rounds; 0 returns no image.
        padding: of the random crop, in pixels.
        flip: whether images are mirrored at random.
        seed: of the crops and blends.

    Returns:
        n x views images, labelled -1: a blend has no class. The share of the second image is uniform in 0 to 0.5.
    """
    random = generator(seed, "views")
    n, m = len(images), len(exemplars)
    made = []
    for view in range(views):
        partners = random.permutation(n + m)[:n] if n + m else np.empty(0, dtype=np.int64)
        own = _augmented(images.gather(np.arange(n)), padding, flip, seed + 2 * view)
        other = np.empty_like(own)
        other[partners < n] = images.gather(partners[partners < n])
        other[partners >= n] = exemplars.gather(partners[partners >= n] - n)
        other = _augmented(other, padding, flip, seed + 2 * view + 1)
        share = random.uniform(0, 0.5, size=(n, 1, 1, 1)).astype(np.float32)
        made.append(np.rint(own * (1 - share) + other * share).astype(np.uint8))
    stacked = np.concatenate(made) if made else np.empty((0, *images.shape), dtype=np.uint8)
    return PackedImages(stacked, np.full(len(stacked), UNLABELLED, dtype=np.int64))


def _augmented(images: np.ndarray, padding: int, flip: bool, seed: int) -> np.ndarray:
    batch = torch.from_numpy(images)
    rows, columns, flips = draw(len(batch), padding, flip, torch.Generator().manual_seed(seed % 2**63))
    return crop_and_flip(batch, rows, columns, flips, padding).numpy()
