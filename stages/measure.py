"""What stages that measure share: features of everything seen so far, under one network."""

from __future__ import annotations

from collections.abc import Mapping

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
    write_observations(tensors, regime, task, layout.backbone(regime, task).stat().st_size)
    images = manifest.images(task, "train")
    remember(extract(network, images, where, title=f"observe {regime} {task} train"), np.asarray(images.labels), regime, task, budget)


def write_observations(tensors: Mapping[str, np.ndarray], regime: str, task: str, network_bytes: int) -> None:
    """Write validation and test features of all classes seen, with the head where there is one."""
    measured = {"seen": manifest.seen(task), "sizes": manifest.sizes(task), "classes": manifest.classes(task), "network_bytes": network_bytes}
    artefacts.write(layout.observations(regime, task), "observations", tensors, regime=regime, task=task, **measured)


def remember(features: np.ndarray, labels: np.ndarray, regime: str, task: str, budget: Budget) -> None:
    """Write the oracle's memory of features [n, d] with labels [n], all under the current network."""
    order = selection.order(budget.selector, features, labels, None, budget.seed)
    counts = np.unique(labels, return_counts=True)[1].astype(np.int32)
    fields = {"regime": regime, "adapter": "oracle", "task": task, "seen": manifest.seen(task)}
    memory = Memory.empty(features.shape[1], budget.storage).extended(features[order], counts)
    memory.prefix(budget.rows(len(counts), features.shape[1], fields)).write(layout.memory(regime, "oracle", task), **fields)
