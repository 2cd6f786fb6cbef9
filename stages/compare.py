"""compare: the same experiment over several class orders and initialisations, put together as one table in docs/results/.

Each run is a clone of the committed project beside a shared cache, so what two runs have in common is computed once, an
interrupted comparison goes on where it stopped, and the workspace stays as it is.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from carryover import runs
from carryover.artefacts import replacing

RESULTS = Path("docs/results")


def main() -> int:
    """Run every combination of class-order and initialisation seeds; return an exit code."""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument("name", help="the folder below docs/results/ that the table goes to")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, as after `dvc exp run -S`")
    parser.add_argument("--orders", nargs="+", type=int, default=[0, 1, 2], help="class-order seeds (default: 0 1 2)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="initialisation seeds (default: 0)")
    parser.add_argument("--classifiers", nargs="+", default=["softmax", "nme"], help="shown in the table (default: softmax nme)")
    options = parser.parse_args()
    tables = []
    for order, seed in itertools.product(options.orders, options.seeds):
        table = _run([*options.overrides, f"protocol.seed={order}", f"seed={seed}"])
        if table is None:
            return 1
        tables.append(table.assign(order=order, seed=seed))
    folder = RESULTS / options.name
    everything = pd.concat(tables)
    table = runs.aggregate(everything)
    command = f"python -m stages.compare {shlex.join(sys.argv[1:])}"
    heading = f"Made by `{command}` at commit {_git('rev-parse', '--short', 'HEAD')}: {len(tables)} runs, mean ± standard deviation."
    texts = {
        "runs.csv": everything.round(4).to_csv(index=False),
        "table.csv": table.round(4).to_csv(index=False),
        "table.md": heading + "\n\n" + runs.markdown(table, options.classifiers),
    }
    for name, text in texts.items():
        with replacing(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    print(texts["table.md"])
    return 0


def _run(overrides: list[str]) -> pd.DataFrame | None:
    """Return the results of one run, or None if it failed."""
    print(f"Running {shlex.join(overrides)}", file=sys.stderr, flush=True)
    cache = Path(".dvc/cache").resolve()
    with tempfile.TemporaryDirectory(prefix="carryover-") as folder:
        subprocess.run(["git", "clone", "--quiet", ".", folder], check=True)
        raw = Path("data/raw")
        if raw.exists():
            (Path(folder) / "data").mkdir(exist_ok=True)
            (Path(folder) / "data/raw").symlink_to(raw.resolve())
        subprocess.run(["dvc", "cache", "dir", "--local", str(cache)], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        compose = "import os, sys; from dvc.utils.hydra import compose_and_dump as c; c('params.yaml', os.path.abspath('conf'), None, 'config', os.path.abspath('conf'), sys.argv[1:])"
        for command in ([sys.executable, "-c", compose, *overrides], [sys.executable, "-m", "stages.repro"]):
            if subprocess.run(command, cwd=folder, check=False, env={**os.environ, "PYTHONPATH": folder}).returncode:
                return None
        results = pd.read_csv(Path(folder) / "metrics/results.csv")
        return results.merge(pd.read_csv(Path(folder) / "metrics/seconds.csv"), how="left", on=["regime", "adapter"])


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
