"""Training speed: images a second of this project's loop and of the plain one, on the same images, taking turns."""

from __future__ import annotations

import torch

from bench.measure import Row, in_turns, ratio
from bench.plain import PlainLoop
from carryover import backbones
from carryover.images import PackedImages
from carryover.machine import Machine, has_compiler
from carryover.regimes import Regime
from carryover.regimes.distill import Distill
from carryover.regimes.finetune import Finetune
from carryover.training import Training, train

OLD = 50


def _network(classes: int) -> backbones.Network:
    network = backbones.initialise("resnet32", "linear", 3, seed=0)
    network.head.grow(classes, torch.Generator().manual_seed(0))
    return network


class OwnLoop:
    """A network and its teacher, trained by `carryover.training.train` for one epoch a call."""

    def __init__(self, images: PackedImages, classes: int, old: int, batch: int, where: Machine) -> None:
        self.images, self.where = images, where
        self.network = _network(classes)
        self.teacher = _network(old) if old else None
        self.regime: Regime = Distill(distillation=2.0, temperature=2.0, feature=1.0) if old else Finetune()
        self.settings = Training(1, 1, learning_rate=0.1, increment_learning_rate=0.1, batch_size=batch)

    def epoch(self) -> None:
        """Run over all images once."""
        train(self.network, self.teacher, self.images, self.regime, self.settings, self.where, seed=0)


def rows(images: PackedImages, rounds: int, batch: int = 128, threads: int = 2, workers: tuple[int, ...] = (0, 1, 2), blocks: int = 5) -> list[Row]:
    """Return rows for cross-entropy alone and for distillation: the loop as it is and, where there is a compiler, compiled.

    The plain loop has the number of workers that is fastest here, found by one round for each. All take turns.
    """
    where = {"": Machine("auto", "auto", threads, "never")}
    if has_compiler():
        where[", compiled"] = Machine("auto", "auto", threads, "always")
    classes = int(images.labels.max()) + 1
    images = images.subset(torch.arange(len(images) // batch * batch).numpy())
    found: list[Row] = []
    for name, old in (("cross-entropy", 0), ("distillation", min(OLD, classes))):
        plain = {n: PlainLoop(images, classes, old, batch, n, blocks) for n in workers}
        own = {how: OwnLoop(images, classes, old, batch, machine) for how, machine in where.items()}
        trial = in_turns({str(n): loop.epoch for n, loop in plain.items()}, 2)
        best = min(workers, key=lambda n: trial[str(n)][-1])
        for loop in own.values():
            loop.epoch()
        times = in_turns({"plain": plain[best].epoch} | {how: loop.epoch for how, loop in own.items()}, rounds)
        rate = {key: len(images) / min(values) for key, values in times.items()}
        found += [
            Row(
                f"train ResNet-32, {name}{how}",
                f"{rate[how]:.0f} img/s",
                f"{rate['plain']:.0f} img/s, plain loop with {best} workers",
                ratio(times["plain"], times[how]),
                f"rates are the best of {rounds} rounds of {len(images)} images, the ratio is the median; {str(machine.dtype)[6:]}",
            )
            for how, machine in where.items()
        ]
    return found
