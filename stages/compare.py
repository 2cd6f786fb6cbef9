"""compare: the same experiment over several class orders and initialisations, put together as one table in docs/results/."""

from __future__ import annotations

import argparse
import itertools

import pandas as pd

from carryover import runs
from stages import clones
from stages.command import guard
from stages.picture import draw, draw_memory


def main() -> None:
    """Run every combination of class-order and initialisation seeds, and write their table and their mean curves."""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument("name", help="the folder below docs/results/ that the table goes to")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, as after `dvc exp run -S`")
    parser.add_argument("--orders", nargs="+", type=int, default=[0, 1, 2], help="class-order seeds (default: 0 1 2)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="initialisation seeds (default: 0)")
    parser.add_argument("--classifiers", nargs="+", default=["softmax", "nme"], help="shown in the table (default: softmax nme)")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="REGIME.PARAMETER=V1,V2",
        help="run a regime with other values of a parameter too, beside the rest as it is; may be repeated",
    )
    parser.add_argument("--bytes", nargs="*", type=int, default=[], help="add a table of all methods within so many bytes each")
    clones.add_jobs(parser)
    options = parser.parse_args()
    for axis in options.vary:
        if "." not in axis.partition("=")[0] or not axis.partition("=")[2]:
            parser.error(f"--vary {axis!r} is not of the form REGIME.PARAMETER=V1,V2")
    variations = [(axis.split(".")[0], axis.partition("=")[0], value) for axis in options.vary for value in axis.partition("=")[2].split(",")]
    settings = [None, *variations]
    runs_wanted = list(itertools.product(options.orders, options.seeds, settings))
    overrides = [
        [*options.overrides, f"protocol.seed={order}", f"seed={seed}", *([f"regimes.{setting[1]}={setting[2]}"] if setting else [])]
        for order, seed, setting in runs_wanted
    ]
    tables, curves = [], []
    for (order, seed, setting), (table, curve) in zip(runs_wanted, clones.run_all(overrides, options.jobs), strict=True):
        table = table.assign(order=order, seed=seed, setting=f"{setting[1].partition('.')[2]}={setting[2]}" if setting else "")
        # Of a variation only the regime's own rows are new.
        tables.append(table[table["regime"] == setting[0]] if setting else table)
        if not setting:
            curves.append(curve)
    everything = pd.concat(tables)
    table = runs.aggregate(everything)
    mean = runs.mean_curves(pd.concat(curves))
    count = f"{len(curves)} {'run' if len(curves) == 1 else 'runs'}"
    heading = f"{clones.made_by('compare')}: {count}, mean ± standard deviation."
    clones.write(f"{options.name}/runs.csv", everything.round(4).to_csv(index=False))
    clones.write(f"{options.name}/table.csv", table.round(4).to_csv(index=False))
    clones.write(f"{options.name}/curves.csv", mean.to_csv(index=False))
    text = f"{heading}\n\n{runs.markdown(table, options.classifiers)}\n![Accuracy over all classes seen](curves.png)\n"
    for limit in options.bytes:
        text += f"\nWithin {limit:,} bytes, each method with the largest budget that fits:\n\n{runs.within_markdown(table, limit)}"
    text += "\n![Accuracy against memory](memory.png)\n"
    clones.write(f"{options.name}/table.md", text)
    draw_memory(table, clones.RESULTS / options.name / "memory.png")
    draw(mean.to_dict("records"), clones.RESULTS / options.name / "curves.png", f"Accuracy over all classes seen, mean of {count}")
    print(runs.markdown(table, options.classifiers))


if __name__ == "__main__":
    guard(main)
