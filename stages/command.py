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

from carryover.artefacts import replacing, sha256
from carryover.errors import ConfigurationError, told, unknown

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
    "trained",
    "given",
    "adapters",
    "columns",
    "paired",
    "chasing",
    "memory",
    "evaluation",
    "bundle",
    "bundled",
)


def parameters(section: str, name: str | None = None) -> Any:
    """Return a `section` of params.yaml, or what it has under `name`.

    A stage names each section it reads in its own file, as a literal: a test compares these with dvc.yaml.

    Raises:
        ConfigurationError: if the file is no YAML mapping, has an unknown section, or lacks this one or the name in it.
    """
    try:
        content = yaml.load(PARAMETERS.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"Cannot read {PARAMETERS}: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{PARAMETERS} is no mapping of sections.")
    for found in content:
        if found not in SECTIONS:
            raise ConfigurationError(unknown(f"section in {PARAMETERS}", str(found), SECTIONS))
    if section not in content:
        raise ConfigurationError(f"{PARAMETERS} has no section {section!r}.")
    return content[section] if name is None else _member(content[section], section, name)


def mapping(content: Any, section: str) -> dict[str, Any]:
    """Return the `content` of a section if it is a mapping.

    Raises:
        ConfigurationError: if it is not.
    """
    if not isinstance(content, dict):
        raise ConfigurationError(f"Section {section!r} of {PARAMETERS} is {content!r}: a mapping is needed.")
    return content


def _member(content: Any, section: str, name: str) -> Any:
    members = mapping(content, section)
    if name not in members:
        raise ConfigurationError(unknown(f"name in section {section!r} of {PARAMETERS}", name, map(str, members)))
    return members[name]


def natural(value: Any, where: str) -> int:
    """Return a parameter's `value` if it is a whole number from 0.

    Raises:
        ConfigurationError: if it is not; `where` names the parameter.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"Parameter {where} is {value!r}: a whole number from 0 is needed.")
    return value


def plain(name: str, where: str) -> str:
    """Return a name that becomes a file's, if it is one and no path.

    Raises:
        ConfigurationError: if it is empty, begins with a dot, or has slashes or characters that do not print; `where` says what it is.
    """
    if not name or name.startswith(".") or not name.isprintable() or "/" in name or "\\" in name:
        raise ConfigurationError(f"{where} is {name!r}: a name is needed, without slashes and not beginning with a dot.")
    return name


def ids(tasks: Any, where: str) -> list[str]:
    """Return the ids in a list of tasks.

    Raises:
        ConfigurationError: if it is no such list, or an id is no plain name; `where` names the parameter.
    """
    try:
        return [plain(str(task["id"]), f"{where}.id") for task in tasks]
    except (TypeError, KeyError) as error:
        raise ConfigurationError(f"Section {where!r} of {PARAMETERS} is no list of tasks: compose the file again from conf/.") from error


def run(main: Callable[..., None], *arguments: str) -> None:
    """Run a stage: parse its `--arguments`, hold its lock, and turn a known error into one sentence and exit code 1."""
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=sys.modules["__main__"].__doc__)
    for argument in arguments:
        parser.add_argument(f"--{argument}", required=True, metavar=argument.upper())
    options = vars(parser.parse_args())

    def locked() -> None:
        for option, value in options.items():
            plain(value, f"--{option}")
        with _lock("-".join([name, *options.values()])):
            main(**options)

    sys.exit(told(locked, name, "; earlier artefacts are as they were", "Use a smaller training.batch_size or data set."))


def guard(main: Callable[[], None]) -> None:
    """Run a tool that is no stage: a known error is one sentence and exit code 1, an interrupt is exit code 130."""
    sys.exit(told(main, Path(sys.argv[0]).stem))


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

    def note(self, path: Path, made: Path | None = None) -> None:
        """Write the seconds so far to `path`, for the report, with the digest of the file that was `made` in them."""
        note: dict[str, Any] = {"seconds": round(time.perf_counter() - self._start, 3)}
        if made is not None:
            note["sha256"] = sha256(made)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(note), encoding="utf-8")
