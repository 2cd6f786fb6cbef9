"""Inference: a frozen network with its batch norms folded away, and the features it gives of a set of images."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from carryover import backbones
from carryover.augment import normalise
from carryover.images import ImageSource
from carryover.machine import Machine

BATCH = 500


def folded(network: backbones.Network) -> backbones.Network:
    """Return a frozen copy in evaluation mode whose batch norms are folded into their convolutions: same outputs, less work."""
    frozen = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(frozen.modules()):
        if isinstance(module, backbones.BasicBlock):
            module.conv1, module.bn1 = fuse_conv_bn_eval(module.conv1, module.bn1), nn.Identity()  # type: ignore[assignment]
            module.conv2, module.bn2 = fuse_conv_bn_eval(module.conv2, module.bn2), nn.Identity()  # type: ignore[assignment]
        # A subclass of a batch norm may do more than normalise: timm's also applies the activation.
        elif isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[0], nn.Conv2d) and type(module[1]) is nn.BatchNorm2d:
            module[0], module[1] = fuse_conv_bn_eval(module[0], module[1]), nn.Identity()
    return frozen


@torch.inference_mode()
def extract(network: backbones.Network, images: ImageSource, where: Machine, title: str = "extract") -> np.ndarray:
    """Return the features of `images` without augmentation, float32 [n, d], in the images' order."""
    frozen = folded(network).to(where.device).to(memory_format=torch.channels_last)
    features = np.empty((len(images), network.backbone.features), dtype=np.float32)
    with tqdm(total=len(images), desc=title, unit="img", disable=None, unit_scale=True) as bar:
        for start in range(0, len(images), BATCH):
            rows = np.arange(start, min(start + BATCH, len(images)))
            features[rows] = forward(frozen, images.gather(rows), where)
            bar.update(len(rows))
    return features


@torch.inference_mode()
def forward(frozen: backbones.Network, pixels: np.ndarray, where: Machine) -> np.ndarray:
    """Return the features of one batch of images, uint8 [b, h, w, c], by a `folded` network on the device: float32 [b, d]."""
    inputs = normalise(torch.from_numpy(pixels).to(where.device), where.dtype)
    with where.autocast():
        features: np.ndarray = frozen.features(inputs).float().cpu().numpy()
    return features
