"""extract: pair the task's features before and after it was learned; row i of both sides is the same image."""

from __future__ import annotations

import numpy as np

from carryover import artefacts, registry, training
from carryover.images import read_images
from carryover.seeds import derive
from carryover.views import mixed_views
from stages import layout, networks
from stages.command import parameters, run


def main(regime: str, task: str, previous: str) -> None:
    """Write the pairs of the task's training and validation images, and extra pairs for the adapters alone."""
    settings = training.Training(**registry.checked(training.Training, parameters("training"), "training"))
    before = networks.read(layout.backbone(regime, previous), regime=regime, task=previous)
    after = networks.read(layout.backbone(regime, task), regime=regime, task=task)
    images, _ = read_images(layout.images(task, "train"), "task-images", task=task, part="train")
    validation, _ = read_images(layout.images(task, "validation"), "task-images", task=task, part="validation")
    exemplars, _ = read_images(layout.exemplars(regime, previous), "exemplars", regime=regime, task=previous)
    views = mixed_views(images, exemplars, parameters("extraction")["views"], settings.padding, settings.flip, derive(0, "views", task))

    tensors: dict[str, np.ndarray] = {}
    for part, some in {"": images, "validation_": validation, "exemplar_": exemplars, "view_": views}.items():
        tensors[part + "labels"] = np.asarray(some.labels, dtype=np.int64)
        for side, network in (("previous", before), ("current", after)):
            if side == "current" or before.classes:
                tensors[part + side] = training.extract(network, some, settings, title=f"extract {regime} {task} {part}{side}")
    artefacts.write(layout.features(regime, task), "features", tensors, regime=regime, task=task, previous=previous, paired=before.classes > 0)


if __name__ == "__main__":
    run(main, "regime", "task", "previous")
