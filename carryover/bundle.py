"""A bundle: one file with all that prediction needs: a network, a classifier over its features, class names and preprocessing.

    from carryover.bundle import load
    bundle = load("data/bundle.safetensors")
    bundle.predict(["cat.jpg", "dog.jpg"])

A file from a stranger is safe to load: it holds numbers and names alone, every tensor's shape is checked before a network of that size
is made, and nothing in it is run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carryover import artefacts, backbones, classifiers
from carryover.augment import DEVIATION, MEAN
from carryover.datasets._files import open_files, read_file
from carryover.datasets._parallel import ordered_map
from carryover.datasets._pixels import BadImageError, convert
from carryover.errors import ArtefactError, DataError
from carryover.images import Shape, is_shape, processors
from carryover.inference import BATCH, folded, forward
from carryover.machine import Machine

KIND = "bundle"
# What pixels become before the network: (p / 255 - mean) / deviation.
_NORMALISATION = {"mean": MEAN, "deviation": DEVIATION}

__all__ = ["BadImageError", "Bundle", "Image", "find_images", "load"]

Image = str | os.PathLike[str] | bytes
"""An image file: its path, or its content."""


class Bundle:
    """What predicts.

    Args:
        network: a trained network.
        classifier: fitted on its features.
        classes: the names of the classes, in order of their labels.
        shape: height, width and channels of the images that the network was trained on.
        origin: what the bundle was made from: its method, its protocol and the digests of its artefacts.
        where: where to compute; by default the GPU where there is one, in float32.
    """

    def __init__(
        self,
        network: backbones.Network,
        classifier: classifiers.Classifier,
        classes: Sequence[str],
        shape: Shape,
        origin: dict[str, Any],
        where: Machine | None = None,
    ) -> None:
        self.network = network
        self.classifier = classifier
        self.classes = list(classes)
        self.shape = shape
        self.origin = origin
        self._where = where
        self._frozen: backbones.Network | None = None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the bundle as an artefact."""
        kind = next(name for name, cls in classifiers.KINDS.items() if isinstance(self.classifier, cls))
        tensors = {f"network/{name}": array for name, array in backbones.to_arrays(self.network).items()}
        tensors |= {f"classifier/{name}": getattr(self.classifier, name) for name in self.classifier.shapes}
        network = backbones.describe(self.network)
        images = {"shape": list(self.shape), "normalisation": _NORMALISATION}
        artefacts.write(path, KIND, tensors, classes=self.classes, network=network, classifier=kind, images=images, origin=self.origin)

    def predict(self, images: np.ndarray | Sequence[Image]) -> list[str]:
        """Return the likeliest class of each image; see `predict_proba`."""
        return [self.classes[label] for label in self.predict_proba(images).argmax(axis=1)]

    def predict_proba(self, images: np.ndarray | Sequence[Image]) -> np.ndarray:
        """Return the probability of each class, float32 [n, classes]; see `carryover.classifiers.probabilities`.

        Args:
            images: n image files, as paths or as bytes, of any size: their centre squares are resized as the pipeline does it. Or
                pixels that already have this bundle's `shape`, uint8 [n, h, w, c].

        Raises:
            DataError: if one is no image, or the pixels have another shape or type.
        """
        if isinstance(images, np.ndarray):
            if images.dtype != np.uint8 or images.shape[1:] != self.shape:
                raise DataError(f"The bundle takes images as uint8 [n, {', '.join(map(str, self.shape))}]; these are {images.dtype} {images.shape}.")
            rows = [self._of_pixels(images[start : start + BATCH].copy()) for start in range(0, len(images), BATCH)]
        else:
            rows = []
            for image, row in self.stream(images):
                if isinstance(row, BadImageError):
                    raise DataError(f"{'An image given as bytes' if isinstance(image, bytes) else image} {row}.")
                rows.append(row[None])
        return np.concatenate(rows) if rows else np.empty((0, len(self.classes)), dtype=np.float32)

    def stream(self, images: Iterable[Image]) -> Iterator[tuple[Image, np.ndarray | BadImageError]]:
        """Yield each image with its probabilities [classes], or with what is wrong with it; memory holds a batch at a time."""
        decoded = ordered_map(self._decoded, images)
        while batch := list(islice(decoded, BATCH)):
            good = [pixels for _, pixels in batch if isinstance(pixels, np.ndarray)]
            rows = iter(self._of_pixels(np.stack(good)) if good else [])
            for image, pixels in batch:
                yield image, next(rows) if isinstance(pixels, np.ndarray) else pixels

    def _decoded(self, image: Image) -> tuple[Image, np.ndarray | BadImageError]:
        height, width, channels = self.shape
        if height != width:
            raise DataError(f"The bundle takes images of {height} x {width} pixels, and files are read as squares: pass it arrays.")
        try:
            content = image if isinstance(image, bytes) else read_file(os.fspath(image))
            return image, np.frombuffer(convert(content, height, channels, encoded=False), dtype=np.uint8).reshape(self.shape)
        except BadImageError as bad:
            return image, bad
        except OSError as error:
            return image, BadImageError(f"cannot be read ({error.strerror})")

    def _of_pixels(self, pixels: np.ndarray) -> np.ndarray:
        if self._frozen is None or self._where is None:
            self._where = self._where or Machine(precision="float32", threads=processors())
            self._frozen = folded(self.network).to(self._where.device).to(memory_format=torch.channels_last)
        return classifiers.probabilities(self.classifier(forward(self._frozen, pixels, self._where)))


