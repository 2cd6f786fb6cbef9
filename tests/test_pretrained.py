"""Backbones of torchvision and timm: their own features, weights from files alone, and anything else refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from carryover import artefacts, training
from carryover.augment import normalise
from carryover.backbones import describe, from_arrays, initialise, to_arrays
from carryover.errors import ArtefactError, ConfigurationError
from carryover.images import PackedImages
from carryover.machine import Machine
from carryover.regimes.distill import Distill
from carryover.seeds import derive

torch.set_num_threads(1)
# Small ones, and one that is no convolutional network.
NAMES = ["torchvision/shufflenet_v2_x0_5", "timm/resnet10t", "timm/mobilenetv3_small_050", "timm/test_vit"]
MEAN, DEVIATION = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def whole(name: str, seed: int = 0) -> nn.Module:
    """Return the library's own network with its classifier, in evaluation."""
    torch.manual_seed(seed)
    library, _, model = name.partition("/")
    made = torchvision.models.get_model(model, weights=None) if library == "torchvision" else timm.create_model(model, pretrained=False)
    with torch.no_grad():
        for buffer_name, buffer in made.named_buffers():
            if "running" in buffer_name:
                buffer.uniform_(0.5, 1.5) if "var" in buffer_name else buffer.uniform_(-0.1, 0.0)
    result: nn.Module = made.eval()
    return result


def pixels(name: str, channels: int = 3) -> torch.Tensor:
    side = 160 if name == "timm/test_vit" else 64
    return torch.randint(0, 256, (2, side, side, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def features_before_classifier(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return what the last linear layer is given."""
    seen: list[torch.Tensor] = []
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        model(inputs)
    return seen[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["safetensors", "state dict"])
def test_features_are_the_library_s_own_under_the_weights_of_the_file(tmp_path: Path, name: str, form: str) -> None:
    model = whole(name)
    path = tmp_path / "weights"
    if form == "safetensors":
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path)
    else:
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in model.state_dict().items()}, "epoch": 3}, path)
    images = pixels(name)
    network = initialise(name, "linear", 3, 0, images.shape[1:3], str(path), mean=MEAN, deviation=DEVIATION).eval()
    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, DEVIATION))
    expected = features_before_classifier(model, (images.permute(0, 3, 1, 2) / 255 - mean) / deviation)
    with torch.inference_mode():
        found = network.features(normalise(images))
    assert found.shape == (2, network.backbone.features) and expected.std() > 0
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))


def test_grey_images_are_three_equal_channels() -> None:
    network = initialise("timm/resnet10t", "linear", 1, 0, (64, 64)).eval()
    grey = pixels("timm/resnet10t", 1)
    with torch.inference_mode():
        assert torch.allclose(network.features(normalise(grey)), network.features(normalise(grey.expand(-1, -1, -1, 3))), atol=1e-5)


def test_without_a_file_the_seed_draws_the_weights() -> None:
    torch.manual_seed(5)
    first = to_arrays(initialise("timm/resnet10t", "linear", 3, 1))
    torch.manual_seed(6)
    second, third = (to_arrays(initialise("timm/resnet10t", "linear", 3, seed)) for seed in (1, 2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], third[name]) for name in first)


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/test_vit"])
def test_such_a_network_survives_its_artefact(tmp_path: Path, name: str) -> None:
    network = initialise(name, "linear", 3, 0, frozen=True, mean=MEAN, deviation=DEVIATION).eval()
    network.head.grow(2, torch.Generator().manual_seed(0))
    artefacts.write(tmp_path / "n", "backbone", to_arrays(network), network=describe(network))
    found = artefacts.read(tmp_path / "n", "backbone")
    again = from_arrays(found.fields["network"], found.tensors).eval()
    images = normalise(pixels(name))
    with torch.inference_mode():
        assert all(torch.equal(a, b) for a, b in zip(network(images), again(images), strict=True))
    assert again.frozen and describe(again) == describe(network)


def learned(architecture: str, frozen: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return a network's arrays before and after a second task."""
    network = initialise(architecture, "linear", 3, 0, frozen=frozen)
    network.head.grow(2, torch.Generator().manual_seed(0))
    teacher = from_arrays(describe(network), to_arrays(network))
    network.head.grow(3, torch.Generator().manual_seed(1))
    before = {name: array.copy() for name, array in to_arrays(network).items()}
    images = PackedImages(pixels(architecture).repeat(4, 1, 1, 1).numpy(), np.full(8, 2))
    settings = training.Training(1, 1, 0.1, 0.1, batch_size=4, padding=1)
    training.train(network, teacher, images, Distill(), settings, Machine("cpu", "float32", 1), derive(0, "x"))
    return before, to_arrays(network)


@pytest.mark.parametrize("architecture", ["timm/resnet10t", "small"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_backbone_stays_and_its_head_learns(architecture: str, frozen: bool) -> None:
    before, after = learned(architecture, frozen)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"head.weight", "head.bias"} <= moved
    assert any(name.startswith("backbone.") for name in moved) != frozen


@pytest.mark.parametrize(
    ("architecture", "options", "words"),
    [
        (
            "timm/resnet18",
            {"size": (64, 64), "weights": "w"},
            r"w does not hold the weights .*: \d+ tensors differ, the first is 'conv1",
        ),
        ("timm/resnet10t", {"weights": "missing"}, "There is no file missing"),
        ("timm/resnet10t", {"weights": "text"}, "text is neither a safetensors file nor a state dict"),
        ("timm/resnet10t", {"weights": "pickle"}, "pickle is neither a safetensors file nor a state dict"),
        ("timm/resnet10t", {"weights": "list"}, "list holds no state dict"),
        ("timm/resnet10t", {"weights": "nan"}, "1 tensors differ, the first is 'conv1.0.weight'"),
        ("timm/vit_tiny_patch16_224", {"size": (32, 32)}, "timm/vit_tiny_patch16_224 takes no images of 32 x 32 pixels .*set dataset.size"),
        ("timm/resnet10", {}, "'timm/resnet10'; did you mean 'resnet10t'"),
        ("timm/hf-hub:someone/model", {}, "Unknown backbone.architecture"),
        ("torchvision/resnet81", {}, "'torchvision/resnet81'; did you mean 'resnet18'"),
        ("torchvision/inception_v3", {}, "Unknown backbone.architecture"),
        ("keras/resnet", {}, "Unknown library in backbone.architecture 'keras'.*timm, torchvision"),
        ("timm/resnet10t", {"mean": [0.5]}, "three numbers each"),
        ("small", {"mean": [0.5, 0.5, 0.5]}, "for architectures of torchvision and timm alone"),
        ("small", {"weights": "w"}, "for architectures of torchvision and timm alone"),
    ],
)
def test_wrong_names_and_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, options: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    state = whole("timm/resnet10t").state_dict()
    save_file(state, "w")
    save_file(state | {"conv1.0.weight": state["conv1.0.weight"] / 0}, "nan")
    Path("text").write_text("no weights")
    torch.save([1, 2], "list")
    torch.save(whole("timm/resnet10t"), "pickle")
    with pytest.raises((ArtefactError, ConfigurationError), match=words):
        initialise(architecture, "linear", 3, 0, **options)


def test_the_libraries_are_imported_only_where_they_are_asked_for() -> None:
    code = "import sys; from carryover.backbones import initialise; initialise('small', 'linear', 3, 0); "
    code += "print([name for name in ('torchvision', 'timm') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "[]\n"
