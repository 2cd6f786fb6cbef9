"""Runs in clones: the committed project with other parameters, beside a shared cache, the workspace untouched."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from carryover.artefacts import replacing
from carryover.errors import CarryoverError, ConfigurationError, unknown

# As `dvc exp run -S` composes it, from the same settings.
COMPOSE = """
import os, sys
from dvc.repo import Repo
from dvc.exceptions import DvcException
from dvc.utils.hydra import compose_and_dump
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
settings = Repo().config["hydra"]
folder, plugins = os.path.abspath(settings.get("config_dir", "conf")), os.path.abspath(settings["plugins_path"])
try:
    compose_and_dump("params.yaml", folder, None, settings.get("config_name", "config"), plugins, sys.argv[1:])
except (DvcException, HydraException, OmegaConfBaseException) as error:
    sys.exit("Error: " + " ".join(f"{error}{f': {error.__cause__}' if error.__cause__ else ''}".split()))
"""


RESULTS = Path("docs/results")


class RunError(CarryoverError):
    """A clone could not be made, or the run in it failed; its own message stands above."""


@dataclass(frozen=True)
class Finished:
    """What a run left in metrics/: results.csv with the adapters' seconds, curves.csv, drift.csv and projection.csv."""

    results: pd.DataFrame
    curves: pd.DataFrame
    drift: pd.DataFrame
    projection: pd.DataFrame


def run_all(runs: list[list[str]], jobs: int, cells: Sequence[Sequence[str]] = ()) -> list[Finished]:
    """Return what `run` returns of each list of overrides, with `jobs` runs side by side.

    Raises:
        ConfigurationError: if `jobs` is less than one, or a run would lack one of the `cells`.
        RunError: for the first run that failed, after the others that had begun have ended.
    """
    if jobs < 1:
        raise ConfigurationError(f"--jobs is {jobs}; it takes 1 or more.")
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, overrides, cells) for overrides in runs]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def run(overrides: list[str], cells: Sequence[Sequence[str]] = ()) -> Finished:
    """Run the committed project with Hydra `overrides`.

    What several runs have in common is computed once, for they share this project's cache, and an interrupted series of
    runs goes on where it stopped.

    Args:
        overrides: as after `dvc exp run -S`.
        cells: regime, adapter and classifier of cells of the table that the run must have.

    Raises:
        ConfigurationError: if it would lack one of them; nothing has run then.
        RunError: if the folder is no git repository, the parameters do not compose, or a stage fails.
    """
    print(f"Running {shlex.join(overrides)}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="carryover-") as name:
        folder = Path(name)
        cloned = subprocess.run(["git", "clone", "--quiet", ".", folder], check=False, stderr=subprocess.PIPE, text=True)
        if cloned.returncode:
            reason = (cloned.stderr.strip().splitlines() or ["git gave no reason"])[-1]
            raise RunError(f"Cannot clone the project, whose committed files such runs take; {Path.cwd()} must be a git repository ({reason}).")
        if Path("data/raw").exists():
            (folder / "data/raw").symlink_to(Path("data/raw").resolve())
        subprocess.run(
            [sys.executable, "-m", "dvc", "cache", "dir", "--local", Path(".dvc/cache").resolve()], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        environment = {**os.environ, "PYTHONPATH": name}

        def python(*arguments: str) -> None:
            if subprocess.run([sys.executable, *arguments], cwd=folder, check=False, env=environment).returncode:
                raise RunError(f"The run with {shlex.join(overrides)} failed.")

        python("-c", COMPOSE, *overrides)
        check_cells(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")), cells)
        python("-m", "stages.repro")
        names = ("results", "seconds", "curves", "drift", "projection")
        results, seconds, *others = (pd.read_csv(folder / f"metrics/{name}.csv") for name in names)
        return Finished(results.merge(seconds, how="left", on=["regime", "adapter"]), *others)


def check_cells(content: Mapping[str, Any], cells: Sequence[Sequence[str]]) -> None:
    """Check that a run of the parameters `content` has cells of the table.

    Raises:
        ConfigurationError: for the first that it lacks; what it has is named.
    """
    joint = ["joint"] if content["joint_tasks"] else []
    present = {
        "regime": [*content["regimes"], *joint],
        "adapter": [*content["columns"], "-"],
        "classifier": [*content["evaluation"]["classifiers"], "head"],
    }
    for cell in cells:
        for (kind, names), part in zip(present.items(), cell, strict=True):
            if part not in names:
                raise ConfigurationError(f"The cell {','.join(cell)} is not in the run: {unknown(kind, part, names)}")


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the option that `run_all` takes."""
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, best with machine.threads=1 (default: 1)")


def write(name: str, text: str) -> None:
    """Write a file of results."""
    with replacing(RESULTS / name) as path:
        path.write_text(text, encoding="utf-8")


def made_by(tool: str) -> str:
    """Return how results came about: this command, at the commit that clones are made of."""
    return f"Made by `python -m stages.{tool} {shlex.join(sys.argv[1:])}` at commit {_commit()}"


def _commit() -> str:
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
