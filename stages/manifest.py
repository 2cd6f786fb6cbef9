"""The manifest of a task: every image seen so far, for the stages that measure and for them alone."""

from __future__ import annotations

import functools
import json
from typing import Any

from carryover import artefacts
from carryover.classes import lineage
from carryover.errors import ArtefactError
from carryover.images import ImageSet, concatenate, read_images
from stages import layout


def read(task: str) -> list[dict[str, Any]]:
    """Return the entries of all tasks up to this one."""
    try:
        entries: list[dict[str, Any]] = json.loads(layout.seen(task).read_text(encoding="utf-8"))
        return entries
    except (OSError, ValueError) as error:
        raise ArtefactError(f"Cannot read the manifest {layout.seen(task)}: {error}.") from error


def images(task: str, part: str) -> ImageSet:
    """Return all images of a `part` ("train", "validation" or "test") seen up to a task.

    The manifest is the stage's dependency and holds a digest of each file, so the files are checked against it.

    Raises:
        ArtefactError: if a file is missing or is not the one the manifest means.
    """
    sets = []
    for entry in read(task):
        path = layout.images(entry["task"], part)
        try:
            digest = artefacts.sha256(path)
        except OSError as error:
            raise ArtefactError(f"{path} is needed to measure {task} and cannot be read: {error.strerror}.") from error
        if digest != entry["sha256"][part]:
            raise ArtefactError(f"{path} is not the file that {layout.seen(task)} names: run `dvc repro split` again.")
        sets.append(read_images(path, "task-images", task=entry["task"], part=part)[0])
    return concatenate(sets)


def seen(task: str) -> str:
    """Return the lineage of all classes up to this task."""
    return functools.reduce(lineage, (entry["classes"] for entry in read(task)), "")


def sizes(task: str) -> list[int]:
    """Return how many classes each task up to this one brought."""
    return [len(entry["classes"]) for entry in read(task)]


def classes(task: str) -> list[str]:
    """Return the names of all classes up to this task, by label."""
    return [name for entry in read(task) for name in entry["classes"]]
