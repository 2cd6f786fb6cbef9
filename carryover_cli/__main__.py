"""carryover: use what the pipeline made, and grow it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import shtab

from carryover.errors import told

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
    options = parser().parse_args(arguments)
    return told(lambda: options.run(options), f"carryover {options.verb}")


if __name__ == "__main__":
    sys.exit(main())
