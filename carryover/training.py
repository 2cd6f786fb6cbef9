"""The training loop: one task's images, in memory as bytes, augmented in whole batches, learned by SGD.

The random numbers of an epoch are drawn from the seed and the epoch's number alone, so a run that resumes from a
checkpoint ends with the same bytes as one that was never stopped.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from carryover import artefacts, augment, backbones, interrupts
from carryover.errors import ArtefactError, TrainingError, out_of_memory
from carryover.images import ImageSet
from carryover.inference import folded
from carryover.machine import Machine
from carryover.optimisers import SGD
from carryover.regimes import Regime, Step, Teacher
from carryover.seeds import derive


class Training:
    """How a task is learned: the settings of SGD with Nesterov momentum, its schedule and its augmentation.

    Args:
        epochs: passes over the task's images; `increment_epochs` for every task after the first.
        learning_rate: the peak learning rate; `increment_learning_rate` for every task after the first.
        schedule: "one_cycle" rises linearly over the first 20 % of the steps and falls to zero, "cosine" falls from the
            start, "steps" divides by ten after 50 % and 75 % of the steps (the 80 and 120 of 160 epochs of the field).
        batch_size: images a step.
        momentum: of SGD.
        weight_decay: on all weights.
        padding: pixels of zero padding for the random crop.
        flip: whether images are mirrored at random.
    """

    def __init__(
        self,
        epochs: Annotated[int, Field(gt=0)],
        increment_epochs: Annotated[int, Field(gt=0)],
        learning_rate: Annotated[float, Field(gt=0)],
        increment_learning_rate: Annotated[float, Field(gt=0)],
        schedule: Literal["one_cycle", "cosine", "steps"] = "one_cycle",
        batch_size: Annotated[int, Field(gt=1)] = 128,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
        weight_decay: Annotated[float, Field(ge=0)] = 5e-4,
        padding: Annotated[int, Field(ge=0)] = 4,
        flip: bool = True,
    ) -> None:
        self.epochs = epochs
        self.increment_epochs = increment_epochs
        self.learning_rate = learning_rate
        self.increment_learning_rate = increment_learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.padding = padding
        self.flip = flip


def learning_rate(settings: Training, first: bool, progress: float) -> float:
    """Return the learning rate after the share `progress` of all steps, 0 <= progress < 1."""
    peak = settings.learning_rate if first else settings.increment_learning_rate
    if settings.schedule == "cosine":
        return peak * (1 + math.cos(math.pi * progress)) / 2
    if settings.schedule == "steps":
        return peak * (1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01)
    warm = 0.2
    return peak * (progress / warm if progress < warm else (1 - progress) / (1 - warm)) + 1e-4 * peak


@dataclass(frozen=True)
class Epoch:
    """How an epoch went: its `number` from 1, the means of `loss` and `accuracy` (0 to 1) over its steps, the last learning `rate`."""

    number: int
    loss: float
    accuracy: float
    rate: float


@dataclass
class Checkpoint:
    """Where an unfinished training may be kept: `path`, and a `key` that names its inputs."""

    path: Path
    key: str

    def save(self, epoch: int, losses: list[float], network: backbones.Network, optimiser: SGD) -> None:
        """Write the state after `epoch` epochs."""
        tensors = {f"network/{n}": a for n, a in backbones.to_arrays(network).items()}
        tensors |= {f"momentum/{i:05d}": buffer.cpu().numpy() for i, buffer in enumerate(optimiser.buffers)}
        artefacts.write(self.path, "checkpoint", tensors, key=self.key, epoch=epoch, losses=losses)

    def load(self, network: backbones.Network, optimiser: SGD) -> tuple[int, list[float]]:
        """Restore what was saved under the same key; return the finished epochs and their losses (0, [] if nothing was)."""
        try:
            saved = artefacts.read(self.path, "checkpoint", key=self.key)
        except ArtefactError:
            return 0, []
        arrays = {n.removeprefix("network/"): torch.from_numpy(a) for n, a in saved.tensors.items() if n.startswith("network/")}
        network.load_state_dict(arrays, strict=False)
        for i, buffer in enumerate(optimiser.buffers):
            buffer.copy_(torch.from_numpy(saved[f"momentum/{i:05d}"]))
        return saved.fields["epoch"], saved.fields["losses"]


@dataclass
class Batches:
    """Batches of a task's images: uint8 [b, h, w, c] and labels [b], in an order drawn per epoch.

    Images that are in memory as bytes move to the device once; encoded images are decoded batch by batch.
    """

    images: ImageSet
    device: torch.device
    size: int
    seed: int
    _resident: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.size = min(self.size, len(self.images))
        # A copy: the labels may be part of a file that cannot be written to.
        self._labels = torch.tensor(np.asarray(self.images.labels), device=self.device)
        packed = getattr(self.images, "images", None)
        if packed is not None:
            self._resident = torch.from_numpy(packed).to(self.device)

    def __len__(self) -> int:
        return len(self.images) // self.size

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
        """Yield the batches of an epoch, and the epoch's generator; the incomplete last batch of the drawn order is left out."""
        random = torch.Generator().manual_seed(derive(self.seed, "epoch", number))
        order = torch.randperm(len(self.images), generator=random)
        for i in range(len(self)):
            rows = order[i * self.size : (i + 1) * self.size]
            if self._resident is not None:
                on_device = rows.to(self.device, non_blocking=True)
                yield self._resident[on_device], self._labels[on_device], random
            else:
                decoded = torch.from_numpy(self.images.gather(rows.numpy()))
                yield decoded.to(self.device, non_blocking=True), self._labels[rows.to(self.device, non_blocking=True)], random


