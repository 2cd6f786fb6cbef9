"""compare: the same experiment over several class orders and initialisations, put together as one table in docs/results/."""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from pathlib import Path

import pandas as pd

from carryover import runs
from carryover.artefacts import replacing
from stages import clones
from stages.command import guard
from stages.picture import draw

RESULTS = Path("docs/results")


def main() -> None:
    """Run every combination of class-order and initialisation seeds, and write their table and their mean curves."""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument("name", help="the folder below docs/results/ that the table goes to")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, as after `dvc exp run -S`")
    parser.add_argument("--orders", nargs="+", type=int, default=[0, 1, 2], help="class-order seeds (default: 0 1 2)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="initialisation seeds (default: 0)")
    parser.add_argument("--classifiers", nargs="+", default=["softmax", "nme"], help="shown in the table (default: softmax nme)")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, best with machine.threads=1 (default: 1)")
    options = parser.parse_args()
    pairs = list(itertools.product(options.orders, options.seeds))
    found = clones.run_all([[*options.overrides, f"protocol.seed={order}", f"seed={seed}"] for order, seed in pairs], options.jobs)
    tables = [table.assign(order=order, seed=seed) for (order, seed), (table, _) in zip(pairs, found, strict=True)]
    curves = [curve for _, curve in found]
    everything = pd.concat(tables)
    table = runs.aggregate(everything)
    mean = runs.mean_curves(pd.concat(curves))
    count = f"{len(tables)} {'run' if len(tables) == 1 else 'runs'}"
    heading = f"Made by `python -m stages.compare {shlex.join(sys.argv[1:])}` at commit {clones.commit()}: {count}, mean ± standard deviation."
    _write(options.name, "runs.csv", everything.round(4).to_csv(index=False))
    _write(options.name, "table.csv", table.round(4).to_csv(index=False))
    _write(options.name, "curves.csv", mean.to_csv(index=False))
    _write(options.name, "table.md", f"{heading}\n\n{runs.markdown(table, options.classifiers)}\n![Accuracy over all classes seen](curves.png)\n")
    draw(mean.to_dict("records"), RESULTS / options.name / "curves.png", f"Accuracy over all classes seen, mean of {count}")
    print(runs.markdown(table, options.classifiers))


def _write(folder: str, name: str, text: str) -> None:
    with replacing(RESULTS / folder / name) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    guard(main)
