"""choose: run a grid of parameters and rank it by accuracy on validation images; test images take no part."""

from __future__ import annotations

import argparse
import itertools

import pandas as pd

from carryover import classifiers, registry
from carryover.errors import ConfigurationError, unknown
from stages import clones
from stages.command import guard


def main() -> None:
    """Run every combination of the grid, write the ranking, and print it."""
    parser = argparse.ArgumentParser(prog="python -m stages.choose", description=__doc__)
    parser.add_argument("name", help="the file below docs/results/ that the ranking goes to, without its ending")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides that all runs share")
    parser.add_argument("--grid", action="append", required=True, metavar="KEY=V1,V2", help="a parameter and its values; may be repeated")
    parser.add_argument(
        "--cell",
        action="append",
        required=True,
        metavar="REGIME,ADAPTER,CLASSIFIER",
        help="a cell of the table; the first one ranks, others are shown",
    )
    clones.add_jobs(parser)
    options = parser.parse_args()
    for axis in options.grid:
        if not axis.partition("=")[2]:
            parser.error(f"--grid {axis!r} is not of the form KEY=V1,V2")
    keys = [axis.partition("=")[0] for axis in options.grid]
    values = [axis.partition("=")[2].split(",") for axis in options.grid]
    cells = [_cell(cell) for cell in options.cell]
    names = [" x ".join(part for part in cell if part != "-") for cell in cells]
    combinations = list(itertools.product(*values))
    chosen = [[f"{key}={value}" for key, value in zip(keys, combination, strict=True)] for combination in combinations]
    rows = []
    for combination, finished in zip(combinations, clones.run_all([[*options.overrides, *one] for one in chosen], options.jobs, cells), strict=True):
        scores = finished.results[finished.results["budget"] == 0].set_index(["regime", "adapter", "classifier"])["validation_average"]
        for cell in cells:
            if tuple(cell) not in scores.index:
                raise ConfigurationError(f"--cell {','.join(cell)} is no cell of the table: not every regime has every adapter.")
        found = {name: float(scores.loc[tuple(cell)]) for name, cell in zip(names, cells, strict=True)}
        rows.append(dict(zip(keys, combination, strict=True)) | found)
    ranking = pd.DataFrame(rows).sort_values(names[0], ascending=False)
    lines = ["| " + " | ".join(ranking.columns) + " |", "|" + "--:|" * len(ranking.columns)]
    lines += ["| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row) + " |" for row in ranking.itertuples(index=False)]
    heading = f"{clones.made_by('choose')}.\nNumbers are average incremental accuracy on validation images, %; the first cell ranks."
    clones.write(f"{options.name}.md", "\n".join([heading, "", *lines, ""]))
    print("\n".join(lines))


def _cell(text: str) -> list[str]:
    """Return the three coordinates of a cell, checked before anything runs."""
    parts = text.split(",")
    accepted = {
        "regime": [*registry.names("regimes"), "joint"],
        "adapter": [*registry.names("adapters"), "exemplars", "oracle", "-"],
        "classifier": [*classifiers.FITTERS, "head"],
    }
    if len(parts) != len(accepted):
        raise ConfigurationError(f"--cell {text!r} is not of the form REGIME,ADAPTER,CLASSIFIER; the head's adapter is -.")
    for (kind, names), part in zip(accepted.items(), parts, strict=True):
        if part not in names:
            raise ConfigurationError(f"--cell {text!r}: {unknown(kind, part, names)}")
    return parts


if __name__ == "__main__":
    guard(main)