def train(
    network: backbones.Network,
    teacher: backbones.Network | None,
    images: ImageSet,
    regime: Regime,
    settings: Training,
    where: Machine,
    seed: int,
    checkpoint: Checkpoint | None = None,
    title: str = "training",
    follow: Callable[[Epoch], None] | None = None,
) -> list[float]:
    """Train `network` in place on `images`; return the mean loss of each epoch.

    Args:
        network: its head already has a row for every label.
        teacher: the previous network, or None in the first task.
        images: n images and their labels.
        regime: whose loss is minimised.
        settings: schedule and augmentation.
        where: device and precision.
        seed: of the order of images and of their augmentation.
        checkpoint: where to keep and find the state between epochs.
        title: what the progress bar says.
        follow: called after each epoch.

    Raises:
        TrainingError: if there are fewer than two images, the loss is no longer finite, the machine's memory is too small, or torch
            cannot compile the network.
    """
    if len(images) < 2:
        raise TrainingError(f"{title}: batch normalisation needs two images at least; there {'is one' if len(images) else 'is none'}.")
    # What a network draws itself, as dropout does, comes from torch's own generator.
    drawn = torch.random.fork_rng(["cuda"] if where.device.type == "cuda" else [])
    with interrupts.heard(), _explained(title, min(settings.batch_size, len(images))), drawn:
        first = teacher is None
        epochs = settings.epochs if first else settings.increment_epochs
        network.to(where.device).to(memory_format=torch.channels_last).train()
        compiled = where.compiles(epochs * len(images))
        student = Forward(network, where, compiled)
        frozen = None
        if teacher is not None and regime.needs_teacher:
            frozen = Forward(folded(teacher).to(where.device).to(memory_format=torch.channels_last), where, compiled)
        optimiser = SGD([parameter for parameter in network.parameters() if parameter.requires_grad], settings.momentum, settings.weight_decay)
        batches = Batches(images, where.device, settings.batch_size, seed)
        steps = epochs * len(batches)
        done, losses = checkpoint.load(network, optimiser) if checkpoint else (0, [])
        with tqdm(total=epochs * len(images), initial=done * len(images), desc=title, unit="img", disable=None, unit_scale=True) as bar:
            for epoch in range(done, epochs):
                torch.manual_seed(derive(seed, "network", epoch))
                recorded = torch.zeros(2, len(batches), device=where.device)
                for i, (batch, labels, random) in enumerate(batches.epoch(epoch)):
                    rate = learning_rate(settings, first, (epoch * len(batches) + i) / steps)
                    recorded[:, i] = _step(student, frozen, batch, labels, regime, settings, optimiser, rate, where, random)
                    bar.update(len(labels))
                _check(recorded[0], losses, epoch * len(batches), steps, settings, first, title)
                losses.append(float(recorded[0].mean()))
                bar.set_postfix(loss=f"{losses[-1]:.3f}")
                if follow:
                    follow(Epoch(epoch + 1, losses[-1], float(recorded[1].mean()), rate))
                if checkpoint and epoch + 1 < epochs:
                    checkpoint.save(epoch + 1, losses, network, optimiser)
        network.eval()
        return losses


