"""extract: pair the task's features before and after it was learned; row i of both sides is the same image."""

from __future__ import annotations

import numpy as np

from carryover import artefacts, backbones, registry, rehearsal
from carryover.classes import lineage
from carryover.images import ImageSource, read_images
from carryover.inference import extract
from carryover.machine import Machine
from carryover.views import Views
from stages import layout, networks
from stages.command import parameters, run


def main(regime: str, task: str, previous: str) -> None:
    """Write the pairs of the task's images and of the exemplars, further pairs for the adapters, and the network's head."""
    where = Machine(**registry.checked(Machine, parameters("machine"), "machine"))
    views = Views(**registry.checked(Views, parameters("extraction"), "extraction"))
    method = registry.build("regimes", regime, parameters("regimes", regime))
    before = networks.read(layout.backbone(regime, previous), regime=regime, task=previous)
    seen_before = networks.seen(layout.backbone(regime, previous))
    images, fields = read_images(layout.images(task, "train"), "task-images", task=task, part="train")
    seen = lineage(seen_before, fields["classes"])
    after = networks.read(layout.backbone(regime, task), regime=regime, task=task, seen=seen)
    artefacts.check_same(layout.backbone(regime, task), "features", after.backbone.features, before.backbone.features)
    artefacts.check_same(layout.images(task, "train"), "channels", images.shape[2], before.channels)
    exemplars = rehearsal.read(layout.exemplars(regime, previous), method.store, regime=regime, task=previous, seen=seen_before)

    # Before the first task the network knows nothing that could be carried: there are no pairs.
    paired = before.classes > 0
    parts: dict[str, ImageSource] = {"": images, "exemplar_": exemplars}
    if paired:
        parts["view_"] = views.of(images, exemplars, task)
    tensors = {f"head_{name}": array for name, array in backbones.to_arrays(after.head).items()}
    for part, some in parts.items():
        tensors[part + "labels"] = np.asarray(some.labels, dtype=np.int64)
        for side, network in {"previous": before, "current": after}.items():
            if side == "current" or paired:
                tensors[part + side] = extract(network, some, where, title=f"extract {regime} {task} {part}{side}")
    fields = {"regime": regime, "task": task, "previous": previous, "seen": seen, "seen_before": seen_before, "paired": paired}
    artefacts.write(layout.features(regime, task), "features", tensors, **fields)


if __name__ == "__main__":
    run(main, "regime", "task", "previous")
