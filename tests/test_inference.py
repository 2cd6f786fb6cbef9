"""Inference: folding batch norm changes no output, and features do not depend on batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from carryover import inference
from carryover.augment import normalise
from carryover.backbones import ARCHITECTURES, Network, initialise, to_arrays
from carryover.images import EncodedImages, PackedImages, encode_png
from carryover.inference import extract, folded
from carryover.machine import Machine

torch.set_num_threads(1)


def randomised(architecture: str, head: str = "linear", channels: int = 3) -> Network:
    """A network whose batch norms do something: random statistics, weights and biases."""
    network = initialise(architecture, head, channels, 0)
    random = torch.Generator().manual_seed(1)
    network.head.grow(5, random)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -1, 1),
                (module.running_var, 0.5, 2),
            ):
                tensor.data.copy_(torch.rand(tensor.shape, generator=random) * (high - low) + low)
    return network.eval()


def images(count: int, channels: int = 3, size: int = 8) -> PackedImages:
    random = np.random.default_rng(2)
    return PackedImages(random.integers(0, 256, (count, size, size, channels), dtype=np.uint8), np.zeros(count, dtype=np.int64))


def machine() -> Machine:
    return Machine(device="cpu", precision="float32", threads=1)


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_folded_network_gives_the_same_outputs(architecture: str, head: str) -> None:
    network = randomised(architecture, head)
    frozen = folded(network)
    assert not [m for m in frozen.modules() if isinstance(m, nn.BatchNorm2d)]
    inputs = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for expected, found in zip(network(inputs), frozen(inputs), strict=True):
            assert float((expected - found).abs().max()) < 1e-4 * float(expected.abs().max())


def test_a_batch_norm_that_also_applies_the_activation_is_left_as_it_is() -> None:
    network = randomised("small")
    network.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    frozen = folded(network.eval())
    assert [type(module) for module in frozen.backbone.children()][1:2] == [BatchNormAct2d]
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(network.backbone(inputs), frozen.backbone(inputs), atol=1e-5)


def test_folding_leaves_the_network_itself_alone() -> None:
    network = randomised("small").train()
    before = {name: array.copy() for name, array in to_arrays(network).items()}
    frozen = folded(network)
    frozen(torch.randn(2, 3, 8, 8))
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert not frozen.training and not any(p.requires_grad for p in frozen.parameters())
    after = to_arrays(network)
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("channels", [1, 3])
def test_extract_equals_the_network_in_evaluation_mode(channels: int) -> None:
    network, data = randomised("small", channels=channels).train(), images(7, channels)
    found = extract(network, data, machine())
    with torch.inference_mode():
        expected = network.eval().features(normalise(torch.from_numpy(data.images))).numpy()
    assert found.shape == (7, 64) and found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 4, 9, 100])
def test_features_do_not_depend_on_batch_boundaries(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = randomised("small"), images(10)
    whole = extract(network, data, machine())
    monkeypatch.setattr(inference, "BATCH", batch)
    assert np.allclose(extract(network, data, machine()), whole, atol=1e-5)


def test_row_i_belongs_to_image_i() -> None:
    network, data = randomised("small"), images(10)
    order = np.random.default_rng(0).permutation(10)
    assert np.allclose(extract(network, data.subset(order), machine()), extract(network, data, machine())[order], atol=1e-5)


def test_encoded_images_have_the_features_of_packed_ones() -> None:
    network, data = randomised("small"), images(10)
    encoded = EncodedImages.from_files([encode_png(image) for image in data.images], data.labels, data.shape)
    assert np.array_equal(extract(network, encoded, machine()), extract(network, data, machine()))


def test_no_images_have_no_features() -> None:
    assert extract(randomised("small"), images(0), machine()).shape == (0, 64)


def test_bfloat16_is_close_to_float32() -> None:
    network, data = randomised("small"), images(10)
    plain = extract(network, data, machine())
    half = extract(network, data, Machine(device="cpu", precision="bfloat16", threads=1))
    assert half.dtype == np.float32 and not np.array_equal(half, plain)
    assert np.abs(half - plain).max() < 0.03 * np.abs(plain).max()
