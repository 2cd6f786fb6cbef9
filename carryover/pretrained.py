"""Backbones from torchvision and timm, by name, with weights from a local file: nothing is downloaded.

The libraries take seconds to import, and are imported only where a network of theirs is asked for.
"""

from __future__ import annotations

import difflib
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from carryover.augment import DEVIATION, MEAN
from carryover.errors import ArtefactError, ConfigurationError, unknown

# Statistics of ImageNet's training images, as both libraries' own weights expect them.
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What they return or how they end differs from all others.
_UNFIT = {"googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1"}
# Where checkpoints of training scripts keep the weights.
_WRAPPERS = ("state_dict", "model", "model_state_dict")


class Pretrained(nn.Module):
    """A network of another library without its classifier; normalised images [b, c, h, w] -> features as maps [b, d, 1, 1].

    Args:
        architecture: "torchvision/<name>" or "timm/<name>".
        mean: of each channel of the images that the weights were trained on, in units of the range of pixel values.
        deviation: of each channel, in the same units.

    Raises:
        ConfigurationError: if there is no such architecture, or mean and deviation are not three numbers each.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, architecture: str, mean: Sequence[float] = IMAGENET_MEAN, deviation: Sequence[float] = IMAGENET_DEVIATION) -> None:
        super().__init__()
        library, _, name = architecture.partition("/")
        if library not in _LIBRARIES:
            raise ConfigurationError(unknown("library in backbone.architecture", library, _LIBRARIES))
        if len(mean) != 3 or len(deviation) != 3 or min(deviation) <= 0:
            raise ConfigurationError(f"Parameters backbone.mean and backbone.deviation are {mean} and {deviation}: three numbers each are needed.")
        self.architecture = architecture
        self.body, self.features, self.classifier = _LIBRARIES[library](name)
        # From this project's scaling of pixels to the one that the weights expect.
        means, deviations = (torch.tensor(list(numbers), dtype=torch.float32)[:, None, None] for numbers in (mean, deviation))
        self.register_buffer("scale", DEVIATION / deviations, persistent=False)
        self.register_buffer("shift", (MEAN - means) / deviations, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # One number for each channel: grey images become three equal ones.
        features: Tensor = self.body(x * self.scale + self.shift)
        return features[:, :, None, None]

    def check(self, shape: tuple[int, int, int]) -> None:
        """Refuse images of a shape (channels, height, width) that the architecture does not take.

        Raises:
            ConfigurationError: if it fails on one, or gives something else than one vector of features.
        """
        training = self.training
        try:
            with torch.inference_mode():
                found = tuple(self.eval()(torch.zeros(1, *shape)).shape)
        except (AssertionError, RuntimeError, ValueError, IndexError) as error:
            found = ()
            reason = " ".join(str(error).split()).rstrip(".")
        finally:
            self.train(training)
        if not found:
            raise ConfigurationError(f"{self.architecture} takes no images of {shape[1]} x {shape[2]} pixels ({reason}): set dataset.size.")
        if found != (1, self.features, 1, 1):
            raise ConfigurationError(f"{self.architecture} gives features of the shape {found[1:-2]}: a vector of {self.features} was expected.")

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take weights from a safetensors file, or a file that torch wrote of a state dict; those of the library's classifier are left out.

        Raises:
            ArtefactError: if the file cannot be read, or does not hold this architecture's weights; the first wrong one is named.
        """
        found = {name: tensor for name, tensor in _read(path).items() if not name.startswith(tuple(f"{part}." for part in self.classifier))}
        wanted = self.body.state_dict()
        wrong = sorted(
            name
            for name in wanted.keys() | found.keys()
            if name not in wanted or (name not in found and not name.endswith("num_batches_tracked")) or not _fits(found.get(name), wanted[name])
        )
        if wrong:
            name = wrong[0]
            shapes = [str(tuple(tensors[name].shape)) if name in tensors else "nothing" for tensors in (found, wanted)]
            raise ArtefactError(
                f"{path} does not hold the weights of this architecture: {len(wrong)} tensors differ, the first is {name!r} "
                f"({shapes[0]} where {shapes[1]} is needed)."
            )
        self.body.load_state_dict(found, strict=False)


def _fits(found: Tensor | None, wanted: Tensor) -> bool:
    return found is None or (found.shape == wanted.shape and bool(torch.isfinite(found).all()))


def _torchvision(name: str) -> tuple[nn.Module, int, tuple[str, ...]]:
    from torchvision import models

    names = [known for known in models.list_models(module=models) if known not in _UNFIT]
    _check(f"torchvision/{name}", name, names)
    body = models.get_model(name, weights=None)
    place, last = [(place, module) for place, module in body.named_modules() if isinstance(module, nn.Linear)][-1]
    body.set_submodule(place, nn.Identity())
    return body, last.in_features, (place,)


def _timm(name: str) -> tuple[nn.Module, int, tuple[str, ...]]:
    import timm

    # An exact name: others could make timm fetch code or weights from elsewhere.
    _check(f"timm/{name}", name, timm.list_models())
    body: Any = timm.create_model(name, pretrained=False, num_classes=0)
    places = (body.pretrained_cfg or {}).get("classifier") or ()
    return body, getattr(body, "head_hidden_size", None) or body.num_features, (places,) if isinstance(places, str) else tuple(places)


_LIBRARIES: dict[str, Callable[[str], tuple[nn.Module, int, tuple[str, ...]]]] = {"torchvision": _torchvision, "timm": _timm}


def _check(architecture: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else "."
        raise ConfigurationError(f"Unknown backbone.architecture {architecture!r}{hint} There are {len(names)} others of that library.")


def _read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without running anything that is in it."""
    from safetensors.torch import load_file

    try:
        content: Any = load_file(path)
    except FileNotFoundError as error:
        raise ArtefactError(f"There is no file {path}: backbone.weights names one with weights.") from error
    except (SafetensorError, OSError):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
            raise ArtefactError(f"{path} is neither a safetensors file nor a state dict that torch can read as weights only.") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()):
        raise ArtefactError(f"{path} holds no state dict: tensors by name are needed.")
    # Networks that were trained on several devices have a prefix to every name.
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}
