"""receive: take the features of a task's own items from the user's file, where `extract` would take them from two networks."""

from __future__ import annotations

import numpy as np

from carryover import artefacts
from carryover.rehearsal import KeptImages
from stages import layout
from stages.command import run


def main(regime: str, task: str, previous: str) -> None:
    """Write the pairs of a task and the network's head, where it was given, and that no image is kept."""
    given = artefacts.read(layout.images(task, "train"), "given-train", task=task)
    d = given["current"].shape[1]
    none = np.empty((0, d), dtype=np.float32)
    tensors = {name: array for name, array in given.tensors.items() if not name.startswith("pairs_")}
    tensors |= {"view_labels": np.full(len(given.tensors.get("pairs_current", none)), -1), "exemplar_labels": np.empty(0, dtype=np.int64)}
    tensors |= {"exemplar_current": none, "exemplar_previous": none}
    tensors |= {f"view_{side}": given.tensors.get(f"pairs_{side}", none) for side in ("previous", "current")}
    paired = "previous" in tensors
    seen = {name: given.fields[name] for name in ("seen", "seen_before")}
    artefacts.write(layout.features(regime, task), "features", tensors, regime=regime, task=task, previous=previous, paired=paired, **seen)
    KeptImages.none((1, 1, 1), d).write(layout.exemplars(regime, task), regime=regime, task=task, seen=seen["seen"])


if __name__ == "__main__":
    run(main, "regime", "task", "previous")
