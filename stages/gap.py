"""gap: take apart what adapters lose against the oracle after the last task: whether classes lie wrong, or spread wrong about their means."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from carryover import artefacts, classifiers, registry
from carryover.artefacts import replacing
from carryover.errors import ArtefactError
from carryover.evaluation import Evaluation
from carryover.gap import Rows, taken_apart
from carryover.memory import Memory
from stages import layout
from stages.command import guard, ids, parameters

HEADER = [
    "| regime | adapter | classifier | carried % | carried, at true means % | true, about carried means % | oracle % | means off by | spread |",
    "|:--|:--|:--|--:|--:|--:|--:|--:|--:|",
]
LEGEND = """Accuracy on test images over all classes after {task}. *Carried, at true means*: each class's stored features, moved so that their mean
is the oracle's; *true, about carried means*: the oracle's features, moved to where the adapter takes the class. *Means off by*: how far a
class lies from its true place, over the square root of the trace of its true covariance; *spread*: the trace of the carried covariance
over that of the true one; both are means over the old classes.
"""


def main() -> None:
    """Print the table for every regime and adapter of params.yaml that has carried memories, or write it."""
    parser = argparse.ArgumentParser(prog="python -m stages.gap", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="MD", help="write the table here (default: print it)")
    options = parser.parse_args()
    settings = Evaluation(**registry.checked(Evaluation, parameters("evaluation"), "evaluation"))
    task = ids(parameters("tasks"), "tasks")[-1]
    lines = [row(regime, adapter, task, settings) for regime in parameters("regimes") for adapter in parameters("adapters")]
    text = "\n".join([LEGEND.format(task=task), *HEADER, *lines]) + "\n"
    if options.out is None:
        print(text, end="")
        return
    try:
        with replacing(options.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArtefactError(f"Cannot write {options.out}: {error.strerror or error}.") from error
    print(options.out)


def row(regime: str, adapter: str, task: str, settings: Evaluation) -> str:
    """Return the row of one memory.

    Raises:
        ArtefactError: if a memory or the observations are not there, or the memory is of the first task.
    """
    path = layout.memory(regime, adapter, task)
    carried, oracle = (_rows(Memory.read(layout.memory(regime, name, task), regime=regime, adapter=name, task=task)) for name in (adapter, "oracle"))
    observed = artefacts.read(layout.observations(regime, task), "observations", regime=regime, task=task)
    artefacts.check_same(path, "features", carried[0].shape[1], oracle[0].shape[1])
    sizes = observed.fields["sizes"]
    try:
        parts = taken_apart(carried, oracle, sum(sizes[:-1]))
    except ValueError as error:
        raise ArtefactError(f"{path}: {error}") from error
    test, labels = observed["test_features"], observed["test_labels"]

    def accuracy(rows: Rows) -> str:
        scores = classifiers.FITTERS[settings.primary](*rows, sum(sizes), settings.penalty)
        return f"{100 * float((scores(test).argmax(axis=1) == labels).mean()):.1f}"

    cells = [accuracy(rows) for rows in (carried, parts.at_true_means, parts.true_about_means, oracle)]
    return f"| {regime} | {adapter} | {settings.primary} | {' | '.join(cells)} | {parts.offset:.2f} | {parts.spread:.2f} |"


def _rows(memory: Memory) -> Rows:
    return memory.features, np.asarray(memory.labels)


if __name__ == "__main__":
    guard(main)
