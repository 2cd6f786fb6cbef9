"""The protocol: in which order classes arrive, in which tasks, and which training images are held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from carryover.classes import Entry
from carryover.errors import ConfigurationError, DataError, unknown
from carryover.seeds import generator

Count = Annotated[int, Field(gt=0)]


class Protocol:
    """Which classes arrive in which task.

    Args:
        sizes: how many new classes each task brings; unequal tasks are normal. Or, in its place:
        base: how many classes the first task brings,
        increment: how many each later one brings, and
        count: how many tasks there are.
        order: "seed" draws the class order from numpy's current generator, "legacy" from its legacy one
            (`numpy.random.seed(s); permutation(n)`, the field's "seed 1993" order), "names" takes `names` as they
            stand and "register" keeps the order of the class register.
        seed: the class-order seed; the initialisation seed is another parameter.
        names: class names in order of arrival, for `order="names"`; classes that are not named never arrive.
        validation: the fraction of each class's training images that is held out for validation, 0 <= fraction < 1.
    """

    def __init__(
        self,
        sizes: Annotated[list[Count], Field(min_length=1)] | None = None,
        base: Count | None = None,
        increment: Count | None = None,
        count: Count | None = None,
        order: Literal["seed", "legacy", "names", "register"] = "seed",
        seed: Annotated[int, Field(ge=0)] = 0,
        names: list[str] | None = None,
        validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    ) -> None:
        if sizes is None:
            if base is None or increment is None or count is None:
                raise ConfigurationError("The protocol needs either sizes, or all of base, increment and count.")
            sizes = [base, *[increment] * (count - 1)]
        elif (base, increment, count) != (None, None, None):
            raise ConfigurationError("The protocol takes either sizes, or base, increment and count: set the others to null.")
        self.sizes = sizes
        self.order = order
        self.seed = seed
        self.names = names
        self.validation = validation

    def arrivals(self, register: Sequence[Entry]) -> list[Entry]:
        """Return the classes of the `register` in order of arrival.

        Classes registered together (one generation) are permuted together, and later generations follow: the order
        of earlier classes never changes when classes are added.

        Raises:
            ConfigurationError: if `names` repeats a class or names one that is not registered.
        """
        if self.order == "names":
            return self._named(register)
        if self.order == "register":
            return list(register)
        ordered: list[Entry] = []
        for generation in sorted({entry.generation for entry in register}):
            members = [entry for entry in register if entry.generation == generation]
            ordered += [members[i] for i in self._permutation(len(members), generation)]
        return ordered

    def _permutation(self, n: int, generation: int) -> np.ndarray:
        if self.order == "legacy":
            if self.seed + generation >= 2**32:
                raise ConfigurationError(f"Parameter protocol.seed is {self.seed}: numpy's legacy generator takes seeds below 2^32.")
            return np.random.RandomState(self.seed + generation).permutation(n)
        return generator(self.seed, "class order", generation).permutation(n)

    def _named(self, register: Sequence[Entry]) -> list[Entry]:
        by_name = {entry.name: entry for entry in register}
        names = self.names or []
        for name in names:
            if name not in by_name:
                raise ConfigurationError(unknown("class in protocol.names", name, by_name))
            if names.count(name) > 1:
                raise ConfigurationError(f"protocol.names has the class {name!r} {names.count(name)} times: a class arrives once.")
        return [by_name[name] for name in names]

    def tasks(self, register: Sequence[Entry]) -> list[list[Entry]]:
        """Return the classes of each task, in order of arrival.

        Raises:
            DataError: if the tasks ask for more classes than there are.
        """
        arrivals = self.arrivals(register)
        if sum(self.sizes) > len(arrivals):
            raise DataError(
                f"protocol.sizes asks for {sum(self.sizes)} classes ({' + '.join(map(str, self.sizes))}) but there are {len(arrivals)}: "
                f"take fewer or smaller tasks."
            )
        stops = np.cumsum(self.sizes)
        return [arrivals[stop - size : stop] for size, stop in zip(self.sizes, stops, strict=True)]

    def held_out(self, n: int, name: str) -> np.ndarray:
        """Return the sorted indices of a class's `n` training images that are held out for validation, [round(n * fraction)].

        The draw depends on the class's name and on `n` alone, so neither other classes nor `seed` change it. At least one image
        stays for training; where a fraction is asked for and n > 1, at least one is held out.
        """
        if self.validation == 0 or n < 2:
            return np.empty(0, dtype=np.int64)
        count = min(max(round(n * self.validation), 1), n - 1)
        return np.sort(generator(0, "validation", name).choice(n, size=count, replace=False)).astype(np.int64)
