"""observe: measures only: take validation and test features from the user's file, and old items' for the oracle, where they were given."""

from __future__ import annotations

import numpy as np

from carryover import artefacts, registry
from carryover.memory import Budget
from stages import layout
from stages.command import parameters, run
from stages.measure import remember, write_observations


def main(regime: str, task: str) -> None:
    """Write the observations of a task, and the oracle's memory: of all classes where old items were given, else of none."""
    budget = Budget(**registry.checked(Budget, parameters("memory"), "memory"))
    learned = artefacts.read(layout.features(regime, task), "features", regime=regime, task=task)
    given = artefacts.read(layout.images(task, "test"), "given-test", task=task, seen=learned.fields["seen"])
    d = learned["current"].shape[1]
    no_features, no_labels = np.empty((0, d), dtype=np.float32), np.empty(0, dtype=np.int64)
    tensors: dict[str, np.ndarray] = {}
    for part in ("validation", "test"):
        labels = given.tensors.get(f"{part}_labels", no_labels)
        # Class by class, so that a class's items keep their place when later classes come.
        order = np.argsort(labels, kind="stable")
        tensors |= {f"{part}_features": given.tensors.get(part, no_features)[order], f"{part}_labels": labels[order]}
    tensors |= {name: array for name, array in learned.tensors.items() if name.startswith("head_")}
    # The network is not here: its bytes are its owner's to count.
    write_observations(tensors, regime, task, network_bytes=0)
    features, labels = learned["current"], learned["labels"]
    if "old" in given.tensors:
        features, labels = (np.concatenate(parts) for parts in ((given["old"], features), (given["old_labels"], labels)))
    elif learned.fields["paired"]:
        features, labels = no_features, no_labels
    remember(features, labels, regime, task, budget)


if __name__ == "__main__":
    run(main, "regime", "task")
