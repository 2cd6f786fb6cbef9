"""select: the order in which each new class's features are worth keeping, and the exemplar images where the regime keeps any."""

from __future__ import annotations

import numpy as np

from carryover import artefacts, registry, selection
from carryover.exemplars import ExemplarBudget
from carryover.images import read_images, write_images
from carryover.memory import Budget
from stages import layout
from stages.command import parameters, run


def main(regime: str, task: str, previous: str) -> None:
    """Write the new features V_t, class by class in order of selection, and the exemplars after the task."""
    budget = Budget(**registry.checked(Budget, parameters("memory"), "memory"))
    features = artefacts.read(layout.features(regime, task), "features", regime=regime, task=task)
    labels = features["labels"]
    order = selection.order(budget.selector, features["current"], labels, None, budget.seed)
    counts = np.unique(labels, return_counts=True)[1].astype(np.int32)
    tensors = {"features": features["current"][order], "counts": counts}
    artefacts.write(layout.selection(regime, task), "selection", tensors, regime=regime, task=task)
    _keep_images(regime, task, previous, features["current"], labels)


def _keep_images(regime: str, task: str, previous: str, features: np.ndarray, labels: np.ndarray) -> None:
    kept, _ = read_images(layout.exemplars(regime, previous), "exemplars", regime=regime, task=previous)
    section = (parameters("regimes", regime) or {}).get("exemplars")
    if section:
        budget = ExemplarBudget(**registry.checked(ExemplarBudget, section, f"regimes.{regime}.exemplars"))
        images, _ = read_images(layout.images(task, "train"), "task-images", task=task, part="train")
        kept = budget.update(kept, images, features, labels)
    write_images(layout.exemplars(regime, task), kept, "exemplars", regime=regime, task=task)


if __name__ == "__main__":
    run(main, "regime", "task", "previous")
