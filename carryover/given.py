"""Features that somebody's own network gave, in place of a backbone of ours: two safetensors files a task.

`<folder>/<task>/train.safetensors` is what may be learned from. Items are the task's own training items.

- `current` [n, d] and `labels` [n]: features under the network after the task, and classes
- `previous` [n, d]: features of the same items under the network before it; not in the first task
- `pairs_previous`, `pairs_current` [m, d]: further pairs for the adapters, of any items; optional
- `head_weight` [classes, d], `head_bias` [classes]: the network's own classifier over all classes seen; optional

`<folder>/<task>/test.safetensors` only measures. Everything is under the network after the task, of all classes seen so far.

- `test` [n, d], `test_labels` [n]: in every task the same items of a class, in the same order
- `validation` [n, d], `validation_labels` [n]: the same of items that may choose parameters; optional
- `old` [n, d], `old_labels` [n]: the training items of earlier tasks, for the bound `oracle`, which looks at them again; optional

Tasks are the folders task0, task1, ...; classes are numbered from 0 in order of arrival; d is the same throughout.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from carryover import artefacts
from carryover.artefacts import replacing
from carryover.classes import Entry, lineage, read_register, write_register
from carryover.errors import ArtefactError, DataError, unknown

KIND = "features"
INDEX = "index.json"
# Tensors by the file they are in, with their number of axes; those marked by an asterisk must be there.
TENSORS = {
    "train": {"current*": 2, "labels*": 1, "previous": 2, "pairs_previous": 2, "pairs_current": 2, "head_weight": 2, "head_bias": 1},
    "test": {"test*": 2, "test_labels*": 1, "validation": 2, "validation_labels": 1, "old": 2, "old_labels": 1},
}
# Tensors that come together, row by row.
TOGETHER = [("current", "labels"), ("current", "previous"), ("pairs_previous", "pairs_current"), ("head_weight", "head_bias")]
TOGETHER += [(part, f"{part}_labels") for part in ("test", "validation", "old")]


class Features:
    """The section `dataset` of the kind "features".

    Args:
        path: the folder, see `carryover.given`.
        oracle: whether test files have `old`; the oracle's column is left out where they have not.
    """

    def __init__(self, path: str, oracle: bool = False) -> None:
        self.path = path
        self.oracle = oracle


@dataclass(frozen=True)
class Task:
    """A task that was prepared: its name, the numbers of the classes it brings, and its training items."""

    name: str
    classes: list[int]
    items: int


def prepare(section: Features, register_path: str | os.PathLike[str], output_folder: str | os.PathLike[str]) -> str:
    """Check the files of all tasks, write them as artefacts to `output_folder` with an index, register their classes; return what was found.

    Raises:
        DataError: for the first file that is missing, damaged, or does not fit the others, and if the register is of another data set.
    """
    folder, output = Path(section.path), Path(output_folder)
    tasks: list[Task] = []
    d, seen = None, ""
    for name in (f"task{i}" for i in count()):
        if not (folder / name).is_dir():
            break
        known = sum(len(task.classes) for task in tasks)
        train, test = (_read(folder / name / f"{part}.safetensors", part) for part in TENSORS)
        classes = _check_train(folder / name, train, known, d)
        d = train["current"].shape[1]
        _check_test(folder / name, test, known + len(classes), known, d, section.oracle)
        seen_before, seen = seen, lineage(seen, [str(label) for label in classes])
        for part, tensors in (("train", train), ("test", test)):
            artefacts.write(output / name / f"{part}.safetensors", f"given-{part}", tensors, task=name, seen=seen, seen_before=seen_before)
        tasks.append(Task(name, classes, len(train["labels"])))
    if not tasks:
        raise DataError(f"{folder} has no folder task0 with the features of the first task.")
    entries = _extended(register_path, [Entry(label, i, str(label)) for i, task in enumerate(tasks) for label in task.classes], folder)
    with replacing(output / INDEX) as path:
        path.write_text(json.dumps({KIND: [vars(task) for task in tasks]}, indent=1) + "\n", encoding="utf-8")
    write_register(register_path, entries)
    items = sum(task.items for task in tasks)
    return f"{len(tasks)} tasks, {sum(len(task.classes) for task in tasks)} classes, {items:,} training items with features of {d} dimensions"


def tasks_of(folder: str | os.PathLike[str]) -> list[Task] | None:
    """Return the tasks that `prepare` wrote to a folder, or None where it holds images.

    Raises:
        ArtefactError: if the index cannot be read.
    """
    try:
        index = json.loads((Path(folder) / INDEX).read_text(encoding="utf-8"))
        return [Task(**task) for task in index[KIND]] if KIND in index else None
    except (OSError, ValueError, TypeError) as error:
        raise ArtefactError(f"Cannot read the index of the data set in {folder}: {error}.") from error


def _extended(register_path: str | os.PathLike[str], found: list[Entry], folder: Path) -> list[Entry]:
    """Return the classes found, or those registered if these are as many and more: labels never change."""
    known = read_register(register_path) if os.path.exists(register_path) else []
    for before, now in zip(known, found, strict=False):
        if before != now:
            raise DataError(
                f"{register_path} has the class {before.name!r} of generation {before.generation} where {folder} brings {now.name!r} with "
                f"task{now.generation}: it is of another data set; choose another dataset.name, or delete it to start over."
            )
    return max(found, known, key=len)


def _read(path: Path, part: str) -> dict[str, np.ndarray]:
    """Return the tensors of a user's file, features as float32 and labels as int64."""
    known = {name.rstrip("*"): axes for name, axes in TENSORS[part].items()}
    try:
        with safe_open(path, framework="numpy") as handle:
            names = list(handle.keys())
            for name in names:
                if name not in known:
                    raise DataError(f"{path}: {unknown('tensor', name, known)}")
            tensors = {name: handle.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError) as error:
        raise DataError(f"{path} is no readable safetensors file of numpy's types: {' '.join(str(error).split()).rstrip('.')}.") from error
    for name in (name.rstrip("*") for name in TENSORS[part] if name.endswith("*")):
        if name not in tensors:
            raise DataError(f"{path} has no tensor {name!r}, which is needed; it holds {', '.join(sorted(tensors)) or 'none'}.")
    for name, array in tensors.items():
        number = "iu" if name.endswith("labels") else "f"
        if array.ndim != known[name] or array.dtype.kind not in number:
            wanted = "whole numbers [n]" if number == "iu" else f"floating-point numbers {'[n, d]' if known[name] == 2 else '[n]'}"
            raise DataError(f"{path}: tensor {name!r} is {array.dtype} {list(array.shape)}; {wanted} are needed.")
        if number == "f" and not np.isfinite(array).all():
            row = int((~np.isfinite(array.reshape(len(array), -1))).any(axis=1).argmax())
            raise DataError(f"{path}: row {row}, counted from 0, of {name!r} has a value that is not finite.")
        tensors[name] = array.astype(np.int64 if number == "iu" else np.float32)
    for one, other in TOGETHER:
        if (one in tensors) != (other in tensors) and {one, other} & known.keys() == {one, other} and other != "previous":
            raise DataError(f"{path} has one of {one!r} and {other!r}: they belong together.")
        if one in tensors and other in tensors and len(tensors[one]) != len(tensors[other]):
            raise DataError(f"{path}: {one!r} has {len(tensors[one])} rows and {other!r} {len(tensors[other])}: row i of both is the same item.")
    return tensors


