"""carryover: use what the pipeline made, and grow it."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

import shtab

from carryover.errors import CarryoverError

# Each names a module of this package with a docstring (its first line is the verb's help), `arguments(parser)` and `run(options)`.
VERBS = ("predict", "export", "grow", "adapt")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser, with a sub-parser a verb."""
    top = argparse.ArgumentParser(prog="carryover", description=__doc__, allow_abbrev=False)
    shtab.add_argument_to(top, ["--print-completion"], help="print the completion script of a shell, and exit")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in VERBS:
        module = importlib.import_module(f"carryover_cli.{name}")
        text = (module.__doc__ or "").strip()
        verb = verbs.add_parser(
            name, help=text.splitlines()[0], description=text, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.arguments(verb)
        verb.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; return an exit code: 0, 1 after a known error (one sentence), 2 for wrong usage, 130 when interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    verb = "carryover"
    try:
        options = parser().parse_args(arguments)
        verb = f"carryover {options.verb}"
        options.run(options)
        sys.stdout.flush()
    except CarryoverError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail(f"{verb} ran out of memory.")
    except BrokenPipeError:
        # Whoever read the output has gone: leave quietly, and keep the interpreter from writing to it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{verb} could not use {error.filename or 'a file'}: {error.strerror or error}.")
    except KeyboardInterrupt:
        return 130
    return 0


def _fail(message: str) -> int:
    print(f"Error: {' '.join(message.splitlines())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
