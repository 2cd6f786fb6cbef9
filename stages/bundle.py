"""bundle: put network, classifier, class names and preprocessing into the one file that predicts."""

from __future__ import annotations

from carryover import artefacts, classifiers, registry
from carryover.adapters import head_of
from carryover.backbones import to_arrays
from carryover.bundle import Bundle
from carryover.errors import ConfigurationError, unknown
from carryover.evaluation import Evaluation
from carryover.images import Shape, read_images
from carryover.machine import Machine
from carryover.memory import Memory
from stages import layout, manifest, networks
from stages.command import parameters, run


def main(regime: str, adapter: str, classifier: str, task: str) -> None:
    """Write the bundle of one cell of the table after a task."""
    images, _ = read_images(layout.images(task, "train"), "task-images", task=task, part="train")
    made = make(regime, adapter, classifier, task, manifest.seen(task), manifest.classes(task), images.shape)
    made.write(layout.bundle(task))


def make(regime: str, adapter: str, classifier: str, task: str, seen: str, classes: list[str], shape: Shape, where: Machine | None = None) -> Bundle:
    """Return the bundle of one cell of the table after a task; its classifier is the one that `evaluate` scores.

    `seen` is the lineage of the `classes`; `shape` is that of the images; `where` is for predicting with it at once.

    Raises:
        ConfigurationError: if there is no such classifier, or no memory to fit it on.
    """
    settings = Evaluation(**registry.checked(Evaluation, parameters("evaluation"), "evaluation"))
    network = networks.read(layout.backbone(regime, task), regime=regime, task=task, seen=seen)
    memory = Memory.read(layout.memory(regime, adapter, task), regime=regime, adapter=adapter, task=task, seen=seen)
    if classifier == "head":
        fitted: classifiers.Classifier = classifiers.of_head(head_of({f"head_{name}": array for name, array in to_arrays(network.head).items()}))
    elif classifier not in classifiers.FITTERS:
        raise ConfigurationError(unknown("bundle.classifier", classifier, [*classifiers.FITTERS, "head"]))
    elif not len(memory.features):
        raise ConfigurationError(f"The regime {regime!r} keeps no {adapter}, so there is no memory to classify by: set bundle.classifier to 'head'.")
    else:
        fitted = classifiers.FITTERS[classifier](memory.features, memory.labels, len(memory.counts), settings.penalty)
    # The whole state, for the next task to go on from: what is kept for rehearsal predicts nothing.
    inputs = [layout.backbone(regime, task), layout.memory(regime, adapter, task), layout.exemplars(regime, task)]
    origin = {
        "method": {"regime": regime, "adapter": adapter, "classifier": classifier, "task": task},
        "protocol": parameters("protocol"),
        "seen": seen,
        "sha256": {str(path): artefacts.sha256(path) for path in inputs},
    }
    return Bundle(network, fitted, classes, shape, origin, where)


if __name__ == "__main__":
    run(main, "regime", "adapter", "classifier", "task")
