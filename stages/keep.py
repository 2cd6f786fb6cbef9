"""keep: what a regime keeps of old images for rehearsal: nothing, exemplar images, or a generator of images."""

from __future__ import annotations

import numpy as np

from carryover import artefacts, registry, rehearsal
from carryover.classes import lineage
from carryover.images import read_images
from carryover.machine import Machine
from carryover.memory import Memory
from carryover.seeds import derive
from stages import layout
from stages.command import Stopwatch, natural, parameters, run


def main(regime: str, task: str, previous: str) -> None:
    """Write what is kept after a task, and the memory that exemplars are when the current network looks at them."""
    clock = Stopwatch()
    where = Machine(**registry.checked(Machine, parameters("machine"), "machine"))
    method = registry.build("regimes", regime, parameters("regimes", regime))
    features = artefacts.read(layout.features(regime, task), "features", regime=regime, task=task)
    images, fields = read_images(layout.images(task, "train"), "task-images", task=task, part="train")
    seen, seen_before = features.fields["seen"], features.fields["seen_before"]
    artefacts.check_same(layout.images(task, "train"), "seen", lineage(seen_before, fields["classes"]), seen)
    kept: rehearsal.Kept
    if method.store is None:
        kept = rehearsal.KeptImages.none(images.shape, features["current"].shape[1])
    else:
        learned = rehearsal.Learned(
            images,
            features["current"],
            rehearsal.read(layout.exemplars(regime, previous), method.store, regime=regime, task=previous, seen=seen_before),
            features["exemplar_current"],
            derive(natural(parameters("seed"), "seed"), "keep", regime, task),
            where,
        )
        kept = method.store.update(learned)
    kept.write(layout.exemplars(regime, task), regime=regime, task=task, seen=seen)
    # Only images that are kept are a memory; those that a generator makes have no features here.
    counts = np.unique(np.asarray(kept.images.labels), return_counts=True)[1].astype(np.int32) if len(kept.features) else np.empty(0, dtype=np.int32)
    Memory(kept.features, counts).write(layout.memory(regime, "exemplars", task), regime=regime, adapter="exemplars", task=task, seen=seen)
    clock.note(layout.seconds(f"keep-{regime}-{task}"))


if __name__ == "__main__":
    run(main, "regime", "task", "previous")
