"""The comparator: class-incremental training as the field's toolkits run it, in PyTorch's plainest terms.

Images go through PIL and torchvision's transforms one by one, a DataLoader stacks them, and the network computes in
float32 with torch's default layout. The previous network runs beside it in evaluation mode without gradients.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from carryover.images import PackedImages


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images in memory, each turned into a PIL image and transformed when it is asked for, as torchvision's CIFAR does."""

    def __init__(self, images: PackedImages) -> None:
        self.images = images
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[0], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images.images[index])), int(self.images.labels[index])


class Block(nn.Module):
    """The basic block of CIFAR ResNets with the shortcut without parameters."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.pad = stride, width - channels

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.pad)) if self.pad else x
        return F.relu(self.bn2(self.conv2(out)) + shortcut, inplace=True)


class ResNet32(nn.Module):
    """ResNet-32 for 32-pixel images with a linear head."""

    def __init__(self, classes: int, blocks: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        layers: list[nn.Module] = []
        for i, width in enumerate((16, 32, 64)):
            layers += [Block(width // 2 if i and not j else width, width, 2 if i and not j else 1) for j in range(blocks)]
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        return self.head(F.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1))  # type: ignore[no-any-return]


class PlainLoop:
    """A network, its optimiser and its loader.

    Args:
        images: to train on.
        classes: rows of the head.
        old: classes of the previous network, or 0 to train by cross-entropy alone; else LwF with weight 2 and T 2.
        batch: images a step.
        workers: processes that load images.
        blocks: in each of the three stages; 5 make a ResNet-32.
    """

    def __init__(self, images: PackedImages, classes: int, old: int, batch: int, workers: int, blocks: int = 5) -> None:
        self.network = ResNet32(classes, blocks).train()
        self.teacher = copy.deepcopy(self.network).eval().requires_grad_(False) if old else None
        self.old = old
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        extra: dict[str, Any] = {"persistent_workers": True, "multiprocessing_context": "fork"} if workers else {}
        self.loader = DataLoader(Pictures(images), batch, shuffle=True, drop_last=True, num_workers=workers, **extra)

    def epoch(self) -> None:
        """Run over all images once."""
        total = 0.0
        for images, labels in self.loader:
            logits = self.network(images)
            loss = F.cross_entropy(logits, labels)
            if self.teacher is not None:
                with torch.no_grad():
                    targets = (self.teacher(images)[:, : self.old] / 2).softmax(dim=1)
                loss = loss + 2 * F.cross_entropy(logits[:, : self.old] / 2, targets)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            total += loss.item()
