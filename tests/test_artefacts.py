"""Artefacts: the same content has the same bytes, and no hostile or half-written file gets past the reader."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from carryover import artefacts
from carryover.artefacts import Artefact, read, read_header, read_mapped, replacing, serialized_size, write
from carryover.errors import ArtefactError

DTYPES = ["float64", "float32", "float16", "int64", "int32", "uint8", "int8"]
FINITE = {"allow_nan": False, "allow_infinity": False}
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7), elements=FINITE if "float" in dtype else None)
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12).filter(lambda name: name != "__metadata__")
TENSORS = st.dictionaries(NAMES, ARRAYS, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10), lambda inner: st.lists(inner, max_size=3), max_leaves=6
)
# "path", "kind" and "tensors" are the writer's own arguments.
FIELDS = st.dictionaries(st.sampled_from(["regime", "task", "x y", "é", "version"]), JSON, max_size=4)
READERS: list[Callable[..., Any]] = [read, read_mapped]


def sentence(error: BaseException) -> str:
    """Assert that an error's text is one line that ends as a sentence does; return it."""
    text = str(error)
    assert "\n" not in text and text.endswith(".") and "Traceback" not in text and 10 < len(text) < 500, text
    return text


def refused(path: Path, kind: str = "features", **expected: Any) -> str:
    """Assert that every reader refuses a file; return the first one's sentence."""
    sentences = []
    for reader in READERS:
        with pytest.raises(ArtefactError) as caught:
            reader(path, kind, **expected)
        sentences.append(sentence(caught.value))
    return sentences[0]


def sample(path: Path, **fields: Any) -> bytes:
    write(path, "features", {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(3)}, **({"task": "task1"} | fields))
    return path.read_bytes()


@settings(deadline=None, max_examples=80)
@given(tensors=TENSORS, fields=FIELDS)
def test_round_trip_and_exact_size(tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray], fields: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "artefact"
    write(path, "features", tensors, **fields)
    assert serialized_size("features", tensors, **fields) == path.stat().st_size
    for reader in READERS:
        found = reader(path, "features", **fields)
        assert found.kind == "features" and found.fields == fields and found.tensors.keys() == tensors.keys()
        for name, array in tensors.items():
            assert found[name].dtype == array.dtype and found[name].shape == array.shape and found[name].tobytes() == array.tobytes()


@settings(deadline=None, max_examples=30)
@given(tensors=TENSORS, fields=FIELDS)
def test_the_same_content_has_the_same_bytes_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray], fields: dict[str, Any]
) -> None:
    first, second = (tmp_path_factory.getbasetemp() / name for name in ("first", "second"))
    write(first, "features", tensors, **fields)
    write(second, "features", dict(reversed(tensors.items())), **dict(reversed(fields.items())))
    assert first.read_bytes() == second.read_bytes()


