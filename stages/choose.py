"""choose: run a grid of parameters and rank it by accuracy on validation images; test images take no part."""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from pathlib import Path

import pandas as pd

from carryover.artefacts import replacing
from stages import clones
from stages.command import guard

RESULTS = Path("docs/results")


def main() -> None:
    """Run every combination of the grid, write the ranking, and print it."""
    parser = argparse.ArgumentParser(prog="python -m stages.choose", description=__doc__)
    parser.add_argument("name", help="the file below docs/results/ that the ranking goes to, without its ending")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides that all runs share")
    parser.add_argument("--grid", action="append", required=True, metavar="KEY=V1,V2", help="a parameter and its values; may be repeated")
    parser.add_argument("--cell", required=True, metavar="REGIME,ADAPTER,CLASSIFIER", help="the cell of the table that is ranked")
    options = parser.parse_args()
    keys = [axis.partition("=")[0] for axis in options.grid]
    values = [axis.partition("=")[2].split(",") for axis in options.grid]
    regime, adapter, classifier = options.cell.split(",")
    rows = []
    for combination in itertools.product(*values):
        chosen = [f"{key}={value}" for key, value in zip(keys, combination, strict=True)]
        results, _ = clones.run([*options.overrides, *chosen])
        cell = results[(results[["regime", "adapter", "classifier", "budget"]] == [regime, adapter, classifier, 0]).all(axis=1)]
        rows.append(dict(zip(keys, combination, strict=True)) | {"validation average incremental %": float(cell["validation_average"].iloc[0])})
    ranking = pd.DataFrame(rows).sort_values("validation average incremental %", ascending=False)
    lines = ["| " + " | ".join(ranking.columns) + " |", "|" + "--:|" * len(ranking.columns)]
    lines += ["| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row) + " |" for row in ranking.itertuples(index=False)]
    heading = f"Made by `python -m stages.choose {shlex.join(sys.argv[1:])}` at commit {clones.commit()}."
    with replacing(RESULTS / f"{options.name}.md") as path:
        path.write_text("\n".join([heading, "", *lines, ""]), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    guard(main)
