"""Adapters: how stored features follow the backbone. One file an adapter, found by its name.

An adapter has scikit-learn's manners: constructor arguments are its parameters, stored unchanged; `fit(previous,
current, labels, head)` learns from pairs and returns self; `transform(features)` carries stored features; what is
learned ends in an underscore. `state()` and `restore(arrays)` turn what was learned into arrays and back. What else it
wants is said by the attributes of `Adapter`, which it inherits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from carryover.forms import Form

if TYPE_CHECKING:
    from carryover.backbones import Network
    from carryover.images import ImageSet
    from carryover.machine import Machine


@dataclass(frozen=True)
class Head:
    """A fixed linear classifier over current features: `weight` [classes, d], `bias` [classes], logits W f + b.

    With `scale` it is a cosine classifier: logits scale * cos(W_c, f), and `bias` is zero.
    """

    weight: np.ndarray
    bias: np.ndarray
    scale: float | None = None


def head_of(arrays: Mapping[str, np.ndarray]) -> Head:
    """Return the head among the arrays of a "features" artefact, whose names begin with `head_`."""
    weight = arrays["head_weight"]
    if "head_scale" in arrays:
        return Head(weight, np.zeros(len(weight), dtype=np.float32), float(arrays["head_scale"]))
    return Head(weight, arrays["head_bias"])


class Adapter:
    """The interface of an adapter.

    Attributes:
        keeps: "vectors", or "means" for methods that keep one mean vector of each class and nothing else.
        form: how the memory is written down between tasks, where that is not as vectors.
        device: where what is trained is trained: "cpu", "cuda", or "auto" for the GPU where there is one; as machine.device.
    """

    keeps: ClassVar[Literal["vectors", "means"]] = "vectors"
    form: Form | None = None
    device: str = "auto"

    def fit(self, previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None = None, head: Head | None = None) -> Self:
        """Learn the map from `previous` [n, d] to `current` [n, d]; row i of both is the same image, of class labels[i]."""
        raise NotImplementedError

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Carry features [m, d] of the previous network into the current one's space, float32 [m, d]."""
        raise NotImplementedError

    def state(self) -> dict[str, np.ndarray]:
        """Return what was learned, as arrays by name."""
        raise NotImplementedError

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take back what `state` returned."""
        raise NotImplementedError


class Chasing(Adapter):
    """The interface of an adapter that looks at images and networks, not at pairs; it is fitted by the stage `chase`."""

    def chase(
        self,
        stored: np.ndarray,
        images: ImageSet,
        previous_features: np.ndarray,
        previous: Network,
        current: Network,
        where: Machine,
        seed: int,
    ) -> Self:
        """Learn from the memory's rows `stored` [m, d], the task's images with their previous features [n, d], and both networks."""
        raise NotImplementedError

    def note(self) -> str:
        """Return what a user should know of what was learned, in a sentence; "" for nothing."""
        return ""

    def fit(self, previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None = None, head: Head | None = None) -> Self:
        """Refuse: pairs are not enough.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__name__} learns from images and networks: call chase.")


def parameter_count(adapter: Any) -> int:
    """Return how many numbers the adapter learned."""
    return sum(int(array.size) for array in adapter.state().values())


def check_pairs(previous: np.ndarray, current: np.ndarray, same_width: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides as float32 [n, d], or [n, d] and [n, e] where the map may lead to another dimension.

    Raises:
        ValueError: if they are not two matrices of so many rows and columns, have no rows, or are not finite.
    """
    before, after = np.asarray(previous, dtype=np.float32), np.asarray(current, dtype=np.float32)
    compared = slice(None if same_width else 1)
    if before.ndim != 2 or after.ndim != 2 or before.shape[compared] != after.shape[compared] or not before.size or not after.size:
        same = "the same shape with at least one row" if same_width else "as many rows, at least one"
        raise ValueError(f"Pairs must be two matrices of {same}; got {before.shape} and {after.shape}.")
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ValueError("Pairs must be finite; some features are not.")
    return before, after


def image_pairs(previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None, views: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs as `check_pairs` does, without those of blends, which are labelled -1, unless `views` are wanted or `labels` unknown.

    Raises:
        ValueError: as there, also if no pair is labelled and only labelled ones are wanted.
    """
    before, after = check_pairs(previous, current)
    if labels is None or views:
        return before, after
    labelled = np.asarray(labels) >= 0
    return check_pairs(before[labelled], after[labelled])


def check_features(features: np.ndarray, d: int | None = None) -> np.ndarray:
    """Return features as float32 [m, d].

    Raises:
        ValueError: if they are no matrix, or not of the `d` columns that the adapter was fitted to.
    """
    stored = np.asarray(features, dtype=np.float32)
    if stored.ndim != 2 or (d is not None and stored.shape[1] != d):
        raise ValueError(f"Features must be a matrix{'' if d is None else f' of {d} columns'}; got {stored.shape}.")
    return stored