def _check_train(folder: Path, tensors: dict[str, np.ndarray], known: int, d: int | None) -> list[int]:
    """Return the classes that a task brings, checked to be the next ones after the `known`."""
    path = folder / "train.safetensors"
    classes: list[int] = np.unique(tensors["labels"]).tolist()
    if not classes or classes != list(range(known, known + len(classes))):
        shown = ", ".join(map(str, classes[:10])) or "none"
        raise DataError(f"{path} has the classes {shown}; a task's classes are numbered in order of arrival, here from {known} on.")
    if ("previous" in tensors) != (known > 0):
        fault = "has no tensor 'previous': from the second task on" if known else "has a tensor 'previous': but for the first task"
        raise DataError(f"{path} {fault}, the same items have features under the network before.")
    _check_width(path, tensors, tensors["current"].shape[1] if d is None else d)
    if "head_weight" in tensors and len(tensors["head_weight"]) != known + len(classes):
        raise DataError(f"{path}: 'head_weight' has {len(tensors['head_weight'])} rows; {known + len(classes)} classes were seen.")
    return classes


def _check_test(folder: Path, tensors: dict[str, np.ndarray], classes: int, known: int, d: int, oracle: bool) -> None:
    path = folder / "test.safetensors"
    _check_width(path, tensors, d)
    for part, seen in (("test", classes), ("validation", classes), ("old", known)):
        labels = tensors.get(f"{part}_labels", np.empty(0, dtype=np.int64))
        if len(labels) and not (labels.min() >= 0 and labels.max() < seen):
            raise DataError(f"{path}: {part}_labels run from {labels.min()} to {labels.max()}; classes 0 to {seen - 1} are expected.")
        missing = np.setdiff1d(np.arange(seen), labels)
        if len(missing) and (part == "test" or (part == "old" and oracle)):
            raise DataError(f"{path} has no row of class {missing[0]} in {part!r}: every class seen so far is measured.")


def _check_width(path: Path, tensors: dict[str, np.ndarray], d: int) -> None:
    for name, array in tensors.items():
        if array.ndim == 2 and array.shape[1] != d:
            raise DataError(f"{path}: {name!r} has {array.shape[1]} columns where other features have {d}: all networks need one dimension.")
