"""Storage: what comes back from few bytes, and what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from carryover import artefacts, storage
from carryover.errors import ArtefactError, ConfigurationError
from carryover.memory import KIND, Memory

NAMES = ["float32", "float16", "int8", "pq32", "pq16", "pq8"]
ROWS = arrays.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(32)), elements=st.floats(-1e4, 1e4, width=32))


def clustered(n: int, d: int = 64) -> np.ndarray:
    random = np.random.default_rng(0)
    rows: np.ndarray = (random.normal(size=(10, d))[random.integers(0, 10, n)] + 0.3 * random.normal(size=(n, d))).astype(np.float32)
    return rows


def relative_error(name: str, rows: np.ndarray) -> float:
    back = storage.decode(name, storage.encode(name, rows))
    return float(np.linalg.norm(back - rows) / np.linalg.norm(rows))


@settings(deadline=None, max_examples=40)
@given(ROWS, st.sampled_from(NAMES))
def test_what_is_written_has_the_layout_and_comes_back_as_float32_of_the_same_shape(rows: np.ndarray, name: str) -> None:
    written = storage.encode(name, rows)
    assert {key: (array.dtype, array.shape) for key, array in written.items()} == storage.layout(name, *rows.shape)
    back = storage.decode(name, written)
    assert back.dtype == np.float32 and back.shape == rows.shape
    assert all(np.array_equal(written[key], again) for key, again in storage.encode(name, rows).items())


@settings(deadline=None)
@given(ROWS.filter(len))
def test_int8_is_off_by_half_a_level_of_its_dimension_at_most(rows: np.ndarray) -> None:
    back = storage.decode("int8", storage.encode("int8", rows))
    level = (rows.max(axis=0) - rows.min(axis=0)) / 255
    assert (np.abs(back - rows) <= level / 2 + 1e-6 * np.abs(rows).max()).all()


def test_int8_keeps_the_ends_of_each_dimension_and_dimensions_that_do_not_vary() -> None:
    rows = np.array([[0, 5, -1], [255, 5, 1], [51, 5, 0.2]], dtype=np.float32)
    written = storage.encode("int8", rows)
    assert written["codes"].tolist() == [[0, 0, 0], [255, 0, 255], [51, 0, 153]]
    assert np.allclose(storage.decode("int8", written), rows, atol=1e-6)


@pytest.mark.parametrize("least_numbers", [1, 102, 255])
def test_int8_keeps_dimensions_that_span_few_of_the_least_numbers(least_numbers: int) -> None:
    rows = np.linspace(0, least_numbers, 5)[:, None].round().astype(np.float32) * np.finfo(np.float32).smallest_subnormal
    assert np.array_equal(storage.decode("int8", storage.encode("int8", rows)), rows) and rows.max() > 0


def test_int8_takes_dimensions_that_span_all_of_float32() -> None:
    limit = np.finfo(np.float32).max
    rows = np.array([[-limit, 0], [limit, 1]], dtype=np.float32)
    written = storage.encode("int8", rows)
    assert all(np.isfinite(array).all() for array in written.values())
    assert np.allclose(storage.decode("int8", written), rows, rtol=1e-6)


def test_int8_takes_dimensions_that_span_next_to_nothing() -> None:
    least = np.finfo(np.float32).smallest_subnormal
    rows = np.array([[0.0], [400 * least], [200 * least]], dtype=np.float32)
    written = storage.encode("int8", rows)
    # A level of 400 / 255 of the smallest number is two of them, for nothing lies between.
    assert written["codes"][:, 0].tolist() == [0, 200, 100]
    assert np.array_equal(storage.decode("int8", written), rows)


def test_float16_clips_to_its_range_instead_of_becoming_infinite() -> None:
    rows = np.array([[1e6, -1e6, 65504.0]], dtype=np.float32)
    assert storage.decode("float16", storage.encode("float16", rows)).tolist() == [[65504.0, -65504.0, 65504.0]]


def test_product_quantisation_gives_back_vectors_of_which_there_are_no_more_than_centroids() -> None:
    few = np.round(np.random.default_rng(0).normal(size=(20, 32)), 2).astype(np.float16).astype(np.float32)
    assert relative_error("pq8", np.tile(few, (3, 1))) < 1e-3


def test_errors_grow_as_bytes_shrink() -> None:
    errors = [relative_error(name, clustered(2000)) for name in NAMES]
    assert errors[0] == 0 and errors == sorted(errors) and errors[1] < 1e-3 and errors[2] < 1e-2 and errors[-1] < 0.35


def test_codes_of_product_quantisation_are_the_nearest_centroids_of_each_part() -> None:
    rows = clustered(500)
    written = storage.encode("pq8", rows)
    parts = rows.reshape(len(rows), 8, 8)
    for i in range(8):
        distances = ((parts[:, i, None] - written["centroids"][i].astype(np.float32)) ** 2).sum(axis=2)
        chosen = np.take_along_axis(distances, written["codes"][:, i, None].astype(np.int64), axis=1)[:, 0]
        assert np.allclose(chosen, distances.min(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "bytes_a_vector"), [("float32", 256), ("float16", 128), ("int8", 64), ("pq32", 32), ("pq16", 16), ("pq8", 8)])
def test_a_memory_file_grows_by_so_many_bytes_a_vector(tmp_path: Path, name: str, bytes_a_vector: int) -> None:
    sizes = []
    for n in (1000, 1400):
        memory = Memory.empty(64, name).extended(clustered(n), np.array([n]))
        memory.write(tmp_path / "memory", task="task0")
        assert (tmp_path / "memory").stat().st_size == memory.size(task="task0")
        sizes.append(memory.size(task="task0"))
    assert sizes[1] - sizes[0] == pytest.approx(400 * bytes_a_vector, abs=8)


@pytest.mark.parametrize("name", NAMES)
def test_writing_again_what_was_read_back_loses_less_than_the_first_time(tmp_path: Path, name: str) -> None:
    rows = clustered(1000, 32)
    Memory.empty(32, name).extended(rows, np.array([400, 600])).write(tmp_path / "first", task="task0")
    read = Memory.read(tmp_path / "first", task="task0")
    assert read.storage == name and read.counts.tolist() == [400, 600]
    read.write(tmp_path / "second", task="task0")
    again = Memory.read(tmp_path / "second", task="task0")
    assert np.abs(again.features - read.features).mean() <= 0.5 * np.abs(read.features - rows).mean() + 1e-7


def test_dimensions_that_cannot_be_cut_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"memory\.storage is 'pq16', .* 16 equal parts: 20 dimensions are no multiple"):
        Memory.empty(20, "pq16")


@pytest.mark.parametrize(
    "change", [{"codes": np.zeros((5, 7), np.uint8)}, {"centroids": np.zeros((8, 9, 4), np.float16)}, {"codes": np.zeros(5, np.uint8)}]
)
def test_a_file_whose_codes_and_centroids_do_not_fit_is_refused(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    written = storage.encode("pq8", clustered(5, 32)) | {"counts": np.array([5], np.int32)} | change
    artefacts.write(tmp_path / "m", KIND, written, storage="pq8")
    with pytest.raises(ArtefactError, match=r"m holds no memory: .* is (needed|no matrix)"):
        Memory.read(tmp_path / "m")
