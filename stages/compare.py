"""compare: the same experiment over several class orders and initialisations, put together as one table in docs/results/."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import pandas as pd

from carryover import registry, report, runs
from stages import clones, picture, redraw
from stages.command import guard

# Sections of params.yaml that change neither a network nor its head, but all that is read from a memory.
AFTER_TRAINING = ("memory", "extraction", "evaluation")


def main() -> None:
    """Run every combination of class-order and initialisation seeds, and write their table and their mean curves."""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument("name", help="the folder below docs/results/ that the table goes to")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, as after `dvc exp run -S`")
    parser.add_argument("--orders", nargs="+", type=int, default=[0, 1, 2], help="class-order seeds (default: 0 1 2)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="initialisation seeds (default: 0)")
    parser.add_argument("--classifiers", nargs="+", default=redraw.CLASSIFIERS, help=f"shown in the table (default: {' '.join(redraw.CLASSIFIERS)})")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="PARAMETER=V1,V2",
        help="run with other values of a parameter too, beside the rest as it is: a regime's, as rehearsal.exemplars.per_class=2,5, "
        "or one of params.yaml, as adapters.generative.width=64,256 or memory.storage=float16,int8; may be repeated",
    )
    parser.add_argument("--bytes", nargs="*", type=int, default=[], help="add a table of all methods within so many bytes each")
    parser.add_argument("--add", action="store_true", help="add the rows to those that the table has, in place of the same cells' earlier ones")
    parser.add_argument("--only-varied", action="store_true", help="with --add and --vary: leave out the rest as it is, which the table has already")
    clones.add_jobs(parser)
    options = parser.parse_args()
    if options.only_varied and not (options.add and options.vary):
        parser.error("--only-varied takes --add, for a table that has the other rows, and --vary, for what is run")
    if options.only_varied and not (clones.RESULTS / options.name / "runs.csv").exists():
        parser.error(f"--only-varied adds to a table, but there is no {clones.RESULTS / options.name / 'runs.csv'}; leave it out")
    for axis in options.vary:
        if "." not in axis.partition("=")[0] or not axis.partition("=")[2]:
            parser.error(f"--vary {axis!r} is not of the form PARAMETER=V1,V2, with a dot in the parameter's name")
    variations = [(axis.partition("=")[0], value) for axis in options.vary for value in axis.partition("=")[2].split(",")]
    settings = variations if options.only_varied else [None, *variations]
    runs_wanted = list(itertools.product(options.orders, options.seeds, settings))
    overrides = [[*options.overrides, f"protocol.seed={order}", f"seed={seed}", *_override(setting)] for order, seed, setting in runs_wanted]
    tables, curves, drifts, projections = [], [], [], []
    for (order, seed, setting), finished in zip(runs_wanted, clones.run_all(overrides, options.jobs), strict=True):
        table = finished.results.assign(order=order, seed=seed, setting="")
        tables.append(_changed(table, *setting) if setting else table)
        # Pictures show the rest as it is: a variation gives them columns and no rows.
        shown = slice(0) if setting else slice(None)
        curves.append(runs.curves_of(finished.curves[shown]).assign(order=order, seed=seed))
        drifts.append(report.drift_by_age(finished.drift[shown]).assign(order=order, seed=seed))
        projections.append(finished.projection[shown])
    folder = clones.RESULTS / options.name
    count = len(options.orders) * len(options.seeds)
    heading = f"{clones.made_by('compare')}: {f'{count} runs, mean ± standard deviation' if count > 1 else '1 run'}.\n"
    everything, curve, drift = pd.concat(tables), pd.concat(curves), pd.concat(drifts)
    if options.add:
        heading = _heading(folder / "table.md") + heading
        everything = runs.added(_table(folder / "runs.csv", everything), everything, runs.CELL)
        curve = runs.added(_table(folder / "curves.csv", curve), curve, ["regime", "adapter", "classifier", "classes"])
        drift = runs.added(_table(folder / "drift.csv", drift), drift, ["regime", "adapter", "age"])
    table = runs.aggregate(everything)
    clones.write(f"{options.name}/runs.csv", everything.round(4).to_csv(index=False))
    clones.write(f"{options.name}/table.csv", table.round(4).to_csv(index=False))
    clones.write(f"{options.name}/curves.csv", curve.to_csv(index=False))
    text = f"{heading}\n{runs.markdown(table, options.classifiers)}\n![Accuracy over all classes seen](curves.png)\n"
    for limit in options.bytes:
        text += f"\nWithin {limit:,} bytes, each method with the budget that does best on validation images:\n\n{runs.within_markdown(table, limit)}"
    text += "\n![Accuracy against memory](memory.png)\n"
    if (storages := runs.storages(table)).size:
        clones.write(f"{options.name}/storage.csv", storages.round(4).to_csv(index=False))
        text += f"\nWith vectors in fewer bytes:\n\n{runs.storage_markdown(storages)}\n![Accuracy against bytes, by storage](storage.png)\n"
    if drift.size:
        clones.write(f"{options.name}/drift.csv", drift.round(4).to_csv(index=False))
        means = runs.drift_markdown(runs.mean_drift(drift))
        text += f"\nPredicted against actual drift of old classes' test features, means over classes and tasks:\n\n{means}"
        text += "\n![Drift, by age](drift.png)\n"
    if not options.add:
        (folder / "projection.png").unlink(missing_ok=True)
        if projections[0].size:
            picture.projection(projections[0]).draw(folder / "projection.png")
    if (folder / "projection.png").exists():
        text += "\n![Test features of the first three classes after the last task of the first run](projection.png)\n"
    clones.write(f"{options.name}/table.md", text)
    redraw.draw(folder)
    print(runs.markdown(table, options.classifiers))


def _table(path: Path, like: pd.DataFrame) -> pd.DataFrame:
    """Return the table of an earlier comparison, or one without rows, with the columns of `like`, which older versions may lack."""
    earlier = redraw.read(path).reindex(columns=like.columns) if path.exists() else like.iloc[:0]
    return earlier.astype(dict.fromkeys(runs.RUN, "Int64"))


def _heading(path: Path) -> str:
    """Return what stands before the first row of an earlier comparison's table: how it was made."""
    return "\n\n".join([*redraw.parts(path)[0], ""]) if path.exists() else ""


def _override(setting: tuple[str, str] | None) -> list[str]:
    if setting is None:
        return []
    parameter, value = setting
    return [f"regimes.{parameter}={value}" if _of_regime(parameter) else f"{parameter}={value}"]


def _of_regime(parameter: str) -> bool:
    return parameter.partition(".")[0] in registry.names("regimes")


def _changed(table: pd.DataFrame, parameter: str, value: str) -> pd.DataFrame:
    """Return the rows that a variation makes anew: the regime's or the adapter's own, those with a memory (of vectors), or all."""
    first, _, name = parameter.partition(".")
    new = pd.Series(True, index=table.index)
    if _of_regime(parameter):
        new = table["regime"] == first
    elif first == "adapters":
        new = table["adapter"] == name.partition(".")[0]
    elif first in AFTER_TRAINING:
        new = (table["adapter"] != "-") & (table["regime"] != "joint")
        if first == "memory":
            new &= ~table["adapter"].isin(["exemplars", *_without_vectors()])
    return table[new].assign(setting=f"{name}={value}")


def _without_vectors() -> list[str]:
    """Return the adapters whose memory is written in a form of its own, which the section `memory` does not touch."""
    return [name for name in registry.names("adapters") if registry.build("adapters", name, {}).form is not None]


if __name__ == "__main__":
    guard(main)
