"""The feature memory: what is carried between tasks, class by class in order of selection, in a storage type, within a budget."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from carryover import artefacts
from carryover.errors import ArtefactError, ConfigurationError
from carryover.forms import Form, expand

KIND = "memory"
STORAGE: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16)}


class Budget:
    """How much the memory may hold: at most one of the three limits; without any, everything is kept.

    Args:
        selector: "herding", "random", or "all" (the order in which images stand, for a memory that keeps them all).
        storage: the number type on disk.
        per_class: the most vectors of a class.
        total: the most vectors of all classes together, shared equally: the share shrinks as classes arrive.
        bytes: the most bytes of the memory's file, shared equally.
        seed: of the random selector.
    """

    def __init__(
        self,
        selector: Literal["herding", "random", "all"] = "herding",
        storage: Literal["float32", "float16"] = "float32",
        per_class: Annotated[int, Field(gt=0)] | None = None,
        total: Annotated[int, Field(gt=0)] | None = None,
        bytes: Annotated[int, Field(gt=0)] | None = None,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        if sum(limit is not None for limit in (per_class, total, bytes)) > 1:
            raise ConfigurationError(
                "Parameters memory.per_class, memory.total and memory.bytes exclude each other: set one and leave the others null."
            )
        if selector == "all" and (per_class, total, bytes) != (None, None, None):
            raise ConfigurationError("Parameter memory.selector is 'all', which keeps everything: with a budget, choose 'herding' or 'random'.")
        self.selector = selector
        self.storage = storage
        self.per_class = per_class
        self.total = total
        self.bytes = bytes
        self.seed = seed

    def rows(self, classes: int, d: int, fields: Mapping[str, Any]) -> int | None:
        """Return the most rows that one of `classes` classes may keep, or None for all of them.

        Raises:
            ConfigurationError: if not even one row a class fits.
        """
        if self.per_class is not None:
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
        limit = self.bytes // (classes * d * STORAGE[self.storage].itemsize)
        while limit > 0 and empty_size(classes, d, limit, self.storage, fields) > self.bytes:
            limit -= 1
        return limit


def empty_size(classes: int, d: int, rows: int, storage: str, fields: Mapping[str, Any]) -> int:
    """Return the bytes of a memory file of `rows` vectors for each of `classes` classes, without making the vectors."""
    features = np.broadcast_to(np.zeros((), dtype=STORAGE[storage]), (classes * rows, d))
    return artefacts.serialized_size(KIND, {"features": features, "counts": np.zeros(classes, dtype=np.int32)}, **fields)


@dataclass(frozen=True)
class Memory:
    """Features [n, d] in their storage type, sorted by label and, within a class, by order of selection; counts int32 [classes].

    A condensed memory was written in a `form` as the arrays `written`, and its features are drawn from these.
    """

    features: np.ndarray
    counts: np.ndarray
    form: str | None = None
    written: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def empty(cls, d: int, storage: str) -> Memory:
        """Return a memory of no class."""
        return cls(np.empty((0, d), dtype=STORAGE[storage]), np.empty(0, dtype=np.int32))

    @property
    def labels(self) -> np.ndarray:
        """The label of every row, int64 [n]."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def values(self) -> np.ndarray:
        """Return the features as float32 [n, d]."""
        return self.features.astype(np.float32)

    def prefix(self, rows: int | None) -> Memory:
        """Return the memory that a budget of `rows` a class would have kept: the first ones of each class. A form has its own size."""
        if rows is None or self.form is not None:
            return self
        starts = np.cumsum(self.counts) - self.counts
        rank = np.arange(len(self.features)) - np.repeat(starts, self.counts)
        return Memory(self.features[rank < rows], np.minimum(self.counts, rows).astype(np.int32))

    def means(self) -> Memory:
        """Return the memory of one vector a class, its mean."""
        ends = np.cumsum(self.counts)
        rows = [self.values()[end - count : end].mean(axis=0) for end, count in zip(ends, self.counts, strict=True)]
        stacked = np.stack(rows) if rows else self.values()
        return Memory(_stored(stacked, self.features.dtype), np.ones_like(self.counts))

    def carried(self, features: np.ndarray) -> Memory:
        """Return the same rows with other values [n, d], in the storage type."""
        return Memory(_stored(features, self.features.dtype), self.counts)

    def extended(self, features: np.ndarray, counts: np.ndarray) -> Memory:
        """Return this memory with the rows [m, d] of new classes behind it, `counts` rows each."""
        rows = np.concatenate([self.features, _stored(features, self.features.dtype)])
        return Memory(rows, np.concatenate([self.counts, counts]).astype(np.int32))

    def condensed(self, form: Form) -> Memory:
        """Return the memory as a form writes it down."""
        written = form.condense(self.values(), self.counts)
        return Memory(*expand(form.name, written), form.name, written)

    def _tensors(self) -> Mapping[str, np.ndarray]:
        return {"features": self.features, "counts": self.counts} if self.form is None else self.written

    def _fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields if self.form is None else fields | {"form": self.form}

    def size(self, **fields: Any) -> int:
        """Return the bytes of the file that `write` makes."""
        return artefacts.serialized_size(KIND, self._tensors(), **self._fields(fields))

    def write(self, path: str | os.PathLike[str], **fields: Any) -> None:
        """Write the memory as an artefact; its size on disk is the memory that the method reports."""
        artefacts.write(path, KIND, self._tensors(), **self._fields(fields))

    @classmethod
    def read(cls, path: str | os.PathLike[str], **expected: Any) -> Memory:
        """Read a memory artefact.

        Raises:
            ArtefactError: as `artefacts.read`, and if counts and rows do not agree.
        """
        artefact = artefacts.read(path, KIND, **expected)
        if (form := artefact.fields.get("form")) is not None:
            return cls._expanded(path, form, artefact.tensors)
        memory = cls(artefact["features"], artefact["counts"])
        if memory.features.dtype not in STORAGE.values() or memory.counts.dtype != np.int32 or memory.counts.ndim != 1:
            raise ArtefactError(
                f"{path}: features are {memory.features.dtype} and counts {memory.counts.dtype} {list(memory.counts.shape)}: no memory."
            )
        if memory.features.ndim != 2 or int(memory.counts.sum()) != len(memory.features) or (memory.counts < 0).any():
            raise ArtefactError(f"{path}: counts of {int(memory.counts.sum())} rows do not fit features of shape {memory.features.shape}.")
        return memory

    @classmethod
    def _expanded(cls, path: str | os.PathLike[str], form: str, written: Mapping[str, np.ndarray]) -> Memory:
        try:
            return cls(*expand(form, written), form, written)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ArtefactError(f"{path} holds no memory of the form {form!r}: {str(error).rstrip('.')}.") from error


def _stored(features: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return features in the storage type, clipped to its range: a float16 beyond 65,504 would be infinite."""
    limits = np.finfo(dtype)
    stored: np.ndarray = np.clip(features, limits.min, limits.max).astype(dtype)
    return stored
