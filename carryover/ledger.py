"""The ledger: what a method keeps between tasks, array by array, in bytes, and whether an image is among it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carryover import artefacts
from carryover.errors import ArtefactError
from carryover.images import ENCODED

HEADER = "header"


@dataclass(frozen=True)
class Entry:
    """An item of the ledger.

    Args:
        part: what the item belongs to, "memory" or "rehearsal".
        item: the array's name, or "header": what the file says of its arrays.
        type: of the array's numbers, as numpy names it.
        shape: of the array.
        bytes: on disk.
        images: how many images it holds.
    """

    part: str
    item: str
    type: str
    shape: list[int]
    bytes: int
    images: int = 0


def entries(path: str | os.PathLike[str], part: str, kind: str, **expected: Any) -> list[Entry]:
    """Return the ledger of an artefact's file: its arrays, in order of name, and its header. Their bytes are those of the file.

    What looks like images counts as images, whatever it is called: bytes in four dimensions [n, h, w, c], or encoded files.

    Raises:
        ArtefactError: as `carryover.artefacts.read_header`.
    """
    fields = artefacts.read_header(path, kind, **expected)["fields"]
    arrays = artefacts.arrays(path)
    rows = []
    for name, (dtype, shape) in sorted(arrays.items()):
        pixels = dtype == np.uint8 and len(shape) == 4
        encoded = fields.get("encoding") == ENCODED and name == "data"
        images = shape[0] if pixels else arrays["labels"][1][0] if encoded else 0
        rows.append(Entry(part, name, dtype.name, list(shape), int(np.prod(shape)) * dtype.itemsize, images))
    rest = Path(path).stat().st_size - sum(row.bytes for row in rows)
    return [*rows, Entry(part, HEADER, "text", [], rest)]


def check(rows: Iterable[Entry], promised: bool, what: str) -> None:
    """Check that no image is kept but where a method says so: in its rehearsal, if `promised` is false not even there.

    Raises:
        ArtefactError: if there is one; `what` names the method.
    """
    for row in rows:
        if row.images and (row.part == "memory" or not promised):
            raise ArtefactError(f"The {row.part} of {what} holds {row.images} images in {row.item!r}, and the method promises to keep none there.")
