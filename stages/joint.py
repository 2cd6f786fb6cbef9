"""joint: the upper bound of everything: a network trained from scratch on all images seen so far, which no method may keep."""

from __future__ import annotations

import torch

from carryover import registry, training
from carryover.machine import Machine
from carryover.regimes.finetune import Finetune
from carryover.seeds import derive
from stages import layout, live, manifest, networks
from stages.command import natural, parameters, run


def main(task: str) -> None:
    """Write the joint network after a task."""
    settings = training.Training(**registry.checked(training.Training, parameters("training"), "training"))
    where = Machine(**registry.checked(Machine, parameters("machine"), "machine"))
    seed = natural(parameters("seed"), "seed")
    images = manifest.images(task, "train")
    network = networks.initialise(parameters("backbone"), images.shape, derive(seed, "initialise"))
    network.head.grow(sum(manifest.sizes(task)), torch.Generator().manual_seed(derive(seed, "joint", task, "head")))
    follow = live.follow(f"joint-{task}")
    inputs = [layout.seen(task), parameters("backbone", "source"), layout.sources("stages", "joint")]
    checkpoint = training.Checkpoint(
        layout.SCRATCH / f"joint-{task}.safetensors",
        training.fingerprint(inputs, parameters("training"), parameters("machine"), parameters("backbone"), seed),
    )
    training.train(network, None, images, Finetune(), settings, where, derive(seed, "joint", task), checkpoint, f"joint {task}", follow)
    networks.write(layout.backbone("joint", task), network, regime="joint", task=task, seen=manifest.seen(task))
    checkpoint.path.unlink(missing_ok=True)


if __name__ == "__main__":
    run(main, "task")
