"""initialise: the empty state before the first task: a seeded network without classes, no exemplars, empty memories."""

from __future__ import annotations

import numpy as np

from carryover import backbones
from carryover.images import PackedImages, read_images, write_images
from carryover.memory import Memory
from carryover.seeds import derive
from stages import layout, networks
from stages.command import parameters, run

EMPTY = "empty"


def main(regime: str, first: str) -> None:
    """Write the state `empty` of a regime; `first` names the first task, whose images say how many channels there are."""
    images, _ = read_images(layout.images(first, "train"), "task-images", task=first)
    height, width, channels = images.shape
    section = parameters("backbone")
    network = backbones.initialise(section["architecture"], section["head"], channels, derive(parameters("seed"), "initialise"))
    networks.write(layout.backbone(regime, EMPTY), network, regime=regime, task=EMPTY)
    none = PackedImages(np.empty((0, height, width, channels), dtype=np.uint8), np.empty(0, dtype=np.int64))
    write_images(layout.exemplars(regime, EMPTY), none, "exemplars", regime=regime, task=EMPTY)
    storage = parameters("memory")["storage"]
    for adapter in parameters("columns"):
        memory = Memory.empty(network.backbone.features, storage)
        memory.write(layout.memory(regime, adapter, EMPTY), regime=regime, adapter=adapter, task=EMPTY)


if __name__ == "__main__":
    run(main, "regime", "first")
