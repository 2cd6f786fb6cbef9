"""gap: take apart what adapters lose against the oracle after the last task: whether classes lie wrong, or spread wrong about their means."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from carryover import artefacts, classifiers, metrics, registry
from carryover.artefacts import replacing
from carryover.errors import ArtefactError
from carryover.evaluation import Evaluation
from carryover.gap import Rows, taken_apart
from carryover.memory import Memory
from stages import layout
from stages.command import guard, ids, parameters
from stages.writing import writing

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
    adapters = parameters("adapters")
    lines = [line for regime in parameters("regimes") for line in rows(regime, adapters, task, settings)]
    text = "\n".join([LEGEND.format(task=task), *HEADER, *lines]) + "\n"
    if options.out is None:
        print(text, end="")
        return
    with writing(options.out), replacing(options.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(options.out)


def rows(regime: str, adapters: Iterable[str], task: str, settings: Evaluation) -> list[str]:
    """Return the rows of the memories that a regime's adapters carried.

    Raises:
        ArtefactError: if a memory or the observations are not there, or the memory is of the first task.
    """
    observed = artefacts.read(layout.observations(regime, task), "observations", regime=regime, task=task)
    test, labels, sizes = observed["test_features"], observed["test_labels"], observed.fields["sizes"]

    def accuracy(kept: Rows) -> str:
        scores = classifiers.FITTERS[settings.primary](*kept, sum(sizes), settings.penalty)
        per_class = metrics.class_accuracies(scores(test).argmax(axis=1), labels, sum(sizes))
        return f"{100 * metrics.accuracy_row(per_class, sizes)[1]:.1f}"

    oracle = _rows(regime, "oracle", task)
    best = accuracy(oracle)
    lines = []
    for adapter in adapters:
        path = layout.memory(regime, adapter, task)
        carried = _rows(regime, adapter, task)
        artefacts.check_same(path, "features", carried[0].shape[1], oracle[0].shape[1])
        try:
            parts = taken_apart(carried, oracle, sum(sizes[:-1]))
        except ValueError as error:
            raise ArtefactError(f"{path}: {error}") from error
        cells = [*map(accuracy, (carried, parts.at_true_means, parts.true_about_means)), best]
        lines.append(f"| {regime} | {adapter} | {settings.primary} | {' | '.join(cells)} | {parts.offset:.2f} | {parts.spread:.2f} |")
    return lines


def _rows(regime: str, adapter: str, task: str) -> Rows:
    memory = Memory.read(layout.memory(regime, adapter, task), regime=regime, adapter=adapter, task=task)
    return memory.features, memory.labels


if __name__ == "__main__":
    guard(main)
