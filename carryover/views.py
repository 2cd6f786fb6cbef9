"""Views: further images for the adapter to learn from, made of the current task's images (and the exemplars) alone.

An adapter sees pairs of features of the same input under two networks, and any input will do: the networks are
functions, and the pairs need no label. Crops, mirror images and blends of two images reach parts of feature space that
the task's own images leave empty, where the stored features of other classes lie.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from carryover.augment import crop_and_flip, draw
from carryover.images import ImageSet, PackedImages
from carryover.seeds import derive, generator

UNLABELLED = -1


class Views:
    """How further images are made.

    Args:
        views: how many of them for each image of the task; 0 makes none.
        padding: of the random crop, in pixels.
        flip: whether images are mirrored at random.
        seed: of the crops and blends.
    """

    def __init__(
        self,
        views: Annotated[int, Field(ge=0)] = 0,
        padding: Annotated[int, Field(ge=0)] = 4,
        flip: bool = True,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.views = views
        self.padding = padding
        self.flip = flip
        self.seed = seed

    def of(self, images: ImageSet, exemplars: ImageSet, task: str) -> ImageSet:
        """Return n x views images, made of n `images` of the `task` and of the `exemplars`, labelled -1: a blend has no class.

        Each is a crop, perhaps mirrored, blended with another one, whose share is uniform in 0 to 0.5.
        """
        random = generator(self.seed, "views", task)
        n, m = len(images), len(exemplars)
        made = [np.empty((0, *images.shape), dtype=np.uint8)]
        for view in range(self.views):
            own = self._augmented(images.gather(np.arange(n)), task, view, "own")
            partners = random.permutation(n + m)[:n]
            other = np.empty_like(own)
            other[partners < n] = images.gather(partners[partners < n])
            other[partners >= n] = exemplars.gather(partners[partners >= n] - n)
            other = self._augmented(other, task, view, "other")
            share = random.uniform(0, 0.5, size=(n, 1, 1, 1)).astype(np.float32)
            made.append(np.rint(own * (1 - share) + other * share).astype(np.uint8))
        stacked = np.concatenate(made)
        return PackedImages(stacked, np.full(len(stacked), UNLABELLED, dtype=np.int64))

    def _augmented(self, images: np.ndarray, *names: object) -> np.ndarray:
        batch = torch.from_numpy(images)
        random = torch.Generator().manual_seed(derive(self.seed, "view", *names))
        rows, columns, flips = draw(len(batch), self.padding, self.flip, random)
        return crop_and_flip(batch, rows, columns, flips, self.padding).numpy()
