"""What tools share that write a file where the user says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carryover.errors import ArtefactError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of writing into a sentence on `path`."""
    try:
        yield
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error
