"""Write a data set as two artefacts a class, its training and its test images, and register its classes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from carryover.artefacts import replacing
from carryover.classes import Entry, canonical, read_register, register, write_register
from carryover.datasets._classes import ClassImages, Dataset
from carryover.errors import DataError
from carryover.images import ImageSet, Shape, read_images, write_images

KIND = "class-shard"
INDEX = "index.json"


@dataclass(frozen=True)
class Summary:
    """What was prepared: the numbers of `classes` (and of `new` ones among them) and of images, and the images' `shape`."""

    classes: int
    new: int
    train: int
    test: int
    shape: Shape

    def __str__(self) -> str:
        images = f"{self.train:,} training and {self.test:,} test images of {' x '.join(map(str, self.shape))}"
        return f"{self.classes:,} classes ({self.new:,} of them new), {images}"


def prepare_dataset(dataset: Dataset, register_path: str | os.PathLike[str], output_folder: str | os.PathLike[str]) -> Summary:
    """Write the shards of every class and `index.json` to `output_folder`, and the grown class register to `register_path`.

    The register changes only after every image was read. Shards that lie in the folder from an earlier run are removed.

    Raises:
        DataError: if the data set or the register is at fault, or the images differ in shape.
    """
    folder = Path(output_folder)
    known = read_register(register_path) if Path(register_path).exists() else []
    loaded = dataset.load()
    entries = register(known, loaded.names, str(register_path))
    by_name = {entry.name: entry for entry in entries}
    counts: dict[Entry, tuple[int, int]] = {}
    written: set[Path] = set()
    shape: Shape | None = None
    for images in loaded.classes:
        shape = _common_shape(images, shape)
        entry = by_name[canonical(images.name, "The data set")]
        written |= _write_class(folder, entry, images)
        counts[entry] = (len(images.train), len(images.test))
    assert shape is not None, "register refuses a data set without classes"
    _write_index(folder, shape, counts)
    for stale in set(folder.glob("[0-9]*-t*.safetensors")) - written:
        stale.unlink()
    write_register(register_path, entries)
    train, test = (sum(column) for column in zip(*counts.values(), strict=True))
    return Summary(len(counts), len(entries) - len(known), train, test, shape)


def read_class(folder: str | os.PathLike[str], label: int) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test images of the class with the given `label`.

    Raises:
        DataError: if the class had no images when the data set was prepared.
        ArtefactError: if a shard is damaged or belongs to another class.
    """
    train, test = _shard(folder, label, "train"), _shard(folder, label, "test")
    if not train.exists() and not test.exists():
        raise DataError(f"The class with label {label} has no images in {folder}: the data set no longer had it when it was prepared.")
    return read_images(train, KIND, label=label, part="train")[0], read_images(test, KIND, label=label, part="test")[0]


def _shard(folder: str | os.PathLike[str], label: int, part: str) -> Path:
    return Path(folder) / f"{label:05d}-{part}.safetensors"


def _write_class(folder: Path, entry: Entry, images: ClassImages) -> set[Path]:
    paths = set()
    for part, part_images in (("train", images.train), ("test", images.test)):
        path = _shard(folder, entry.label, part)
        write_images(path, part_images.relabelled(entry.label), KIND, name=entry.name, label=entry.label, part=part)
        paths.add(path)
    return paths


def _common_shape(images: ClassImages, earlier: Shape | None) -> Shape:
    for part in (images.train, images.test):
        if part.shape != (earlier or part.shape):
            raise DataError(f"Class {images.name!r} has images of shape {part.shape}, earlier ones have {earlier}: all need one shape.")
        earlier = part.shape
    assert earlier is not None
    return earlier


def _write_index(folder: Path, shape: Shape, counts: dict[Entry, tuple[int, int]]) -> None:
    rows = [
        {"label": entry.label, "name": entry.name, "generation": entry.generation, "train": train, "test": test}
        for entry, (train, test) in sorted(counts.items(), key=lambda item: item[0].label)
    ]
    text = json.dumps({"shape": list(shape), "classes": rows}, ensure_ascii=False, indent=1)
    with replacing(folder / INDEX) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