def test_an_array_in_any_memory_layout_has_the_same_bytes(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for i, same in enumerate([array, np.asfortranarray(array), np.repeat(array, 2, axis=2)[:, :, ::2]]):
        write(tmp_path / str(i), "features", {"a": same})
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_other_programs_can_read_it_as_plain_safetensors(tmp_path: Path) -> None:
    sample(tmp_path / "a")
    assert np.array_equal(load_file(tmp_path / "a")["a"], [[0, 1, 2], [3, 4, 5]])


def test_mapped_tensors_are_read_only(tmp_path: Path) -> None:
    sample(tmp_path / "a")
    with pytest.raises(ValueError, match="read-only"):
        read_mapped(tmp_path / "a", "features")["a"][0, 0] = 1


@settings(deadline=None, max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    base = tmp_path_factory.getbasetemp()
    content = sample(base / "whole")
    (base / "cut").write_bytes(content[: int(share * len(content))])
    refused(base / "cut")


def test_a_file_cut_short_at_every_length_is_refused(tmp_path: Path) -> None:
    content = sample(tmp_path / "whole")
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        refused(tmp_path / "cut")


@settings(deadline=None, max_examples=150)
@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read_but_never_anything_else(tmp_path_factory: pytest.TempPathFactory, position: int, value: int) -> None:
    base = tmp_path_factory.getbasetemp()
    content = bytearray(sample(base / "whole"))
    content[position % len(content)] = value
    (base / "changed").write_bytes(content)
    for reader in READERS:
        try:
            assert isinstance(reader(base / "changed", "features"), Artefact)
        except ArtefactError as error:
            sentence(error)


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(content)
    refused(path)


def with_header(path: Path, layout: object, data: bytes = b"") -> Path:
    header = json.dumps(layout).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


OURS = {"carryover": json.dumps({"format": "carryover", "version": 1, "kind": "features", "fields": {}})}


@pytest.mark.parametrize("shape", [[2**60], [2**31, 2**31], [2**64 - 1], [-1], [1.5], "x"])
@pytest.mark.parametrize("end", [4, 2**62])
def test_a_header_that_claims_a_huge_or_impossible_tensor_is_refused(tmp_path: Path, shape: object, end: int) -> None:
    layout = {"__metadata__": OURS, "a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}
    refused(with_header(tmp_path / "a", layout, bytes(4)))


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**63, 2**64 - 1])
def test_a_wrong_header_length_is_refused(tmp_path: Path, length: int) -> None:
    content = sample(tmp_path / "a")
    (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + content[8:])
    refused(tmp_path / "a")


@pytest.mark.parametrize("entry", [[], None, {"dtype": "F32"}, {"dtype": "NOPE", "shape": [1], "data_offsets": [0, 4]}])
def test_a_malformed_tensor_entry_is_refused(tmp_path: Path, entry: object) -> None:
    refused(with_header(tmp_path / "a", {"__metadata__": OURS, "a": entry}, bytes(4)))


@pytest.mark.parametrize(
    "header",
    [
        "not json",
        "[]",
        '"text"',
        "null",
        "1",
        "{}",
        '{"format": "carryover", "version": 1, "kind": "features"}',
        '{"format": "other", "version": 1, "kind": "features", "fields": {}}',
        '{"format": "carryover", "version": 2, "kind": "features", "fields": {}}',
        '{"format": "carryover", "version": "1", "kind": "features", "fields": {}}',
        '{"format": "carryover", "version": 1, "kind": "memory", "fields": {}}',
        '{"format": "carryover", "version": 1, "kind": ["features"], "fields": {}}',
        '{"format": "carryover", "version": 1, "kind": "features", "fields": []}',
        "[" * 100_000,
    ],
)
def test_another_header_is_refused(tmp_path: Path, header: str) -> None:
    save_file({"a": np.zeros(1)}, tmp_path / "a", metadata={"carryover": header})
    refused(tmp_path / "a")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    sample(path, regime="distill")
    assert "'features'" in refused(path, "memory") and "'memory'" in refused(path, "memory")
    assert "task 'task1' where 'task2'" in refused(path, task="task2")
    assert "regime 'distill' where 'joint'" in refused(path, task="task1", regime="joint")
    assert "None" in refused(path, adapter="mlp")
    assert str(path) in refused(path, "memory")
    assert "There is no file" in refused(tmp_path / "missing") and "features" in refused(tmp_path / "missing")


def test_a_later_version_is_refused_by_name(tmp_path: Path) -> None:
    header = '{"format": "carryover", "version": 2, "kind": "features", "fields": {}}'
    save_file({"a": np.zeros(1)}, tmp_path / "a", metadata={"carryover": header})
    assert "version 2" in refused(tmp_path / "a")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_another_program_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"a": np.zeros(1)}, tmp_path / "a", metadata=metadata)
    assert "not written by this project" in refused(tmp_path / "a")


def test_an_empty_file_a_directory_and_a_pickle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": np.zeros(3)}))
    for name in ("empty", "directory", "pickle"):
        refused(tmp_path / name)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(tmp_path: Path, dtype: str, value: float) -> None:
    bad = np.array([1, value, 2], dtype=dtype)
    with pytest.raises(ArtefactError, match="'a' has 1 of 3 values") as caught:
        write(tmp_path / "a", "features", {"a": bad})
    sentence(caught.value)
    assert not (tmp_path / "a").exists()
    save_file({"a": bad}, tmp_path / "a", metadata=OURS)
    assert "not finite" in refused(tmp_path / "a")


def test_a_tensor_that_is_not_there_is_an_artefact_error(tmp_path: Path) -> None:
    sample(tmp_path / "a")
    with pytest.raises(ArtefactError, match="no tensor 'c'") as caught:
        read(tmp_path / "a", "features")["c"]
    sentence(caught.value)


def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    before = sample(path)

    def interrupted(arrays: object, temporary: Path, metadata: object) -> None:
        temporary.write_bytes(b"half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(artefacts, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(path, "features", {"a": np.ones(3)})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_replacing_removes_its_temporary_file_on_any_failure(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), replacing(tmp_path / "new") as temporary:
        temporary.write_bytes(b"half of")
        raise error
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    before = sample(path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artefacts, "save_file", full)
    with pytest.raises(ArtefactError, match="No space left"):
        write(path, "features", {"a": np.ones(3)})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a"]


def test_a_hard_linked_file_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    cached, target = tmp_path / "cached", tmp_path / "target"
    before = sample(cached)
    os.link(cached, target)
    cached.chmod(0o444)
    write(target, "features", {"a": np.ones(5)})
    assert cached.read_bytes() == before and target.read_bytes() != before


def test_a_written_file_has_the_usual_permissions_and_its_folder_is_made(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        sample(tmp_path / "deep" / "er" / "a")
    finally:
        os.umask(mask)
    assert (tmp_path / "deep" / "er" / "a").stat().st_mode & 0o777 == 0o644


def test_the_header_alone_is_read_without_its_tensors(tmp_path: Path) -> None:
    save_file({"a": np.array([np.nan])}, tmp_path / "a", metadata=OURS)
    assert read_header(tmp_path / "a", "features")["fields"] == {}
