"""Backbones and heads: what turns images into features, and features into logits.

ResNet-32 for 32-pixel images: He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2
(projection-free shortcuts, option A). ResNet-18: the same paper, table 1, with a 7x7 or a 3x3 stem.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carryover.errors import ArtefactError, ConfigurationError, unknown
from carryover.seeds import derive

if TYPE_CHECKING:
    from carryover.pretrained import Pretrained

MAX_CHANNELS = 64


class ShortcutA(nn.Module):
    """The parameter-free shortcut of CIFAR ResNets: every second pixel, new channels zero (option A)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.pad))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut; [b, c, h, w] -> [b, width, h / stride, w / stride]."""

    def __init__(self, channels: int, width: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = (
                nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)) if projection else ShortcutA(width - channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        # In place, for these tensors are as large as the convolutions' and a step is half memory traffic.
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class ResNet(nn.Module):
    """A residual network of basic blocks; images [b, c, h, w] -> feature maps [b, features, h', w']."""

    def __init__(self, channels: int, stem: nn.Module, width: int, blocks: list[int], projection: bool) -> None:
        super().__init__()
        self.stem = stem
        layers: list[nn.Module] = []
        current = width
        for i, count in enumerate(blocks):
            for j in range(count):
                layers.append(BasicBlock(current, width * 2**i, 2 if i and not j else 1, projection))
                current = width * 2**i
        self.blocks = nn.Sequential(*layers)
        self.features = current

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))  # type: ignore[no-any-return]


def _stem(channels: int, width: int, kind: str) -> nn.Module:
    if kind == "7x7":
        return nn.Sequential(nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _small(channels: int) -> ResNet:
    return ResNet(channels, _stem(channels, 32, "3x3"), 32, [1, 1], projection=True)


def _resnet32(channels: int) -> ResNet:
    return ResNet(channels, _stem(channels, 16, "3x3"), 16, [5, 5, 5], projection=False)


def _resnet18(channels: int) -> ResNet:
    return ResNet(channels, _stem(channels, 64, "3x3"), 64, [2, 2, 2, 2], projection=True)


def _resnet18_imagenet(channels: int) -> ResNet:
    return ResNet(channels, _stem(channels, 64, "7x7"), 64, [2, 2, 2, 2], projection=True)


ARCHITECTURES: dict[str, Callable[[int], ResNet]] = {
    "small": _small,
    "resnet32": _resnet32,
    "resnet18": _resnet18,
    "resnet18_imagenet": _resnet18_imagenet,
}


class LinearHead(nn.Module):
    """Logits W f + b of features f [b, d] -> [b, classes]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, features))
        self.bias = nn.Parameter(torch.empty(0))

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)

    def grow(self, classes: int, random: torch.Generator) -> None:
        """Append rows until there are `classes`; earlier rows keep their values."""
        d = self.weight.shape[1]
        new = classes - self.weight.shape[0]
        rows = (torch.rand(new, d, generator=random) * 2 - 1) / d**0.5
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), rows]))
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), torch.zeros(new)]))


