"""The memory: what is kept, in which order, and that its reported size is that of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover import artefacts
from carryover.errors import ArtefactError, ConfigurationError
from carryover.memory import KIND, Budget, Memory, full_size

STORAGES = ["float32", "float16", "int8", "pq8"]
COUNTS = st.lists(st.integers(0, 12), min_size=0, max_size=12)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)


def memory_of(counts: list[int], d: int = 3, storage: str = "float32", seed: int = 0) -> Memory:
    rows = np.random.default_rng(seed).normal(size=(sum(counts), d))
    return Memory.empty(d, storage).extended(rows, np.array(counts, dtype=np.int32))


def by_class(memory: Memory) -> list[np.ndarray]:
    return [memory.features[memory.labels == label] for label in range(len(memory.counts))]


@given(COUNTS)
def test_labels_repeat_each_class_by_its_count(counts: list[int]) -> None:
    assert memory_of(counts).labels.tolist() == [label for label, count in enumerate(counts) for _ in range(count)]


@given(COUNTS, st.one_of(st.none(), st.integers(0, 15)))
def test_a_prefix_keeps_the_first_rows_of_each_class_and_all_of_smaller_ones(counts: list[int], rows: int | None) -> None:
    memory = memory_of(counts)
    kept = memory.prefix(rows)
    assert kept.counts.tolist() == [count if rows is None else min(count, rows) for count in counts]
    assert kept.counts.dtype == np.int32 and len(kept.features) == kept.counts.sum()
    for before, after in zip(by_class(memory), by_class(kept), strict=True):
        assert np.array_equal(before[:rows], after)


@given(COUNTS, st.integers(0, 15), st.integers(0, 15))
def test_a_prefix_of_a_prefix_is_the_smaller_prefix(counts: list[int], first: int, second: int) -> None:
    memory = memory_of(counts)
    assert np.array_equal(memory.prefix(first).prefix(second).features, memory.prefix(min(first, second)).features)


@given(COUNTS, COUNTS)
def test_extended_puts_new_classes_behind_the_old_ones(old: list[int], new: list[int]) -> None:
    memory = memory_of(old)
    rows = np.random.default_rng(1).normal(size=(sum(new), 3))
    grown = memory.extended(rows, np.array(new, dtype=np.int32))
    assert grown.counts.tolist() == old + new
    assert np.array_equal(grown.features[: sum(old)], memory.features)
    assert np.array_equal(grown.features[sum(old) :], rows.astype(np.float32))


def test_carried_keeps_counts_and_storage() -> None:
    memory = memory_of([2, 3], storage="float16")
    carried = memory.carried(memory.features.astype(np.float64) + 1)
    assert carried.storage == "float16" and carried.counts is memory.counts
    assert carried.features.dtype == np.float32
    assert np.array_equal(carried.features, (memory.features.astype(np.float64) + 1).astype(np.float32))


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(0, 400), max_size=120),
    d=st.integers(1, 40),
    # Learning centroids for so many is slow; `test_storage` has the sizes of product quantisation.
    storage=st.sampled_from(["float32", "float16", "int8"]),
    fields=st.dictionaries(st.sampled_from(["regime", "adapter", "task"]), TEXTS),
)
def test_size_equals_the_file_on_disk_exactly(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], d: int, storage: str, fields: dict[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "memory.safetensors"
    kept = np.array(counts, dtype=np.int32)
    memory = Memory.empty(d, storage).extended(np.zeros((int(kept.sum()), d), dtype=np.float32), kept)
    memory.write(path, **fields)
    assert memory.size(**fields) == path.stat().st_size
    if counts and len(set(counts)) == 1:
        assert full_size(len(counts), d, counts[0], storage, fields) == path.stat().st_size


@settings(deadline=None, max_examples=40)
@given(classes=st.integers(1, 120), d=st.integers(1, 100), limit=st.integers(500, 200_000), storage=st.sampled_from(STORAGES))
def test_a_budget_of_bytes_is_never_exceeded_and_one_more_row_a_class_would(classes: int, d: int, limit: int, storage: Any) -> None:
    fields = {"regime": "distill", "adapter": "mlp", "task": "task3"}
    budget = Budget(bytes=limit, storage=storage)
    d *= 8 if storage == "pq8" else 1

    def size(rows: int) -> int:
        counts = np.full(classes, rows, dtype=np.int32)
        return Memory.empty(d, storage).extended(np.zeros((classes * rows, d), dtype=np.float32), counts).size(**fields)

    if size(1) > limit:
        with pytest.raises(ConfigurationError, match=rf"memory\.bytes is {limit}.*{classes} classes\.$"):
            budget.rows(classes, d, fields)
    else:
        rows = budget.rows(classes, d, fields)
        assert rows is not None and size(rows) <= limit < size(rows + 1)


@pytest.mark.parametrize(("storage", "a_vector"), [("float32", 256), ("int8", 64), ("pq8", 8)])
def test_a_budget_may_be_larger_than_any_memory(storage: Any, a_vector: int) -> None:
    rows = Budget(bytes=50_000_000_000, storage=storage).rows(1, 64, {})
    assert rows == pytest.approx(50_000_000_000 / a_vector, rel=1e-4)


def test_budgets_in_vectors() -> None:
    assert Budget().rows(7, 64, {}) is None
    assert Budget(per_class=20).rows(7, 64, {}) == 20
    assert Budget(total=2000).rows(7, 64, {}) == 2000 // 7
    assert Budget(total=2000).rows(0, 64, {}) is None and Budget(bytes=2000).rows(0, 64, {}) is None
    with pytest.raises(ConfigurationError, match=r"memory\.total is 6 vectors.*one vector for each of 7 classes"):
        Budget(total=6).rows(7, 64, {})


@pytest.mark.parametrize("limits", [{"per_class": 1, "total": 1}, {"total": 1, "bytes": 1}, {"per_class": 1, "bytes": 1}])
def test_two_limits_exclude_each_other(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="exclude each other"):
        Budget(**limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [{"per_class": 1}, {"total": 1}, {"bytes": 1}])
def test_the_selector_all_takes_no_limit(limits: dict[str, int]) -> None:
    assert Budget(selector="all").rows(3, 2, {}) is None
    with pytest.raises(ConfigurationError, match=r"memory\.selector"):
        Budget(selector="all", **limits)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99), st.sampled_from(["float32", "float16"]))
def test_a_memory_reads_back_as_written(tmp_path_factory: pytest.TempPathFactory, counts: list[int], seed: int, storage: str) -> None:
    path = tmp_path_factory.getbasetemp() / "again.safetensors"
    memory = memory_of(counts, storage=storage, seed=seed)
    memory.write(path, task="task0")
    again = Memory.read(path, task="task0")
    assert again.storage == storage and artefacts.read(path, KIND)["features"].dtype == storage
    assert again.features.dtype == np.float32 and np.array_equal(again.features, memory.features.astype(storage).astype(np.float32))
    assert again.counts.dtype == np.int32 and np.array_equal(again.counts, memory.counts)


F32, I32 = np.float32, np.int32


@pytest.mark.parametrize(
    "tensors",
    [
        {"features": np.zeros((3, 2), F32), "counts": np.array([1, 1], I32)},
        {"features": np.zeros((3, 2), F32), "counts": np.array([4, -1], I32)},
        {"features": np.zeros(3, F32), "counts": np.array([3], I32)},
        {"features": np.zeros((3, 2), F32), "counts": np.array([[3]], I32)},
        {"features": np.zeros((3, 2), F32), "counts": np.array([3.0], F32)},
        {"features": np.zeros((3, 2), np.int64), "counts": np.array([3], I32)},
        {"codes": np.zeros((3, 2), np.uint8), "counts": np.array([3], I32)},
        {"features": np.zeros((3, 2), F32)},
        {"counts": np.array([3], I32)},
    ],
)
def test_a_file_whose_counts_and_rows_do_not_fit_is_refused(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    artefacts.write(tmp_path / "m", KIND, tensors)
    with pytest.raises(ArtefactError):
        Memory.read(tmp_path / "m")
