"""Work on many images with all processors, in order and with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from carryover.images import processors

Item = TypeVar("Item")
Result = TypeVar("Result")
_BATCH = 8


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `function(item)` for every item in order; a few batches are under way at any time.

    Threads, for reading and decoding release Python's lock. `items` is advanced by the caller's thread alone.
    """
    workers = processors()
    remaining = iter(items)
    waiting: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        while batch := list(islice(remaining, _BATCH)):
            waiting.append(pool.submit(_apply, function, batch))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _apply(function: Callable[[Item], Result], batch: list[Item]) -> list[Result]:
    return [function(item) for item in batch]
