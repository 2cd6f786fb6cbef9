"""samples: draw what stands for old classes after a task: images that a regime keeps or generates, or features that an adapter's memory makes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from carryover import artefacts, registry, rehearsal, report
from carryover.artefacts import replacing
from carryover.errors import ArtefactError, ConfigurationError, DataError, unknown
from carryover.images import ImageSet, encode_png
from carryover.memory import Memory
from stages import layout, picture
from stages.command import guard, ids, parameters
from stages.writing import writing

CLASSES = 10
COLUMNS = 12
SIDE = 64
GAP = 2
BACKGROUND = 128


def main() -> None:
    """Draw the picture and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m stages.samples", description=__doc__)
    parser.add_argument("regime", help="a regime of params.yaml; without --adapter, one that keeps or generates images")
    parser.add_argument("--adapter", help="an adapter of params.yaml: draw the features that its memory stands for")
    parser.add_argument("--task", help="the task after which they are kept (default: the last one)")
    parser.add_argument("--out", type=Path, metavar="PNG", help="the picture (default: metrics/samples-REGIME.png, or samples-REGIME-ADAPTER.png)")
    options = parser.parse_args()
    tasks = ids(parameters("tasks"), "tasks")
    task = tasks[-1] if options.task is None else options.task
    if task not in tasks:
        raise ArtefactError(unknown("task", task, tasks))
    path = layout.samples(options.regime, options.adapter) if options.out is None else options.out
    if options.adapter is None:
        draw_samples(options.regime, task, path)
    else:
        draw_features(options.regime, options.adapter, task, path)
    print(path)


def draw_samples(regime: str, task: str, path: Path) -> None:
    """Draw what a regime trains on again after a task, as a grid.

    Raises:
        ArtefactError: if it keeps no images, or the picture cannot be written.
        ConfigurationError: if params.yaml has no such regime.
    """
    sections = parameters("regimes")
    if regime not in sections:
        raise ConfigurationError(unknown("regime", regime, sections))
    method = registry.build("regimes", regime, sections[regime])
    images = rehearsal.read(layout.exemplars(regime, task), method.store, regime=regime, task=task)
    if not len(images):
        raise ArtefactError(f"The regime {regime!r} keeps no images: there is nothing to draw.")
    with writing(path):
        draw_grid(images, path)


def draw_features(regime: str, adapter: str, task: str, path: Path) -> None:
    """Draw the features that a memory stands for after a task beside those of test images, in the plane.

    Raises:
        ArtefactError: if the memory or the test features are not there, or the picture cannot be written.
        ConfigurationError: if params.yaml has no such regime or adapter.
    """
    for kind, name, known in (("regime", regime, parameters("regimes")), ("adapter", adapter, parameters("adapters"))):
        if name not in known:
            raise ConfigurationError(unknown(kind, name, known))
    memory = Memory.read(layout.memory(regime, adapter, task), regime=regime, adapter=adapter, task=task)
    observed = artefacts.read(layout.observations(regime, task), "observations", regime=regime, task=task)
    artefacts.check_same(layout.memory(regime, adapter, task), "features", memory.features.shape[1], observed["test_features"].shape[1])
    table = report.drawn((memory.features, memory.labels), (observed["test_features"], observed["test_labels"]))
    with writing(path):
        picture.drawn(table, f"{regime} x {adapter}").draw(path)


def draw_grid(images: ImageSet, path: str | os.PathLike[str]) -> None:
    """Write a PNG file with a row for each of at most ten classes, evenly chosen, and at most the first twelve images of each.

    Images are enlarged by a whole number, each pixel to a square, to about 64 pixels; larger ones stay as they are. Classes are in the
    order of their labels.

    Raises:
        DataError: if there is no image.
    """
    if not len(images):
        raise DataError("There are no images to draw.")
    labels = np.asarray(images.labels)
    present = np.unique(labels)
    chosen = present[np.linspace(0, len(present) - 1, min(CLASSES, len(present))).round().astype(int)]
    rows = [np.flatnonzero(labels == label)[:COLUMNS] for label in chosen]
    height, width, channels = images.shape
    factor = max(SIDE // max(height, width), 1)
    down, across = height * factor + GAP, width * factor + GAP
    columns = max(map(len, rows))
    canvas = np.full((len(rows) * down - GAP, columns * across - GAP, channels), BACKGROUND, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(images.gather(row)):
            enlarged = image.repeat(factor, axis=0).repeat(factor, axis=1)
            canvas[i * down : i * down + height * factor, j * across : j * across + width * factor] = enlarged
    with replacing(path) as temporary:
        temporary.write_bytes(encode_png(canvas))


if __name__ == "__main__":
    guard(main)
