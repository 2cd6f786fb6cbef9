"""select: the order in which each new class's features are worth keeping."""

from __future__ import annotations

import numpy as np

from carryover import artefacts, registry, selection
from carryover.memory import Budget
from stages import layout
from stages.command import parameters, run


def main(regime: str, task: str) -> None:
    """Write the new features V_t, class by class in order of selection."""
    budget = Budget(**registry.checked(Budget, parameters("memory"), "memory"))
    features = artefacts.read(layout.features(regime, task), "features", regime=regime, task=task)
    labels = features["labels"]
    order = selection.order(budget.selector, features["current"], labels, None, budget.seed)
    counts = np.unique(labels, return_counts=True)[1].astype(np.int32)
    tensors = {"features": features["current"][order], "counts": counts}
    seen = {name: features.fields[name] for name in ("seen", "seen_before")}
    artefacts.write(layout.selection(regime, task), "selection", tensors, regime=regime, task=task, **seen)


if __name__ == "__main__":
    run(main, "regime", "task")
