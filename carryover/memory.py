"""The feature memory: what is carried between tasks, class by class in order of selection, in a storage type, within a budget."""

from __future__ import annotations

import bisect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from carryover import artefacts
from carryover.errors import ArtefactError, ConfigurationError
from carryover.forms import Form, expand
from carryover.storage import NUMBERS, Storage, decode, encode, layout

KIND = "memory"


class Budget:
    """How much the memory may hold: at most one of the three limits; without any, everything is kept.

    Args:
        selector: "herding", "random", or "all" (the order in which images stand, for a memory that keeps them all).
        storage: how a vector is written: "float32", "float16", "int8" or a product quantiser, see `carryover.storage`.
        per_class: the most vectors of a class.
        total: the most vectors of all classes together, shared equally: the share shrinks as classes arrive.
        bytes: the most bytes of the memory's file, shared equally.
        seed: of the random selector.

    The limits are of vectors. A memory in a form of its own (Gaussians, a generator) has the size of its form, and images that a
    regime keeps have a budget of their own among the regime's parameters.
    """

    def __init__(
        self,
        selector: Literal["herding", "random", "all"] = "herding",
        storage: Storage = "float32",
        per_class: Annotated[int, Field(gt=0)] | None = None,
        total: Annotated[int, Field(gt=0)] | None = None,
        bytes: Annotated[int, Field(gt=0)] | None = None,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        if sum(limit is not None for limit in (per_class, total, bytes)) > 1:
            raise ConfigurationError(
                "Parameters memory.per_class, memory.total and memory.bytes exclude each other: set one and leave the others null."
            )
        self.selector = selector
        self.storage = storage
        self.per_class = per_class
        self.total = total
        self.bytes = bytes
        self.seed = seed
        if selector == "all" and self.limited:
            raise ConfigurationError("Parameter memory.selector is 'all', which keeps everything: with a budget, choose 'herding' or 'random'.")

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return (self.per_class, self.total, self.bytes) != (None, None, None)

    def rows(self, classes: int, d: int, fields: Mapping[str, Any]) -> int | None:
        """Return the most rows that one of `classes` classes may keep, or None for all of them, as where there is no class.

        Raises:
            ConfigurationError: if not even one row a class fits.
        """
        if self.per_class is not None or not classes:
            return self.per_class
        if self.total is not None:
            limit, asked = self.total // classes, f"memory.total is {self.total} vectors"
        elif self.bytes is not None:
            limit, asked = self._rows_in_bytes(classes, d, fields), f"memory.bytes is {self.bytes}"
        else:
            return None
        if limit < 1:
            raise ConfigurationError(f"Parameter {asked}: that is less than one vector for each of {classes} classes.")
        return limit

    def _rows_in_bytes(self, classes: int, d: int, fields: Mapping[str, Any]) -> int:
        assert self.bytes is not None
        # No vector takes less than a byte.
        most = range(self.bytes // classes + 1)
        return bisect.bisect_right(most, self.bytes, key=lambda rows: full_size(classes, d, rows, self.storage, fields)) - 1


def full_size(classes: int, d: int, rows: int, storage: str, fields: Mapping[str, Any]) -> int:
    """Return the bytes of a memory file of `rows` vectors for each of `classes` classes, without making the vectors."""
    return _size(_layout(storage, classes * rows, d, classes), _header(storage, fields))


def _layout(storage: str, n: int, d: int, classes: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    return layout(storage, n, d) | {"counts": (np.dtype(np.int32), (classes,))}


def _header(storage: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    # Plain numbers say themselves what they are.
    return dict(fields) if storage in NUMBERS else {**fields, "storage": storage}


def _size(shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], fields: Mapping[str, Any]) -> int:
    hollow = {name: np.broadcast_to(np.zeros((), dtype=dtype), shape) for name, (dtype, shape) in shapes.items()}
    return artefacts.serialized_size(KIND, hollow, **fields)


@dataclass(frozen=True)
class Memory:
    """Features float32 [n, d], sorted by label and, within a class, by order of selection; counts int32 [classes].

    They are written in a `storage`, which may round them: what is read is what the storage gives back. A condensed memory is
    written in a `form` as the arrays `written` instead, and its features are drawn from these.
    """

    features: np.ndarray
    counts: np.ndarray
    storage: str = "float32"
    form: str | None = None
    written: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def empty(cls, d: int, storage: str) -> Memory:
        """Return a memory of no class.

        Raises:
            ConfigurationError: if the storage takes no features of dimension `d`.
        """
        layout(storage, 0, d)
        return cls(np.empty((0, d), dtype=np.float32), np.empty(0, dtype=np.int32), storage)

    @property
    def labels(self) -> np.ndarray:
        """The label of every row, int64 [n]."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def prefix(self, rows: int | None) -> Memory:
        """Return the memory that a budget of `rows` a class would have kept: the first ones of each class. A form has its own size.

        Levels and centroids of a storage stay those that were learned from all rows.
        """
        if rows is None or self.form is not None:
            return self
        starts = np.cumsum(self.counts) - self.counts
        rank = np.arange(len(self.features)) - np.repeat(starts, self.counts)
        return Memory(self.features[rank < rows], np.minimum(self.counts, rows).astype(np.int32), self.storage)

    def means(self) -> Memory:
        """Return the memory of one vector a class, its mean."""
        ends = np.cumsum(self.counts)
        rows = [self.features[end - count : end].mean(axis=0) for end, count in zip(ends, self.counts, strict=True)]
        return Memory(np.stack(rows) if rows else self.features, np.ones_like(self.counts), self.storage)

    def carried(self, features: np.ndarray) -> Memory:
        """Return the same rows with other values [n, d]."""
        return Memory(np.asarray(features, dtype=np.float32), self.counts, self.storage)

    def extended(self, features: np.ndarray, counts: np.ndarray) -> Memory:
        """Return this memory with the rows [m, d] of new classes behind it, `counts` rows each."""
        rows = np.concatenate([self.features, np.asarray(features, dtype=np.float32)])
        return Memory(rows, np.concatenate([self.counts, counts]).astype(np.int32), self.storage)

    def condensed(self, form: Form) -> Memory:
        """Return the memory as a form writes it down."""
        written = form.condense(self.features, self.counts)
        return Memory(*expand(form.name, written), form=form.name, written=written)

    def _fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields | {"form": self.form} if self.form is not None else _header(self.storage, fields)

    def size(self, **fields: Any) -> int:
        """Return the bytes of the file that `write` makes."""
        if self.form is not None:
            return artefacts.serialized_size(KIND, self.written, **self._fields(fields))
        n, d = self.features.shape
        return _size(_layout(self.storage, n, d, len(self.counts)), self._fields(fields))

    def write(self, path: str | os.PathLike[str], **fields: Any) -> None:
        """Write the memory as an artefact; its size on disk is the memory that the method reports."""
        tensors = self.written if self.form is not None else encode(self.storage, self.features) | {"counts": self.counts}
        artefacts.write(path, KIND, tensors, **self._fields(fields))

    @classmethod
    def read(cls, path: str | os.PathLike[str], **expected: Any) -> Memory:
        """Read a memory artefact.

        Raises:
            ArtefactError: as `artefacts.read`, if its arrays are not those of its storage or form, and if counts and rows do
                not agree.
        """
        artefact = artefacts.read(path, KIND, **expected)
        form, written = artefact.fields.get("form"), artefact.tensors
        try:
            if form is not None:
                return cls(*expand(form, written), form=form, written=written)
            storage = artefact.fields.get("storage") or written["features"].dtype.name
            memory = cls(decode(storage, written), artefact["counts"], storage)
        except (KeyError, ValueError, RuntimeError, TypeError, ConfigurationError) as error:
            what = "memory" if form is None else f"memory of the form {form!r}"
            raise ArtefactError(f"{path} holds no {what}: {str(error).rstrip('.')}.") from error
        if memory.counts.dtype != np.int32 or memory.counts.ndim != 1:
            raise ArtefactError(f"{path}: counts are {memory.counts.dtype} {list(memory.counts.shape)}: no memory.")
        if int(memory.counts.sum()) != len(memory.features) or (memory.counts < 0).any():
            raise ArtefactError(f"{path}: counts of {int(memory.counts.sum())} rows do not fit features of shape {memory.features.shape}.")
        return memory
