"""The errors a user may see: each is one clear sentence, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CarryoverError(Exception):
    """What was wrong, where, and what is accepted, in one sentence."""


class ConfigurationError(CarryoverError):
    """A parameter has an unknown name, a wrong type or a value out of range."""


class DataError(CarryoverError):
    """Images, archives or protocols that do not fit together."""


class ArtefactError(CarryoverError):
    """A file that is missing, truncated, of another kind, or holds numbers that are not finite."""


class TrainingError(CarryoverError):
    """Training that cannot go on: the loss is not finite, or memory ran out."""


def unknown(what: str, name: str, accepted: Iterable[str]) -> str:
    """Return the sentence for an unknown `name`: the nearest valid names first, then all of them."""
    names = sorted(accepted)
    close = difflib.get_close_matches(str(name), names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else "."
    return f"Unknown {what} {name!r}{hint} Accepted: {', '.join(names) or 'none'}."
