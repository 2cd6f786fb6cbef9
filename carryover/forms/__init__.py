"""Forms: how a memory is written down between tasks, where that is not as vectors. One file a form, found by its name.

A form turns the vectors of each class into a few arrays, and these into vectors again, drawn from a fixed seed: not the same
ones, but such that a classifier or an adapter can learn from them as from vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from carryover.errors import unknown

NAMES = ("gaussian", "generator")


class Form(Protocol):
    """The interface of a form, and of its module's function `expand(arrays)`, which needs no parameters.

    What is trained to condense is trained on the `device`, named as an adapter's.
    """

    name: str
    device: str

    def condense(self, features: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Return arrays that stand for features [n, d], class by class, counts[c] rows of class c."""
        ...


def expand(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return features float32 [n, d] and counts int32 [classes], drawn from what the form `name` wrote down; the same each time.

    Raises:
        ValueError: if there is no such form, or the arrays are not its own.
        KeyError: if one of its arrays is missing.
    """
    # Named one by one, so that whoever follows the imports of a stage finds them.
    if name == "gaussian":
        from carryover.forms.gaussian import expand as expand_gaussian

        return expand_gaussian(arrays)
    if name == "generator":
        from carryover.forms.generator import expand as expand_generator

        return expand_generator(arrays)
    raise ValueError(unknown("form", name, NAMES))
