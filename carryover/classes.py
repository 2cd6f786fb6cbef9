"""The class register: which label each class has. It only ever grows at its end, so labels never change.

It is a csv file with the columns `label,generation,name`, kept in git. The classes that one run of `prepare` brings
are one generation.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from carryover.artefacts import replacing
from carryover.errors import DataError

COLUMNS = ["label", "generation", "name"]


@dataclass(frozen=True)
class Entry:
    """A registered class: its `label`, the `generation` it came with, and its `name`."""

    label: int
    generation: int
    name: str


def canonical(name: str, where: str) -> str:
    """Return a class name in Unicode's composed form (NFC), in which equal names have equal bytes.

    Raises:
        DataError: if the name is empty or is no text; `where` says what carries it.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} has the class name {name!r}, which is not valid UTF-8.") from error
    if not name.strip():
        raise DataError(f"{where} has a class with an empty name: every class needs one.")
    return unicodedata.normalize("NFC", name)


def lineage(before: str, names: Sequence[str]) -> str:
    """Return a digest of the classes seen: those that `before` stands for ("" for none), then `names`, in the order of their labels.

    Artefacts record it, so that one that knows other classes, or the same in another order, is found out.
    """
    return hashlib.sha256(json.dumps([before, *names]).encode()).hexdigest()[:16]


def register(known: Sequence[Entry], found: Sequence[str], where: str = "the class register") -> list[Entry]:
    """Return the `known` entries followed by the classes of `found` that are new, sorted by name, as the next generation.

    Known classes that are not found stay: their images may be gone, and their labels must not be used again.

    Args:
        known: what is registered.
        found: the names of the data set's classes.
        where: names the register in errors.

    Raises:
        DataError: if no class is found, a name is empty or occurs twice, or none of the known classes is found.
    """
    names = [canonical(name, "The data set") for name in found]
    if not names:
        raise DataError("The data set has no classes.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"The data set has the class name {repeated[0]!r} more than once, after Unicode normalisation: names are unique.")
    registered = {entry.name for entry in known}
    if known and registered.isdisjoint(names):
        raise DataError(
            f"None of the {len(known)} classes in {where} (such as {known[0].name!r}) is in this data set (which has {min(names)!r}): "
            f"it is another data set; choose another dataset.name, or delete {where} to start over."
        )
    generation = max((entry.generation for entry in known), default=-1) + 1
    new = sorted(set(names) - registered)
    return [*known, *(Entry(len(known) + i, generation, name) for i, name in enumerate(new))]


def read_register(path: str | os.PathLike[str]) -> list[Entry]:
    """Return the entries of a register file, in order of their labels.

    Raises:
        DataError: if there is no such file, or one of its lines is malformed; the line is named.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as handle:
            return _parse(path, handle)
    except FileNotFoundError as error:
        raise DataError(f"There is no class register {path}: the stage prepare writes it.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The class register {path} cannot be read as UTF-8 text: {error}.") from error


def write_register(path: str | os.PathLike[str], entries: Sequence[Entry]) -> None:
    """Write a register file, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        handle.write(",".join(COLUMNS) + "\n")
        # All names are quoted, for before Python 3.13 the writer leaves a carriage return bare.
        writer = csv.writer(handle, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows((entry.label, entry.generation, entry.name) for entry in entries)


def _parse(path: str | os.PathLike[str], handle: TextIO) -> list[Entry]:
    reader = csv.reader(handle, strict=True)
    entries: list[Entry] = []
    seen: set[str] = set()
    try:
        if next(reader, None) != COLUMNS:
            raise DataError(f"Line 1 of the class register {path} must be {','.join(COLUMNS)!r}.")
        for row in reader:
            entry = _entry(row, entries, seen)
            if isinstance(entry, str):
                raise DataError(f"Line {reader.line_num} of the class register {path} {entry}: restore the file from git.")
            entries.append(entry)
            seen.add(entry.name)
    except csv.Error as error:
        raise DataError(f"Line {reader.line_num} of the class register {path} is no csv ({error}): restore the file from git.") from error
    return entries


def _entry(row: list[str], earlier: list[Entry], seen: set[str]) -> Entry | str:
    """Return the entry of a row, or what is wrong with it."""
    if len(row) != len(COLUMNS):
        return f"has {len(row)} columns where {len(COLUMNS)} are needed"
    label, generation, name = row
    if label != str(len(earlier)):
        return f"has the label {label!r} where {len(earlier)} must follow"
    last = earlier[-1].generation if earlier else 0
    # The next generation or the same one: Unicode digits and gaps are as wrong here as letters.
    if generation not in (str(last), *([str(last + 1)] if earlier else [])):
        return f"has the generation {generation!r} where {last}{f' or {last + 1}' if earlier else ''} must follow"
    if not name.strip() or name != unicodedata.normalize("NFC", name):
        return f"has the class name {name!r}, which is empty or not in Unicode's composed form"
    if name in seen:
        return f"repeats the class name {name!r}"
    return Entry(len(earlier), int(generation), name)
