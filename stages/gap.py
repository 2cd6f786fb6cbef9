"""gap: take apart what adapters lose against the oracle after the last task: whether classes lie wrong, or spread wrong about their means."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from carryover import artefacts, classifiers, metrics, registry
from carryover.adapters import Chasing, head_of
from carryover.artefacts import replacing
from carryover.errors import ArtefactError, ConfigurationError
from carryover.evaluation import Evaluation
from carryover.gap import Rows, taken_apart
from carryover.inference import extract
from carryover.machine import Machine
from carryover.memory import Memory
from stages import fitted, layout, manifest, networks
from stages.command import guard, ids, parameters
from stages.writing import writing

HEADER = [
    *("regime", "adapter", "classifier"),
    *("carried %", "carried, at true means %", "true, about carried means %", "oracle %", "means off by", "spread"),
]
CEILING = "fitted on old images %"
LEGEND = """Accuracy on test images over all classes after {task}. *Carried, at true means*: each class's stored features, moved so that their mean
is the oracle's; *true, about carried means*: the oracle's features, moved to where the adapter takes the class. *Means off by*: how far a
class lies from its true place, over the square root of the trace of its true covariance; *spread*: the trace of the carried covariance
over that of the true one; both are means over the old classes.
"""
CEILING_LEGEND = """*Fitted on old images*: the features of every image, carried by adapters with the same parameters that learned, task by task,
from the old images themselves, which no method may see. What lies between that and the oracle is lost to any such map of features; what lies
below it, to having only the new task's images to learn from.
"""


def main() -> None:
    """Print the table for every regime and adapter of params.yaml that has carried memories, or write it."""
    parser = argparse.ArgumentParser(prog="python -m stages.gap", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="MD", help="write the table here (default: print it)")
    parser.add_argument(
        "--ceiling", action="store_true", help="also fit each adapter on old images themselves, seen through every network (minutes at 100 classes)"
    )
    options = parser.parse_args()
    settings = Evaluation(**registry.checked(Evaluation, parameters("evaluation"), "evaluation"))
    tasks = ids(parameters("tasks"), "tasks")
    names = list(parameters("adapters"))
    if options.ceiling and (given := list(parameters("given"))):
        raise ConfigurationError(f"--ceiling looks at old images through a regime's networks; {given[0]} has given features, and no network.")
    lines = []
    for regime in parameters("regimes"):
        best = fitted_on_old_images(regime, names, tasks) if options.ceiling else None
        lines += rows(regime, names, tasks[-1], settings, best)
    header, legend = HEADER, LEGEND.format(task=tasks[-1])
    if options.ceiling:
        header, legend = [*header, CEILING], legend + CEILING_LEGEND
    ruler = [":--"] * 3 + ["--:"] * (len(header) - 3)
    text = "\n".join([legend, f"| {' | '.join(header)} |", f"|{'|'.join(ruler)}|", *lines]) + "\n"
    if options.out is None:
        print(text, end="")
        return
    with writing(options.out), replacing(options.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(options.out)


def fitted_on_old_images(regime: str, adapters: Iterable[str], tasks: Sequence[str]) -> dict[str, Rows]:
    """Return what adapters would carry that were fitted, task by task, on old images under the previous and the current network.

    It measures only. Adapters of class means, of a form, or that look at images have no such row.
    """
    where = Machine(**registry.checked(Machine, parameters("machine"), "machine"))
    methods = {name: fitted.build(name) for name in adapters}
    kept = {name: m for name, m in methods.items() if m.keeps == "vectors" and m.form is None and not isinstance(m, Chasing)}
    features: dict[str, np.ndarray] = {}
    previous = labels = np.empty(0)
    for task in tasks:
        network = networks.read(layout.backbone(regime, task), regime=regime, task=task, seen=manifest.seen(task))
        images = manifest.images(task, "train")
        # Tasks stand in the order in which they came: old images first, each at its place.
        current, labels = extract(network, images, where, title=f"gap {regime} {task}"), np.asarray(images.labels)
        head = head_of(artefacts.read(layout.observations(regime, task), "observations", regime=regime, task=task).tensors)
        old = len(previous)
        for name, method in kept.items():
            if old:
                carried = method.fit(previous, current[:old], labels[:old], head).transform(features[name])
                features[name] = np.concatenate([carried, current[old:]])
            else:
                features[name] = current
        previous = current
    return {name: (carried, labels) for name, carried in features.items()}


def rows(regime: str, adapters: Iterable[str], task: str, settings: Evaluation, best: Mapping[str, Rows] | None) -> list[str]:
    """Return the rows of the memories that a regime's adapters carried; with a last cell where `best` has what they could carry.

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
    true = accuracy(oracle)
    lines = []
    for adapter in adapters:
        path = layout.memory(regime, adapter, task)
        carried = _rows(regime, adapter, task)
        artefacts.check_same(path, "features", carried[0].shape[1], oracle[0].shape[1])
        try:
            parts = taken_apart(carried, oracle, sum(sizes[:-1]))
        except ValueError as error:
            raise ArtefactError(f"{path}: {error}") from error
        cells: list[str] = [regime, adapter, settings.primary, *map(accuracy, (carried, parts.at_true_means, parts.true_about_means)), true]
        cells += [f"{parts.offset:.2f}", f"{parts.spread:.2f}"]
        if best is not None:
            cells.append(accuracy(best[adapter]) if adapter in best else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _rows(regime: str, adapter: str, task: str) -> Rows:
    memory = Memory.read(layout.memory(regime, adapter, task), regime=regime, adapter=adapter, task=task)
    return memory.features, memory.labels


if __name__ == "__main__":
    guard(main)
