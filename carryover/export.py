"""Export: a bundle as an ONNX model, from bytes of pixels to probabilities, for runtimes that know nothing of this project."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carryover import classifiers
from carryover.artefacts import replacing
from carryover.augment import normalise
from carryover.bundle import Bundle
from carryover.errors import ArtefactError
from carryover.inference import folded


class Model(nn.Module):
    """A bundle as one module: images, uint8 [n, h, w, c] -> probabilities, float32 [n, classes]."""

    # Of the three kinds of classifiers; each has some of these buffers.
    weight: Tensor
    bias: Tensor
    centre: Tensor
    spread: Tensor
    scale: Tensor
    centres: Tensor
    whitening: Tensor
    determinants: Tensor

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.network = folded(bundle.network).cpu()
        self.kind = type(bundle.classifier)
        for name in self.kind.shapes:
            self.register_buffer(name, torch.from_numpy(np.asarray(getattr(bundle.classifier, name), dtype=np.float32)))

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.features(normalise(images))
        scores = {classifiers.Linear: self._linear, classifiers.Cosine: self._cosine, classifiers.Gaussian: self._gaussian}[self.kind]
        return F.softmax(scores(features), dim=1)

    def _linear(self, features: Tensor) -> Tensor:
        return F.linear((features - self.centre) / self.spread, self.weight, self.bias)

    def _cosine(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(features, dim=1), self.weight)

    def _gaussian(self, features: Tensor) -> Tensor:
        white = torch.einsum("ncd,ced->nce", features[:, None] - self.centres, self.whitening)
        return -white.square().sum(dim=2) / 2 - self.determinants


def export_onnx(bundle: Bundle, path: str | os.PathLike[str]) -> None:
    """Write a bundle as an ONNX model.

    Its input `images` is uint8 [n, h, w, c], n free; its output `probabilities` is float32 [n, classes]. The metadata has the names of the
    classes, in that order, and the bundle's origin, each as JSON.

    Raises:
        ArtefactError: if the disk refuses, or the model is too large for one ONNX file (2 GB).
    """
    example = torch.zeros((2, *bundle.shape), dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            Model(bundle).eval(),
            (example,),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None, "without a path, a program is returned"
    program.model.metadata_props.update(classes=json.dumps(bundle.classes, ensure_ascii=False), origin=json.dumps(bundle.origin))
    try:
        with replacing(path) as temporary, _quiet():
            program.save(temporary, external_data=False)
    except (OSError, ValueError) as error:
        raise ArtefactError(f"Cannot write {path}: {' '.join(str(error).split())}.") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch and its exporter say about their own progress from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