class CosineHead(nn.Module):
    """Logits s cos(w_c, f) with a learned scale s (Hou et al., LUCIR, CVPR 2019, equation 4); [b, d] -> [b, classes]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, features))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))

    def grow(self, classes: int, random: torch.Generator) -> None:
        """Append rows until there are `classes`; earlier rows keep their values."""
        d = self.weight.shape[1]
        rows = torch.randn(classes - self.weight.shape[0], d, generator=random) / d**0.5
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), rows]))

    def imprint(self, features: Tensor, labels: Tensor) -> None:
        """Set each row c among `labels` [n] to the mean of its features [n, d] of unit length, as long as the other rows are on average.

        Hou et al., LUCIR, CVPR 2019, section 3.5, after Qi et al., "Low-shot learning with imprinted weights", CVPR 2018.
        """
        with torch.no_grad():
            present = torch.unique(labels)
            others = torch.ones(len(self.weight), dtype=torch.bool)
            others[present] = False
            length = self.weight[others].norm(dim=1).mean() if bool(others.any()) else torch.tensor(1.0)
            rows = F.normalize(features, dim=1)
            for label in present.tolist():
                mean = rows[labels == label].mean(dim=0)
                # A class whose features are all zero has no direction: its row stays as it was drawn.
                if bool(mean.any()):
                    self.weight[label] = length * F.normalize(mean, dim=0)


HEADS: dict[str, type[LinearHead] | type[CosineHead]] = {"linear": LinearHead, "cosine": CosineHead}


class Network(nn.Module):
    """A backbone with its head.

    Args:
        architecture: one of `ARCHITECTURES`, or "torchvision/<name>" or "timm/<name>", see `carryover.pretrained`.
        head: one of `HEADS`.
        channels: channels of the images, 1 or 3.
        frozen: whether the backbone stays as it is and the head alone is trained.
        mean: for an architecture of another library, what its weights expect as the mean of each channel; by default ImageNet's.
        deviation: the same of each channel's deviation.

    Raises:
        ConfigurationError: for an unknown architecture or head.
    """

    def __init__(
        self,
        architecture: str,
        head: str,
        channels: int,
        frozen: bool = False,
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ConfigurationError(unknown("backbone.head", head, HEADS))
        self.architecture, self.head_name, self.channels, self.frozen = architecture, head, channels, frozen
        self.mean, self.deviation = mean, deviation
        self.backbone: ResNet | Pretrained
        if "/" in architecture:
            # Imported here, for their libraries take seconds.
            from carryover.pretrained import IMAGENET_DEVIATION, IMAGENET_MEAN, Pretrained

            self.backbone = Pretrained(architecture, mean or IMAGENET_MEAN, deviation or IMAGENET_DEVIATION)
        elif architecture not in ARCHITECTURES:
            accepted = [*ARCHITECTURES, "torchvision/<name>", "timm/<name>"]
            raise ConfigurationError(unknown("backbone.architecture", architecture, accepted))
        elif mean or deviation:
            raise ConfigurationError("Parameters backbone.mean and backbone.deviation are for architectures of torchvision and timm alone.")
        else:
            self.backbone = ARCHITECTURES[architecture](channels)
        if frozen:
            self.backbone.requires_grad_(False)
        self.head = HEADS[head](self.backbone.features)

    def train(self, mode: bool = True) -> Network:
        """Switch between training and evaluation; a frozen backbone stays in evaluation, for its running statistics would move."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    @property
    def classes(self) -> int:
        """How many classes the head knows."""
        return int(self.head.weight.shape[0])

    def maps(self, images: Tensor) -> Tensor:
        """Return the last feature maps of normalised images [b, c, h, w]: [b, d, h', w']."""
        return self.backbone(images)  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """Return the features of normalised images [b, c, h, w]: [b, d], the mean of the last maps over space."""
        return self.maps(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [b, d] and logits [b, classes] of normalised images [b, c, h, w]."""
        features = self.features(images)
        return features, self.head(features)


def initialise(
    architecture: str,
    head: str,
    channels: int,
    seed: int,
    size: tuple[int, int] | None = None,
    weights: str | None = None,
    frozen: bool = False,
    mean: list[float] | None = None,
    deviation: list[float] | None = None,
) -> Network:
    """Return a network without classes, its weights drawn from `seed`: He initialisation (fan out), batch norm at 1 and 0.

    An architecture of another library is initialised as that library does it, or takes the file `weights`; it is tried on an image of
    `size`, height and width, where that is known. See `Network`.

    Raises:
        ConfigurationError: for an unknown architecture or head, or weights where there are none to load.
        ArtefactError: if the weights are not those of the architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "library"))
        network = Network(architecture, head, channels, frozen, mean, deviation)
    if isinstance(network.backbone, ResNet):
        if weights is not None:
            raise ConfigurationError("Parameter backbone.weights is for architectures of torchvision and timm alone.")
        random = torch.Generator().manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=random)
    else:
        if weights is not None:
            network.backbone.load(weights)
        if size is not None:
            network.backbone.check((channels, *size))
    return network


def to_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    """Return a network's weights and running statistics as arrays by name."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}


def describe(network: Network) -> dict[str, Any]:
    """Return what `from_arrays` needs beside the arrays."""
    own = {"architecture": network.architecture, "head": network.head_name, "channels": network.channels, "classes": network.classes}
    return own | {"frozen": network.frozen, "mean": network.mean, "deviation": network.deviation}


def from_arrays(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], source: str = "the artefact", bounded: bool = False) -> Network:
    """Rebuild a network from `describe` and `to_arrays`.

    With `bounded`, for a file from a stranger, an architecture of another library is first made without memory: it may be far larger than
    the arrays.

    Raises:
        ArtefactError: if the arrays are not those of the described architecture.
    """
    if bounded and "/" in str(description.get("architecture")):
        with torch.device("meta"):
            _check(_described(description, arrays, source), arrays, source)
    network = _described(description, arrays, source)
    _check(network, arrays, source)
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, strict=False)
    return network


def _described(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], source: str) -> Network:
    try:
        made = dict(description)
        classes, made["channels"] = operator.index(made.pop("classes")), operator.index(made["channels"])
        if not (classes >= 0 and 0 < made["channels"] <= MAX_CHANNELS):
            raise ValueError(f"{classes} classes, {made['channels']} channels")
        network = Network(**made)
    except (KeyError, TypeError, ValueError, ConfigurationError) as error:
        raise ArtefactError(f"{source} describes no network: {str(error).rstrip('.')}.") from error
    # Not more rows than can be compared with those that are there, whatever the description claims.
    network.head.grow(min(classes, len(arrays.get("head.weight", ())) + 1), torch.Generator().manual_seed(0))
    return network


def _check(network: Network, arrays: Mapping[str, np.ndarray], source: str) -> None:
    wanted = {n: tuple(t.shape) for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    if wanted != found:
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ArtefactError(
            f"{source} does not hold a {network.architecture} with a {network.head_name} head of {network.classes} classes: "
            f"{len(wrong)} tensors differ, the first is {wrong[0]!r} "
            f"({found.get(wrong[0], 'missing')} where {wanted.get(wrong[0], 'nothing')} is needed)."
        )
