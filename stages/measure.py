"""What `oracle` and `joint` share: features of everything seen so far, under one network."""

from __future__ import annotations

import numpy as np

from carryover import artefacts, backbones, selection
from carryover.inference import extract
from carryover.machine import Machine
from carryover.memory import Budget, Memory
from stages import layout, manifest


def observe(network: backbones.Network, regime: str, task: str, budget: Budget, where: Machine) -> None:
    """Write the validation and test features of all classes seen, and the memory that re-extraction would give."""
    tensors: dict[str, np.ndarray] = {}
    for part in ("validation", "test"):
        images = manifest.images(task, part)
        tensors[f"{part}_features"] = extract(network, images, where, title=f"observe {regime} {task} {part}")
        tensors[f"{part}_labels"] = np.asarray(images.labels, dtype=np.int64)
    tensors |= {f"head_{name}": array for name, array in backbones.to_arrays(network.head).items()}
    seen = manifest.seen(task)
    measured = {
        "seen": seen,
        "sizes": manifest.sizes(task),
        "classes": manifest.classes(task),
        "network_bytes": layout.backbone(regime, task).stat().st_size,
    }
    artefacts.write(layout.observations(regime, task), "observations", tensors, regime=regime, task=task, **measured)

    images = manifest.images(task, "train")
    features = extract(network, images, where, title=f"observe {regime} {task} train")
    labels = np.asarray(images.labels)
    order = selection.order(budget.selector, features, labels, None, budget.seed)
    counts = np.unique(labels, return_counts=True)[1].astype(np.int32)
    fields = {"regime": regime, "adapter": "oracle", "task": task, "seen": seen}
    memory = Memory.empty(features.shape[1], budget.storage).extended(features[order], counts)
    memory.prefix(budget.rows(len(counts), features.shape[1], fields)).write(layout.memory(regime, "oracle", task), **fields)
