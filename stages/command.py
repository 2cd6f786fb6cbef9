"""What every stage's command line shares: its parameters, its lock, its one-sentence errors."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from carryover.errors import CarryoverError, ConfigurationError, unknown

PARAMETERS = Path("params.yaml")
SECTIONS = (
    "seed",
    "dataset",
    "protocol",
    "tasks",
    "joint",
    "joint_tasks",
    "backbone",
    "training",
    "machine",
    "extraction",
    "regimes",
    "adapters",
    "columns",
    "memory",
    "evaluation",
)


def parameters(section: str) -> Any:
    """Return a `section` of params.yaml.

    A stage names each section it reads in its own file, as a literal: a test compares these with dvc.yaml.

    Raises:
        ConfigurationError: if the file is no YAML mapping, has an unknown section or lacks this one.
    """
    try:
        content = yaml.load(PARAMETERS.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"Cannot read {PARAMETERS}: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{PARAMETERS} is no mapping of sections.")
    for name in content:
        if name not in SECTIONS:
            raise ConfigurationError(unknown(f"section in {PARAMETERS}", str(name), SECTIONS))
    if section not in content:
        raise ConfigurationError(f"{PARAMETERS} has no section {section!r}.")
    return content[section]


def run(main: Callable[..., None], *arguments: str) -> None:
    """Run a stage: parse its `--arguments`, hold its lock, and turn a known error into one sentence and exit code 1."""
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=sys.modules["__main__"].__doc__)
    for argument in arguments:
        parser.add_argument(f"--{argument}", required=True, metavar=argument.upper())
    options = vars(parser.parse_args())
    try:
        with _lock("-".join([name, *options.values()])):
            main(**options)
    except CarryoverError as error:
        sys.exit(f"Error: {error}")
    except MemoryError:
        sys.exit(f"Error: {name} ran out of memory; earlier artefacts are as they were. Use a smaller training.batch_size or data set.")
    except OSError as error:
        sys.exit(f"Error: {name} could not use {error.filename or 'a file'}: {error.strerror or error}; earlier artefacts are as they were.")


@contextlib.contextmanager
def _lock(stage: str) -> Iterator[None]:
    """Hold the stage's lock file, waiting for an orphan of a killed run to finish rather than racing it."""
    path = Path("data/.locks") / f"{stage.replace('/', '_')}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another run of {stage} to finish.", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def note(self, path: Path) -> None:
        """Write the seconds so far to `path`, for the report."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"seconds": round(time.perf_counter() - self._start, 3)}), encoding="utf-8")
