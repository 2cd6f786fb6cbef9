"""CIFAR-10: 50,000 training and 10,000 test images of 32 x 32, in 10 classes."""

from __future__ import annotations

from carryover.datasets._cifar import load_cifar
from carryover.datasets._classes import Loaded

__all__ = ["Cifar10"]


class Cifar10:
    """CIFAR-10, downloaded once by torchvision.

    Args:
        root: the folder that its archive lies in or is downloaded to.
    """

    def __init__(self, root: str = "data/raw") -> None:
        self.root = root

    def load(self) -> Loaded:
        """Return the classes, sorted by name."""
        return load_cifar("CIFAR10", self.root)
