"""Views: further images for the adapter to learn from, made of the current task's images (and the exemplars) alone.

An adapter sees pairs of features of the same input under two networks, and any input will do: the networks are
functions, and the pairs need no label. Crops, mirror images, blends of two images and these turned about reach parts of
feature space that the task's own images leave empty, where the stored features of other classes lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from carryover.augment import crop_and_flip, draw
from carryover.images import ImageSet, Shape
from carryover.seeds import derive, generator

UNLABELLED = -1
Crops = tuple[Tensor, Tensor, Tensor]
"""Of each image the row and the column of its crop, and whether it is mirrored, as `carryover.augment.draw` draws them."""


class Views:
    """How further images are made.

    Args:
        views: how many of them for each image of the task; 0 makes none.
        padding: of the random crop, in pixels.
        flip: whether images are mirrored at random.
        turn: whether views are turned by a random number of quarter turns, 0 to 3; by half turns where images are not square.
        seed: of the crops, blends and turns.
    """

    def __init__(
        self,
        views: Annotated[int, Field(ge=0)] = 0,
        padding: Annotated[int, Field(ge=0)] = 4,
        flip: bool = True,
        turn: bool = False,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.views = views
        self.padding = padding
        self.flip = flip
        self.turn = turn
        self.seed = seed

    def of(self, images: ImageSet, exemplars: ImageSet, task: str) -> Blends:
        """Return n x views images, made of n `images` of the `task` and of the `exemplars`, labelled -1: a blend has no class.

        Each is a crop, perhaps mirrored, blended with another one, whose share is uniform in 0 to 0.5.
        """
        random = generator(self.seed, "views", task)
        n, m = len(images), len(exemplars)
        own, others, partners, shares = [], [], [], []
        for view in range(self.views):
            own.append(self._crops(n, task, view, "own"))
            partners.append(random.permutation(n + m)[:n])
            others.append(self._crops(n, task, view, "other"))
            shares.append(random.uniform(0, 0.5, size=n).astype(np.float32))
        return Blends(images, exemplars, self.padding, own, others, partners, shares, self._turns(images, task))

    def _turns(self, images: ImageSet, task: str) -> list[np.ndarray]:
        # Their own generator: whether views are turned leaves crops and blends as they are.
        random = generator(self.seed, "turns", task)
        height, width, _ = images.shape
        choices = (np.arange(4) if height == width else np.array([0, 2])) if self.turn else np.zeros(1, dtype=np.int64)
        return [random.choice(choices, size=len(images)) for _ in range(self.views)]

    def _crops(self, n: int, *names: object) -> Crops:
        random = torch.Generator().manual_seed(derive(self.seed, "view", *names))
        return draw(n, self.padding, self.flip, random)


@dataclass(frozen=True)
class Blends:
    """Views of n images, made when they are gathered: view v of image i is at v n + i.

    Args:
        images: of the task. exemplars: further partners, numbered after the images.
        padding: of the crops.
        own, others: for each view the crops of the images and of their partners. partners: for each view the n partners' numbers.
        shares: for each view the partners' shares, [n]. turns: for each view the blends' quarter turns, [n].
    """

    images: ImageSet
    exemplars: ImageSet
    padding: int
    own: Sequence[Crops]
    others: Sequence[Crops]
    partners: Sequence[np.ndarray]
    shares: Sequence[np.ndarray]
    turns: Sequence[np.ndarray]

    @property
    def labels(self) -> np.ndarray:
        """-1 for each, int64 [n x views]."""
        return np.full(len(self), UNLABELLED, dtype=np.int64)

    @property
    def shape(self) -> Shape:
        """Height, width and channels of every image."""
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images) * len(self.own)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Return the pixels of the views at `indices` [b], a new uint8 array [b, h, w, c]."""
        n = len(self.images)
        made = np.empty((len(indices), *self.shape), dtype=np.uint8)
        for view in np.unique(indices // max(n, 1)):
            here = np.flatnonzero(indices // n == view)
            rows = indices[here] - view * n
            partners = self.partners[view][rows]
            others = np.empty((len(here), *self.shape), dtype=np.uint8)
            others[partners < n] = self.images.gather(partners[partners < n])
            others[partners >= n] = self.exemplars.gather(partners[partners >= n] - n)
            own = self._cropped(self.images.gather(rows), self.own[view], rows)
            share = self.shares[view][rows, None, None, None]
            blends = np.rint(own * (1 - share) + self._cropped(others, self.others[view], rows) * share).astype(np.uint8)
            _turn(blends, self.turns[view][rows])
            made[here] = blends
        return made

    def _cropped(self, pixels: np.ndarray, crops: Crops, rows: np.ndarray) -> np.ndarray:
        chosen = torch.from_numpy(rows)
        down, across, flips = (part[chosen] for part in crops)
        return crop_and_flip(torch.from_numpy(pixels), down, across, flips, self.padding).numpy()


def _turn(images: np.ndarray, turns: np.ndarray) -> None:
    """Turn images [b, h, w, c] in place, by so many quarter turns each, [b]."""
    for turn in np.unique(turns[turns > 0]):
        images[turns == turn] = np.rot90(images[turns == turn], turn, axes=(1, 2))