@contextmanager
def _explained(title: str, batch: int) -> Iterator[None]:
    """Say what to do where memory runs out or torch cannot compile."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            raise TrainingError(
                f"{title}: a batch of {batch} images needs more memory than there is; set training.batch_size to "
                f"{max(batch // 2, 2)} or dataset.encoding to 'jpeg' to stream the images."
            ) from error
        if any(cls.__name__ == "TorchDynamoException" for cls in type(error).__mro__):
            reason = str(error).strip().splitlines()[0]
            raise TrainingError(f"{title}: torch cannot compile the network here ({reason}); set machine.compile to 'never'.") from error
        raise


class Forward:
    """A network's forward pass, as it is or compiled; the network itself stays as it is.

    Args:
        network: on its device.
        where: in which precision to run.
        compiled: whether to run the backbone through torch's compiler.
    """

    def __init__(self, network: backbones.Network, where: Machine, compiled: bool) -> None:
        self.head = network.head
        self.where = where
        if compiled:
            # It warns that a machine without a GPU has none.
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
            # It traces in autograd's anomaly mode, which warns of an interrupt as of an error; errors are raised besides.
            warnings.filterwarnings("ignore", "Error detected in", UserWarning)
        self._backbone: Callable[[Tensor], Tensor] = torch.compile(network.backbone) if compiled else network.backbone

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features [b, d], logits [b, classes], both float32, and the last maps [b, d, h, w] of normalised images [b, c, h, w]."""
        with self.where.autocast():
            maps = self._backbone(inputs)
            features = maps.mean(dim=(2, 3))
            return features.float(), self.head(features).float(), maps


def _step(
    network: Forward,
    frozen: Forward | None,
    batch: Tensor,
    labels: Tensor,
    regime: Regime,
    settings: Training,
    optimiser: SGD,
    rate: float,
    where: Machine,
    random: torch.Generator,
) -> Tensor:
    rows, columns, flips = (t.to(where.device, non_blocking=True) for t in augment.draw(len(labels), settings.padding, settings.flip, random))
    inputs = augment.normalise(augment.crop_and_flip(batch, rows, columns, flips, settings.padding), where.dtype)
    view = None
    if frozen is not None:
        with torch.no_grad():
            view = Teacher(*frozen(inputs), frozen.head)
    features, logits, maps = network(inputs)
    loss = torch.stack(list(regime.loss(Step(labels, features, logits, maps, network.head, view)).values())).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step(rate)
    return torch.stack([loss.detach(), (logits.detach().argmax(dim=1) == labels).float().mean()])


def _check(recorded: Tensor, losses: list[float], start: int, steps: int, settings: Training, first: bool, title: str) -> None:
    finite = torch.isfinite(recorded)
    if bool(finite.all()):
        return
    bad = int((~finite).nonzero()[0])
    last = float(recorded[bad - 1]) if bad else (losses[-1] if losses else float("nan"))
    rate = learning_rate(settings, first, (start + bad) / steps)
    raise TrainingError(
        f"{title}: the loss is {float(recorded[bad])} at step {start + bad + 1} of {steps}, at a learning rate of {rate:.3g}; the last finite "
        f"loss was {last:.4g}. Lower training.{'' if first else 'increment_'}learning_rate; earlier artefacts are as they were."
    )


def fingerprint(paths: Sequence[str | os.PathLike[str]], *parts: object) -> str:
    """Return a key that names the content of files and other inputs of a training, for its checkpoint."""
    import hashlib

    digest = hashlib.sha256(repr(parts).encode())
    for path in paths:
        with open(path, "rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:24]