def load(path: str | os.PathLike[str], where: Machine | None = None) -> Bundle:
    """Read a bundle.

    Args:
        path: of the file.
        where: where it is to compute.

    Raises:
        ArtefactError: if the file is no bundle, is damaged, or says what its tensors do not bear out.
    """
    artefact = artefacts.read(path, KIND)
    fields = artefact.fields
    try:
        classes, description, images, kind = fields["classes"], fields["network"], fields["images"], fields["classifier"]
        shape = images["shape"]
        if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes) and len(set(classes)) == len(classes)):
            raise ArtefactError(f"{path} does not name its classes.")
        if not (is_shape(shape) and shape[2] == description["channels"]):
            raise ArtefactError(f"{path} says its images have the shape {shape}: height, width and the network's channels (1 or 3) are needed.")
        if images["normalisation"] != _NORMALISATION:
            raise ArtefactError(f"{path} normalises pixels by {images['normalisation']}; this release by {_NORMALISATION}.")
        arrays = _part(artefact, "network")
        # Before a head of so many rows is made.
        if not description["classes"] == len(arrays["head.weight"]) == len(classes):
            raise ArtefactError(f"{path} names {len(classes)} classes for a head of {len(arrays['head.weight'])}.")
        network = backbones.from_arrays(description, arrays, str(path), bounded=True)
        if kind not in classifiers.KINDS:
            raise ArtefactError(f"{path} has the classifier {kind!r}; accepted are {', '.join(classifiers.KINDS)}.")
        classifier = _classifier(classifiers.KINDS[kind], _part(artefact, "classifier"), len(classes), network.backbone.features, path)
        return Bundle(network.eval(), classifier, classes, tuple(shape), fields["origin"], where)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} has a header that no bundle has: {type(error).__name__} {error}.") from error


def find_images(paths: Iterable[str]) -> list[str]:
    """Return the paths of files as they stand, and of all files in folders, but hidden ones.

    Raises:
        DataError: if there is neither a file nor a folder of one of the names.
    """
    found: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            files = open_files(path)
            assert files is not None, "a folder is no archive"
            found += [str(Path(path) / file) for file in files.paths]
        elif os.path.isfile(path):
            found.append(path)
        else:
            raise DataError(f"There is no image or folder {path}.")
    return found


def _part(artefact: artefacts.Artefact, name: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{name}/"): array for key, array in artefact.tensors.items() if key.startswith(f"{name}/")}


def _classifier(
    cls: type[Any], arrays: dict[str, np.ndarray], classes: int, d: int, path: str | os.PathLike[str]
) -> classifiers.Linear | classifiers.Cosine | classifiers.Gaussian:
    sizes = {"classes": classes, "d": d}
    wanted = {name: tuple(sizes[dimension] for dimension in shape) for name, shape in cls.shapes.items()}
    found = {name: array.shape for name, array in arrays.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name) or arrays[name].dtype.kind != "f":
            raise ArtefactError(
                f"{path} has the classifier tensor {name!r} as {found.get(name, 'nothing')} where numbers of the shape "
                f"{wanted.get(name, 'nothing')} are needed."
            )
    fitted: classifiers.Linear | classifiers.Cosine | classifiers.Gaussian = cls(**arrays)
    return fitted
