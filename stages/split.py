"""split: deal the classes out to tasks, and each class's images to training, validation and test."""

from __future__ import annotations

import json
import shutil

import numpy as np

from carryover import given, registry
from carryover.artefacts import replacing, sha256
from carryover.classes import Entry, read_register
from carryover.datasets import read_class
from carryover.errors import ConfigurationError
from carryover.images import ImageSet, concatenate, write_images
from carryover.protocol import Protocol
from stages import layout
from stages.command import ids, parameters, run

PARTS = ("train", "validation", "test")


def main() -> None:
    """Write the images of every task, and for every task the manifest of all that has been seen."""
    protocol = Protocol(**registry.checked(Protocol, parameters("protocol"), "protocol"))
    tasks = ids(parameters("tasks"), "tasks")
    if len(tasks) != len(protocol.sizes):
        raise ConfigurationError(
            f"params.yaml lists {len(tasks)} tasks for {len(protocol.sizes)} protocol.sizes: compose it again with `dvc exp run -S protocol=...`."
        )
    found = given.tasks_of(layout.DATASET)
    if found is not None:
        _copy(found, tasks, protocol.sizes)
        return
    register = read_register(layout.register(parameters("dataset", "name")))
    manifest = []
    label = 0
    for task, entries in zip(tasks, protocol.tasks(register), strict=True):
        parts = _task(entries, label, protocol)
        label += len(entries)
        names = [entry.name for entry in entries]
        for part, images in parts.items():
            write_images(layout.images(task, part), images, "task-images", task=task, part=part, classes=names)
        digests = {part: sha256(layout.images(task, part)) for part in PARTS}
        manifest.append({"task": task, "classes": names, "sha256": digests})
        with replacing(layout.seen(task)) as path:
            path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        counts = ", ".join(f"{len(images)} {part}" for part, images in parts.items())
        print(f"{task}: {len(names)} classes; {counts} images")


def _copy(found: list[given.Task], tasks: list[str], sizes: list[int]) -> None:
    """Write the files of features, which come dealt, to their tasks, and the manifests.

    Raises:
        ConfigurationError: if the protocol is another than that of the files.
    """
    dealt = [len(task.classes) for task in found]
    if sizes != dealt[: len(sizes)]:
        raise ConfigurationError(
            f"The features are of tasks of {dealt} classes and protocol.sizes is {sizes}: set it to those, or to the first of them."
        )
    manifest = []
    for name, task in zip(tasks, found, strict=False):
        for part in given.TENSORS:
            with replacing(layout.images(name, part)) as path:
                shutil.copyfile(layout.DATASET / task.name / f"{part}.safetensors", path)
        manifest.append({"task": name, "classes": [str(label) for label in task.classes]})
        with replacing(layout.seen(name)) as path:
            path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        print(f"{name}: {len(task.classes)} classes; {task.items} training items")


def _task(entries: list[Entry], first_label: int, protocol: Protocol) -> dict[str, ImageSet]:
    parts: dict[str, list[ImageSet]] = {part: [] for part in PARTS}
    for offset, entry in enumerate(entries):
        train, test = read_class(layout.DATASET, entry.label)
        held_out = protocol.held_out(len(train), entry.name)
        kept = np.setdiff1d(np.arange(len(train)), held_out)
        sets = {"train": train.subset(kept), "validation": train.subset(held_out), "test": test}
        for part, images in sets.items():
            parts[part].append(images.relabelled(first_label + offset))
    return {part: concatenate(sets) for part, sets in parts.items()}


if __name__ == "__main__":
    run(main)
