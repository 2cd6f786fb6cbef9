"""`adc`: adversarial drift compensation, class means that follow current images disguised as images of the old class.

Goswami et al., "Resurrecting old classes with new data for exemplar-free continual learning", CVPR 2024.
For each old class c with the mean P_c, the task's images nearest to P_c in the previous feature space are moved on their
pixels towards it, x <- x - step grad |f_{t-1}(x) - P_c|^2 / |grad|; those whose nearest old mean is then P_c stand for the
class, and P_c moves by their mean drift f_t(x) - f_{t-1}(x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field

from carryover.adapters import Chasing, check_features

if TYPE_CHECKING:
    from torch import Tensor

    from carryover.backbones import Network
    from carryover.images import ImageSet
    from carryover.machine import Machine

__all__ = ["ADCAdapter"]

# Images at a time: their activations and gradients are what takes memory, about 3 MB an image of 32 pixels in a ResNet-32.
BATCH = 100


class ADCAdapter(Chasing):
    """Adversarial drift compensation.

    Differences from the authors' code: it steps by the gradient of a batch of images together, divided by the norm of all of
    it; here every image takes a step of the same length, so that none depends on its company. A class that no image
    reaches takes there the drift of its nearest images before they moved, here after they moved, when they are nearer.
    Both clip pixels to their valid range, and neither rounds them to whole grey values.

    Args:
        images: how many of the task's images are moved towards each mean.
        step: the length of a step, as the root mean square of a pixel's change in units of the range of pixel values. The
            authors' alpha of 25, for 100 images of CIFAR-100 together, is 0.012 an image on average.
        iterations: how many steps.
    """

    keeps = "means"

    def __init__(
        self,
        images: Annotated[int, Field(gt=0)] = 100,
        step: Annotated[float, Field(gt=0)] = 0.02,
        iterations: Annotated[int, Field(ge=0)] = 3,
    ) -> None:
        self.images = images
        self.step = step
        self.iterations = iterations

    def chase(
        self,
        stored: np.ndarray,
        images: ImageSet,
        previous_features: np.ndarray,
        previous: Network,
        current: Network,
        where: Machine,
        seed: int,
    ) -> Self:
        """Find `drift_` [classes, d], and `reached_` [classes], the share of the moved images that arrived at each class.

        Args:
            stored: the class means, [classes, d].
            images: the task's n images.
            previous_features: theirs under `previous`, [n, d].
            previous: the network before the task.
            current: the network after it.
            where: device and precision.
            seed: not used, for nothing is drawn.

        Raises:
            ValueError: if the shapes do not fit each other, or there is no image.
        """
        import torch
        from tqdm import tqdm

        from carryover.inference import folded

        known = np.asarray(previous_features, dtype=np.float32)
        if known.ndim != 2 or len(known) != len(images) or not len(known):
            raise ValueError(f"Previous features must be a row for each of {len(images)} images, at least one; got {known.shape}.")
        means = check_features(stored, known.shape[1])
        before, after = (folded(network).to(where.device).to(memory_format=torch.channels_last) for network in (previous, current))
        targets = torch.from_numpy(means).to(where.device)
        self.drift_ = np.empty_like(means)
        self.reached_ = np.empty(len(means), dtype=np.float32)
        for c in tqdm(range(len(means)), desc="adc", unit="class", disable=None):
            nearest = np.argsort(((known - means[c]) ** 2).sum(axis=1), kind="stable")[: self.images]
            parts = [self._moved(images.gather(nearest[i : i + BATCH]), c, targets, before, after, where) for i in range(0, len(nearest), BATCH)]
            drift, arrived = (np.concatenate(part) for part in zip(*parts, strict=True))
            self.drift_[c] = (drift[arrived] if arrived.any() else drift).mean(axis=0)
            self.reached_[c] = arrived.mean()
        return self

    def _moved(self, pixels: np.ndarray, c: int, means: Tensor, before: Network, after: Network, where: Machine) -> tuple[np.ndarray, np.ndarray]:
        """Move images, uint8 [b, h, w, c], to class c; return their drift [b, d] there, and which of them arrived [b]."""
        import torch

        from carryover.augment import normalise

        def features(network: Network, inputs: Tensor) -> Tensor:
            with where.autocast():
                return network.features(inputs).float()

        x = normalise(torch.from_numpy(pixels).to(where.device))
        low, high = normalise(torch.tensor([0, 255], dtype=torch.uint8, device=where.device).view(1, 1, 1, 2)).flatten().tolist()
        length = self.step * (high - low) * x[0].numel() ** 0.5
        for _ in range(self.iterations):
            x.requires_grad_()
            distance = ((features(before, x) - means[c]) ** 2).sum()
            (gradient,) = torch.autograd.grad(distance, x)
            norms = gradient.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
            x = (x.detach() - length * gradient / norms[:, None, None, None]).clamp(low, high)
        with torch.inference_mode():
            there = features(before, x)
            arrived = torch.cdist(there, means, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1) == c
            return (features(after, x) - there).cpu().numpy(), arrived.cpu().numpy()

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Add row c's drift to row c of the class means [classes, d].

        Raises:
            ValueError: if these are not as many rows, or columns, as the drifts that were found.
        """
        means = check_features(features, self.drift_.shape[1])
        if len(means) != len(self.drift_):
            raise ValueError(f"Drifts of {len(self.drift_)} class means cannot be added to {len(means)} rows: a row is a class.")
        moved: np.ndarray = means + self.drift_
        return moved

    def note(self) -> str:
        """Return how many classes took the drift of images that did not arrive at them; "" for none."""
        missed = int((self.reached_ == 0).sum())
        if not missed:
            return ""
        return f"no image arrived at {missed} of {len(self.reached_)} old classes, which take the drift of the images nearest to them."

    def state(self) -> dict[str, np.ndarray]:
        """Return the drift of each class mean, float32 [classes, d]."""
        return {"drift": self.drift_}

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take back the drifts."""
        self.drift_ = arrays["drift"]
        return self
