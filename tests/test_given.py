"""Files of given features: what fits is taken, and what does not is named by file, tensor and row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from carryover import artefacts, given
from carryover.classes import Entry, read_register, write_register
from carryover.errors import DataError

Tensors = dict[str, np.ndarray]
D = 4


def rows(n: int, d: int = D) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, d)).astype(np.float32)


def good() -> dict[str, Tensors]:
    """Two tasks of 2 + 1 classes, all that can be given."""
    second = {
        "current": rows(5),
        "previous": rows(6)[:5],
        "labels": np.full(5, 2),
        "head_weight": rows(3),
        "head_bias": np.zeros(3, dtype=np.float32),
    }
    return {
        "task0/train": {"current": rows(8).astype(np.float16), "labels": np.repeat([1, 0], 4).astype(np.int32)},
        "task0/test": {"test": rows(4), "test_labels": np.array([0, 0, 1, 1])},
        "task1/train": second | {"pairs_previous": rows(7), "pairs_current": rows(7)},
        "task1/test": {"test": rows(3), "test_labels": np.arange(3), "validation": rows(2), "validation_labels": np.array([2, 0])}
        | {"old": rows(8), "old_labels": np.repeat([0, 1], 4)},
    }


def write(folder: Path, files: dict[str, Tensors]) -> Path:
    for name, tensors in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / f"{name}.safetensors")
    return folder


def prepare(tmp_path: Path, files: dict[str, Tensors], oracle: bool = True) -> str:
    folder = write(tmp_path / "mine", files)
    return given.prepare(given.Features(str(folder), oracle), tmp_path / "register.csv", tmp_path / "out")


def test_files_become_artefacts_an_index_and_a_register(tmp_path: Path) -> None:
    assert prepare(tmp_path, good()) == "2 tasks, 3 classes, 13 training items with features of 4 dimensions"
    assert given.tasks_of(tmp_path / "out") == [given.Task("task0", [0, 1], 8), given.Task("task1", [2], 5)]
    train = artefacts.read(tmp_path / "out/task0/train.safetensors", "given-train", task="task0")
    assert train["current"].dtype == np.float32 and train["labels"].dtype == np.int64
    assert np.array_equal(train["current"], rows(8).astype(np.float16).astype(np.float32))
    test = artefacts.read(tmp_path / "out/task1/test.safetensors", "given-test", task="task1")
    assert set(test.tensors) == set(good()["task1/test"])
    assert [(entry.label, entry.generation, entry.name) for entry in read_register(tmp_path / "register.csv")] == [
        (0, 0, "0"),
        (1, 0, "1"),
        (2, 1, "2"),
    ]


def test_what_is_optional_may_be_missing(tmp_path: Path) -> None:
    files = good()
    for name in ("head_weight", "head_bias", "pairs_previous", "pairs_current"):
        del files["task1/train"][name]
    for name in ("validation", "validation_labels", "old", "old_labels"):
        del files["task1/test"][name]
    assert prepare(tmp_path, files, oracle=False).startswith("2 tasks")


def _set(file: str, **tensors: np.ndarray) -> Callable[[dict[str, Tensors]], object]:
    return lambda files: files[file].update(tensors)


def _drop(file: str, *names: str) -> Callable[[dict[str, Tensors]], object]:
    return lambda files: [files[file].pop(name) for name in names]


FAULTS: dict[str, tuple[Callable[[dict[str, Tensors]], object], str]] = {
    "unknown tensor": (_set("task0/train", curent=rows(8)), "train.safetensors: Unknown tensor 'curent'; did you mean 'current' or"),
    "no features": (_drop("task0/train", "current"), "task0/train.safetensors has no tensor 'current', which is needed; it holds labels."),
    "no previous": (_drop("task1/train", "previous"), "task1/train.safetensors has no tensor 'previous': from the second task on"),
    "too early": (_set("task0/train", previous=rows(8)), "task0/train.safetensors has a tensor 'previous': but for the first task"),
    "rows": (_set("task1/train", previous=rows(4)), "train.safetensors: 'current' has 5 rows and 'previous' 4: row i of both is the same item."),
    "labels": (_set("task0/train", labels=np.arange(7)), "'current' has 8 rows and 'labels' 7"),
    "half a pair": (_drop("task1/train", "pairs_current"), "has one of 'pairs_previous' and 'pairs_current': they belong together."),
    "half a head": (_drop("task1/train", "head_bias"), "has one of 'head_weight' and 'head_bias'"),
    "unlabelled": (_drop("task1/test", "old_labels"), "has one of 'old' and 'old_labels'"),
    "floating labels": (_set("task0/train", labels=np.zeros(8, dtype=np.float32)), "'labels' is float32 [8]; whole numbers [n] are needed."),
    "a vector": (_set("task0/train", current=np.zeros(8, dtype=np.float32)), "'current' is float32 [8]; floating-point numbers [n, d] are needed."),
    "not finite": (
        _set("task1/test", test=np.vstack([rows(2), np.full((1, D), np.nan, np.float32)])),
        "row 2, counted from 0, of 'test' has a value",
    ),
    "another width": (_set("task1/train", current=rows(5, 3), previous=rows(5, 3)), "columns where other features have 4"),
    "test width": (_set("task0/test", test=rows(4, 3)), "'test' has 3 columns where other features have 4"),
    "gap": (_set("task1/train", labels=np.full(5, 3)), "has the classes 3; a task's classes are numbered in order of arrival, here from 2 on."),
    "seen before": (_set("task1/train", labels=np.full(5, 1)), "has the classes 1; a task's classes"),
    "head rows": (_set("task1/train", head_weight=rows(2), head_bias=np.zeros(2, np.float32)), "'head_weight' has 2 rows; 3 classes were seen."),
    "untested": (_set("task1/test", test_labels=np.array([0, 0, 2])), "has no row of class 1 in 'test': every class seen so far is measured."),
    "unseen": (_set("task0/test", test_labels=np.array([0, 0, 1, 2])), "test_labels run from 0 to 2; classes 0 to 1 are expected."),
    "new among old": (_set("task1/test", old_labels=np.full(8, 2)), "old_labels run from 2 to 2; classes 0 to 1 are expected."),
    "no old": (_drop("task1/test", "old", "old_labels"), "has no row of class 0 in 'old'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_registered(fault: str, tmp_path: Path) -> None:
    damage, words = FAULTS[fault]
    files = good()
    damage(files)
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, files)
    assert words in str(caught.value) and str(tmp_path / "mine") in str(caught.value)
    assert not (tmp_path / "register.csv").exists() and not (tmp_path / "out/index.json").exists()


def test_the_register_of_another_data_set_is_refused_and_left_alone(tmp_path: Path) -> None:
    write_register(tmp_path / "register.csv", [Entry(i, 0, str(i)) for i in range(3)])
    before = (tmp_path / "register.csv").read_bytes()
    with pytest.raises(DataError, match=r"has the class '2' of generation 0 where .*mine brings '2' with task1: it is of another data set"):
        prepare(tmp_path, good())
    assert (tmp_path / "register.csv").read_bytes() == before


def test_the_register_keeps_the_classes_of_a_task_that_is_gone(tmp_path: Path) -> None:
    prepare(tmp_path, good())
    for part in ("train", "test"):
        (tmp_path / f"mine/task1/{part}.safetensors").unlink()
    (tmp_path / "mine/task1").rmdir()
    assert given.prepare(given.Features(str(tmp_path / "mine")), tmp_path / "register.csv", tmp_path / "out").startswith("1 tasks")
    assert [entry.name for entry in read_register(tmp_path / "register.csv")] == ["0", "1", "2"]


def test_missing_folders_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder task0 with the features of the first task"):
        prepare(tmp_path, {})
    folder = write(tmp_path / "mine", good())
    (folder / "task1/test.safetensors").unlink()
    with pytest.raises(DataError, match=r"task1/test\.safetensors is no readable safetensors file"):
        given.prepare(given.Features(str(folder)), tmp_path / "register.csv", tmp_path / "out")
    (folder / "task1/test.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match=r"task1/test\.safetensors is no readable safetensors file"):
        given.prepare(given.Features(str(folder)), tmp_path / "register.csv", tmp_path / "out")


def test_an_index_of_images_holds_no_tasks(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"shape": [8, 8, 1], "classes": []}')
    assert given.tasks_of(tmp_path) is None
