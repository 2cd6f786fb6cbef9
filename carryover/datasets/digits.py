"""The 1,797 handwritten digits of scikit-learn: 8 x 8, grey, ten classes, and no download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from carryover.datasets import ClassImages, Loaded, held_out
from carryover.images import PackedImages

__all__ = ["Digits"]


class Digits:
    """scikit-learn's `load_digits`.

    Args:
        test_fraction: the fraction of each class that becomes the test set; the digits have none of their own.
        seed: of that choice.
    """

    def __init__(self, test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25, seed: Annotated[int, Field(ge=0)] = 0) -> None:
        self.test_fraction = test_fraction
        self.seed = seed

    def load(self) -> Loaded:
        """Return the classes "0" to "9"."""
        return Loaded([str(digit) for digit in range(10)], self._classes())

    def _classes(self) -> Iterator[ClassImages]:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        # Grey values are 0 to 16 there.
        pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, :, :, None]
        for digit in range(10):
            own = pixels[bunch.target == digit]
            images = PackedImages(own, np.zeros(len(own), dtype=np.int64))
            train, test = held_out(len(own), self.test_fraction, self.seed, str(digit))
            yield ClassImages(str(digit), images.subset(train), images.subset(test))
