"""train: learn one task's images (and the exemplars kept, where the regime keeps any), starting from the previous network."""

from __future__ import annotations

import copy

import numpy as np
import torch

from carryover import registry, rehearsal, training
from carryover.artefacts import check_same
from carryover.backbones import CosineHead
from carryover.classes import lineage
from carryover.images import concatenate, read_images
from carryover.inference import extract
from carryover.machine import Machine
from carryover.seeds import derive
from stages import layout, live, networks
from stages.command import Stopwatch, natural, parameters, run


def main(regime: str, task: str, previous: str) -> None:
    """Write the network after a task."""
    clock = Stopwatch()
    settings = training.Training(**registry.checked(training.Training, parameters("training"), "training"))
    where = Machine(**registry.checked(Machine, parameters("machine"), "machine"))
    method = registry.build("regimes", regime, parameters("regimes", regime))
    seed = derive(natural(parameters("seed"), "seed"), "train", task)
    before = networks.read(layout.backbone(regime, previous), regime=regime, task=previous)
    seen = networks.seen(layout.backbone(regime, previous))
    images, fields = read_images(layout.images(task, "train"), "task-images", task=task, part="train")
    exemplars = rehearsal.read(layout.exemplars(regime, previous), method.store, regime=regime, task=previous, seen=seen)
    labels = np.unique(np.asarray(images.labels)).tolist()
    check_same(layout.images(task, "train"), "labels", labels, [before.classes + i for i in range(len(fields["classes"]))])
    check_same(layout.images(task, "train"), "channels", images.shape[2], before.channels)
    check_same(layout.exemplars(regime, previous), "shape", exemplars.shape, images.shape)

    network = copy.deepcopy(before)
    network.head.grow(before.classes + len(fields["classes"]), torch.Generator().manual_seed(derive(seed, "head")))
    if method.imprints and before.classes:
        features = torch.from_numpy(extract(before, images, where, title=f"imprint {regime} {task}"))
        assert isinstance(network.head, CosineHead), "only a cosine head can be imprinted"
        network.head.imprint(features, torch.from_numpy(np.asarray(images.labels)))
    inputs = [layout.backbone(regime, previous), layout.images(task, "train"), layout.exemplars(regime, previous)]
    inputs += [layout.sources("stages", "train"), layout.sources("regimes", regime)]
    checkpoint = training.Checkpoint(
        layout.SCRATCH / f"train-{regime}-{task}.safetensors",
        training.fingerprint(inputs, parameters("training"), parameters("machine"), parameters("regimes", regime), seed),
    )
    losses = training.train(
        network,
        before if before.classes else None,
        concatenate([images, exemplars]),
        method,
        settings,
        where,
        seed,
        checkpoint,
        title=f"train {regime} {task}",
        follow=live.follow(f"train-{regime}-{task}"),
    )
    networks.write(layout.backbone(regime, task), network, regime=regime, task=task, seen=lineage(seen, fields["classes"]), losses=losses)
    checkpoint.path.unlink(missing_ok=True)
    clock.note(layout.seconds(f"train-{regime}-{task}"))


if __name__ == "__main__":
    run(main, "regime", "task", "previous")
