"""chase: fit an adapter that looks at the task's images and at both networks, not at pairs of features alone."""

from __future__ import annotations

from carryover import artefacts, registry
from carryover.classes import lineage
from carryover.images import read_images
from carryover.machine import Machine
from carryover.memory import Memory
from carryover.seeds import derive
from stages import fitted, layout, networks
from stages.command import Stopwatch, natural, parameters, run


def main(regime: str, adapter: str, task: str, previous: str) -> None:
    """Write the adapter of a task; after the first task there is nothing to carry, and an unfitted one is written."""
    clock = Stopwatch()
    where = Machine(**registry.checked(Machine, parameters("machine"), "machine"))
    method = fitted.build(adapter)
    pairs = artefacts.read(layout.features(regime, task), "features", regime=regime, task=task)
    seen, seen_before = pairs.fields["seen"], pairs.fields["seen_before"]
    memory = Memory.read(layout.memory(regime, adapter, previous), regime=regime, adapter=adapter, task=previous, seen=seen_before)
    learns = bool(len(memory.counts))
    if learns:
        images, fields = read_images(layout.images(task, "train"), "task-images", task=task, part="train")
        artefacts.check_same(layout.images(task, "train"), "seen", lineage(seen_before, fields["classes"]), seen)
        artefacts.check_same(layout.memory(regime, adapter, previous), "features", memory.features.shape[1], pairs["previous"].shape[1])
        before = networks.read(layout.backbone(regime, previous), regime=regime, task=previous, seen=seen_before)
        after = networks.read(layout.backbone(regime, task), regime=regime, task=task, seen=seen)
        seed = derive(natural(parameters("seed"), "seed"), "chase", regime, adapter, task)
        method.chase(memory.features, images, pairs["previous"], before, after, where, seed)
        if note := method.note():
            print(f"{task}: {note}")
    fitted.write(method if learns else None, pairs.fields, regime, adapter, task)
    clock.note(layout.seconds(f"adapt-{regime}-{adapter}-{task}"), layout.adapter(regime, adapter, task))


if __name__ == "__main__":
    run(main, "regime", "adapter", "task", "previous")
