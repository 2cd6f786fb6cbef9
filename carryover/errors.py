"""The errors a user may see: each is one clear sentence, never a traceback."""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Callable, Iterable


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


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out: Python's own, torch's on a GPU, or torch's on a processor, which has no type."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)


def told(action: Callable[[], None], program: str, kept: str = "", advice: str = "") -> int:
    """Do what a program is for; say in one sentence on stderr what went wrong, if anything did.

    Args:
        action: what to do.
        program: its name, which begins the sentences that no `CarryoverError` has worded.
        kept: ends them: what was left as it was.
        advice: a sentence for when memory runs out.

    Returns:
        An exit code: 0; 1 after a `CarryoverError`, when memory or a file failed, or when the reader of the output has gone;
        130 after an interrupt.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        action()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # Leave quietly, and keep the interpreter from writing to the output again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"{program} was interrupted{kept}.", file=sys.stderr)
        return 130
    except CarryoverError as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        message = f"{program} ran out of memory{kept}. {advice}"
    except OSError as error:
        message = f"{program} could not use {error.filename or 'a file'}: {error.strerror or error}{kept}."
    print(f"Error: {' '.join(message.splitlines()).strip()}", file=sys.stderr)
    return 1
