"""What the pipeline costs when there is nothing to do: `dvc repro` after a run, against DVC's own start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.measure import Row, fastest
from stages.clones import COMPOSE

ROOT = Path(__file__).resolve().parent.parent
TASKS = 10
COPIED = ("carryover", "carryover_cli", "stages", "conf", "dvc.yaml", "params.yaml", "pyproject.toml", ".dvc", ".dvcignore", ".gitignore")
SETTINGS = (
    "protocol.sizes=[" + ",".join("1" * TASKS) + "]",
    "training.epochs=1",
    "training.increment_epochs=1",
    "extraction.views=0",
    "adapters.mlp.steps=1",
)


def row(repeats: int = 2, begun: Path | None = None) -> Row:
    """Run ten one-class tasks of digits in a temporary copy of the project (minutes), then time runs that find nothing to do.

    Where such a copy was `begun` and stopped, it is finished in place of a new one.
    """
    with tempfile.TemporaryDirectory(prefix="carryover-bench-") as name:
        if begun:
            copy = begun
        else:
            copy = copied(Path(name))
            composed(copy, SETTINGS)
        run(copy, "python", "-m", "stages.repro")
        nothing = fastest(lambda: run(copy, "dvc", "repro", "--quiet"), repeats)
        start = fastest(lambda: run(copy, "dvc", "--version"), repeats)
        listed = fastest(lambda: run(copy, "dvc", "stage", "list"), repeats)
    note = f"{TASKS} tasks, 2 regimes, 4 adapters; `dvc stage list` takes {listed:.2f} s"
    return Row("dvc repro with nothing to do", f"{nothing:.2f} s", f"{start:.2f} s, dvc --version", start / nothing, note)


def copied(copy: Path) -> Path:
    """Copy the project, without its data, into a folder; return that."""
    for entry in COPIED:
        source = ROOT / entry
        if source.is_dir():
            shutil.copytree(source, copy / entry, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
        elif source.exists():
            shutil.copy2(source, copy / entry)
    # DVC wants a repository, and `dvc exp run` a commit.
    run(copy, "git", "init", "--quiet")
    run(copy, "git", "add", ".")
    run(copy, "git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "--message", "A copy to measure")
    return copy


def composed(copy: Path, settings: Sequence[str]) -> None:
    """Give a copy of the project the parameters that are measured, as `dvc exp run -S` composes them."""
    run(copy, "python", "-c", COMPOSE, *settings)


def run(folder: Path, *command: str) -> None:
    """Run a command in a copy of the project.

    Raises:
        RuntimeError: if it fails.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed in a copy of the project: {done.stderr.strip()[-500:]}")
