"""Backbones: shapes, sizes, heads that grow without forgetting, and networks that survive their artefact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from carryover import artefacts, backbones
from carryover.backbones import ARCHITECTURES, HEADS, describe, from_arrays, initialise, to_arrays
from carryover.errors import ArtefactError, ConfigurationError

torch.set_num_threads(1)
FEATURES = {"small": 64, "resnet32": 64, "resnet18": 512, "resnet18_imagenet": 512}
# Feature maps of a 32-pixel image: 3x3 stems halve between groups of blocks, the 7x7 stem and its pooling quarter it first.
MAPS = {"small": 16, "resnet32": 8, "resnet18": 4, "resnet18_imagenet": 1}


def random_state(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_of_maps_features_and_logits(architecture: str, channels: int) -> None:
    network = initialise(architecture, "linear", channels, 0).eval()
    network.head.grow(7, random_state())
    images = torch.randn(2, channels, 32, 32, generator=random_state())
    with torch.inference_mode():
        maps, (features, logits) = network.maps(images), network(images)
    assert network.backbone.features == FEATURES[architecture]
    assert maps.shape == (2, FEATURES[architecture], MAPS[architecture], MAPS[architecture])
    assert features.shape == (2, FEATURES[architecture]) and logits.shape == (2, 7) and network.classes == 7
    assert np.allclose(features.numpy(), maps.numpy().mean(axis=(2, 3)), atol=1e-6)
    assert torch.isfinite(logits).all() and features.std() > 0


def test_parameter_counts_are_the_papers() -> None:
    # Counted by hand from the papers' tables; ResNet-32 is "0.46 M" with its 10-class layer of 650 weights.
    convolutions = 3 * 16 * 9 + 10 * 16 * 16 * 9 + (16 * 32 + 9 * 32 * 32 + 32 * 64 + 9 * 64 * 64) * 9
    norms = 2 * (11 * 16 + 10 * 32 + 10 * 64)
    assert parameters(ARCHITECTURES["resnet32"](3)) == convolutions + norms == 464_154 - 650
    # torchvision's resnet18 has 11,689,512 with its 1000-class layer.
    assert parameters(ARCHITECTURES["resnet18_imagenet"](3)) == 11_689_512 - 513 * 1000
    assert parameters(ARCHITECTURES["resnet18"](3)) == 11_689_512 - 513 * 1000 - 3 * 64 * (49 - 9)


def test_resnet32_has_31_convolutions_and_no_projection() -> None:
    layers = [m for m in ARCHITECTURES["resnet32"](3).modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) == 31 and all(layer.kernel_size == (3, 3) for layer in layers)


def test_shortcut_a_takes_every_second_pixel_and_pads_channels_with_zeros() -> None:
    x = torch.randn(2, 3, 4, 6, generator=random_state())
    out = backbones.ShortcutA(2)(x)
    assert out.shape == (2, 5, 2, 3)
    for i in range(2):
        for j in range(3):
            assert torch.equal(out[:, :3, i, j], x[:, :, 2 * i, 2 * j])
    assert (out[:, 3:] == 0).all()


@pytest.mark.parametrize("head", sorted(HEADS))
def test_growth_keeps_old_rows_and_old_logits(head: str) -> None:
    network = initialise("small", head, 1, 0)
    assert network.classes == 0
    network.head.grow(3, random_state(1))
    before = to_arrays(network.head)
    features = torch.randn(5, 64, generator=random_state(2))
    logits = network.head(features)
    network.head.grow(8, random_state(3))
    assert network.classes == 8 and network.head(features).shape == (5, 8)
    assert torch.allclose(network.head(features)[:, :3], logits, atol=1e-6)
    after = to_arrays(network.head)
    assert np.array_equal(after["weight"][:3], before["weight"])
    assert np.unique(after["weight"], axis=0).shape[0] == 8
    if head == "linear":
        assert np.array_equal(after["bias"][:3], before["bias"]) and (after["bias"][3:] == 0).all()
    assert all(p.requires_grad for p in network.head.parameters())


def test_cosine_logits_equal_their_formula() -> None:
    head = backbones.CosineHead(4)
    head.grow(3, random_state())
    features = torch.randn(5, 4, generator=random_state(1))
    weight = head.weight.detach().numpy().astype(float)
    expected = [[10 * f @ w / np.linalg.norm(f) / np.linalg.norm(w) for w in weight] for f in features.numpy().astype(float)]
    assert np.allclose(head(features).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_imprinted_rows_are_mean_unit_features_as_long_as_the_old_rows_on_average(seed: int) -> None:
    head = backbones.CosineHead(4)
    head.grow(3, random_state(seed))
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[1.0], [2.0], [5.0]]))
    old = head.weight.detach().numpy().copy()
    head.grow(5, random_state(seed + 1))
    random = np.random.default_rng(seed)
    features, labels = random.gamma(1.0, size=(9, 4)).astype(np.float32), np.array([4, 3, 4, 4, 3, 3, 4, 4, 4])
    head.imprint(torch.from_numpy(features), torch.from_numpy(labels))
    found = head.weight.detach().numpy()
    assert np.array_equal(found[:3], old)
    length = np.mean([np.sqrt((row.astype(float) ** 2).sum()) for row in old])
    for label in (3, 4):
        rows = [f / np.sqrt((f**2).sum()) for f in features[labels == label].astype(float)]
        mean = np.sum(rows, axis=0) / len(rows)
        assert np.allclose(found[label], length * mean / np.sqrt((mean**2).sum()), rtol=1e-5, atol=1e-6)
    assert head.weight.requires_grad and head.weight.is_leaf


def test_imprinting_does_not_depend_on_the_features_lengths_and_leaves_classes_without_images_alone() -> None:
    features, labels = torch.rand(6, 4, generator=random_state(1)), torch.tensor([2, 3, 2, 3, 2, 3])
    rows = []
    for scale in (torch.ones(6, 1), torch.rand(6, 1, generator=random_state(2)) * 9 + 1):
        head = backbones.CosineHead(4)
        head.grow(5, random_state())
        before = head.weight.detach().clone()
        head.imprint(features * scale, labels)
        assert torch.equal(head.weight[[0, 1, 4]], before[[0, 1, 4]]) and not torch.equal(head.weight[2:4], before[2:4])
        rows.append(head.weight.detach())
    assert torch.allclose(rows[0], rows[1], atol=1e-6)


def test_without_other_rows_imprinted_rows_have_length_one() -> None:
    head = backbones.CosineHead(4)
    head.grow(2, random_state())
    head.imprint(torch.rand(6, 4, generator=random_state(1)), torch.tensor([0, 1, 0, 1, 1, 1]))
    assert np.allclose(np.linalg.norm(head.weight.detach().numpy(), axis=1), 1, atol=1e-6)


def test_imprinted_classes_are_recognised_without_training() -> None:
    head = backbones.CosineHead(4)
    head.grow(4, random_state())
    labels = torch.arange(40) % 4
    features = torch.eye(4)[labels] + 0.1 * torch.rand(40, 4, generator=random_state(1))
    assert not torch.equal(head(features).argmax(dim=1), labels)
    head.imprint(features, labels)
    assert torch.equal(head(features).argmax(dim=1), labels)


def test_linear_logits_equal_their_formula() -> None:
    head = backbones.LinearHead(4)
    head.grow(3, random_state())
    with torch.no_grad():
        head.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    features = torch.randn(5, 4, generator=random_state(1))
    expected = features.numpy() @ head.weight.detach().numpy().T + np.array([1.0, 2.0, 3.0])
    assert np.allclose(head(features).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("architecture", ["small", "resnet32"])
def test_initialisation_is_a_function_of_the_seed(architecture: str) -> None:
    torch.manual_seed(1)
    first = to_arrays(initialise(architecture, "linear", 3, 5))
    torch.manual_seed(2)
    second, third = to_arrays(initialise(architecture, "linear", 3, 5)), to_arrays(initialise(architecture, "linear", 3, 6))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    convolutions = [name for name, array in first.items() if array.ndim == 4]
    assert convolutions and all(not np.array_equal(first[name], third[name]) for name in convolutions)


def test_initialisation_is_he_s_with_batch_norm_at_one_and_zero() -> None:
    network = initialise("resnet18", "linear", 3, 0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(expected, rel=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("architecture", ["small", "resnet32"])
def test_a_network_survives_its_artefact(tmp_path: Path, architecture: str, head: str) -> None:
    network = initialise(architecture, head, 3, 0)
    network.head.grow(4, random_state())
    network.train()
    images = torch.randn(4, 3, 16, 16, generator=random_state(1))
    network(images)  # moves the running statistics
    network.eval()
    artefacts.write(tmp_path / "n", "backbone", to_arrays(network), network=describe(network))
    found = artefacts.read(tmp_path / "n", "backbone")
    again = from_arrays(found.fields["network"], found.tensors).eval()
    with torch.inference_mode():
        for expected, value in zip(network(images), again(images), strict=True):
            assert torch.equal(expected, value)


def test_the_arrays_of_another_architecture_are_refused_naming_the_tensor() -> None:
    network = initialise("small", "linear", 3, 0)
    network.head.grow(4, random_state())
    arrays, description = to_arrays(network), describe(network)
    with pytest.raises(ArtefactError, match=r"x\.safetensors does not hold a resnet32 .*the first is 'backbone\.\S+'"):
        from_arrays(description | {"architecture": "resnet32"}, arrays, "x.safetensors")
    with pytest.raises(ArtefactError, match=r"of 5 classes: 2 tensors differ, the first is 'head\.bias' \(\(4,\) where \(5,\) is needed\)"):
        from_arrays(description | {"classes": 5}, arrays)
    with pytest.raises(ArtefactError, match=r"'head\.scale' \(missing where"):
        from_arrays(description | {"head": "cosine"}, {name: a for name, a in arrays.items() if name != "head.bias"})
    with pytest.raises(ArtefactError, match=r"1 tensors differ, the first is 'surplus'"):
        from_arrays(description, arrays | {"surplus": np.zeros(1)})


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"'resnet3'; did you mean 'resnet32'"):
        initialise("resnet3", "linear", 3, 0)
    with pytest.raises(ConfigurationError, match=r"'cosin'; did you mean 'cosine'"):
        initialise("small", "cosin", 3, 0)


def test_rebuilt_arrays_are_copies() -> None:
    network = initialise("small", "linear", 1, 0)
    arrays = {name: array.copy() for name, array in to_arrays(network).items()}
    again = from_arrays(describe(network), arrays)
    for array in arrays.values():
        array.fill(0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    "change",
    [{"classes": 2**62}, {"classes": -(2**63)}, {"classes": 1.5}, {"channels": 2**40}, {"channels": 0}, {"architecture": []}, {"head": None}],
)
def test_a_description_of_an_absurd_network_is_refused_before_it_is_built(change: dict[str, object]) -> None:
    network = backbones.initialise("small", "linear", 1, 0)
    with pytest.raises(ArtefactError, match=r"^the artefact (describes no network|does not hold)"):
        backbones.from_arrays(backbones.describe(network) | change, backbones.to_arrays(network))
