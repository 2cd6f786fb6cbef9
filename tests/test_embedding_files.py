"""`carryover adapt`: files of vectors are carried from one to another, whole or not at all, in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from carryover.embeddings import LinearAdapter, NoAdapter
from carryover.embeddings import files as vector_files
from carryover.embeddings.carrying import carry
from carryover.embeddings.files import open_vectors
from carryover.errors import DataError
from carryover_cli.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
D, E = 6, 6


def vectors(seed: int, n: int, d: int = D, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


TURN = vectors(9, D, E)


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    old = vectors(0, 50)
    np.save(tmp_path / "old.npy", old)
    np.save(tmp_path / "new.npy", old @ TURN + 1 + 0.5 * vectors(8, 50))
    return tmp_path / "old.npy", tmp_path / "new.npy"


def list_column(matrix: np.ndarray, kind: str = "list") -> pa.Array:
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
    value = pa.from_numpy_dtype(matrix.dtype)
    return {"fixed": fixed, "list": fixed.cast(pa.list_(value)), "large": fixed.cast(pa.large_list(value))}[kind]


def write(path: Path, matrix: np.ndarray) -> Path:
    """Write vectors in the format that the ending names, with something beside them where the format has room for it."""
    if path.suffix == ".npy":
        np.save(path, matrix)
    elif path.suffix == ".safetensors":
        beside = {"ids": np.arange(len(matrix)), "flags": np.ones(3, dtype=np.uint8), "wide": np.arange(2, dtype=np.float64)}
        save_file({"embeddings": matrix} | beside, path, metadata={"model": "a"})
    else:
        table = pa.table({"id": [str(i) for i in range(len(matrix))], "vector": list_column(matrix), "n": list(range(len(matrix)))})
        pq.write_table(table, path, row_group_size=7)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "carryover_cli", "adapt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_command_chooses_an_adapter_and_carries_a_file(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    stored, out = vectors(1, 30), tmp_path / "out.npy"
    np.save(tmp_path / "stored.npy", stored)
    done = run("--old", pairs[0], "--new", pairs[1], "--stored", tmp_path / "stored.npy", "--out", out, "--save", tmp_path / "a.safetensors")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("R² on held-out pairs: none ") and first.endswith("Chosen: linear.")
    assert second.startswith(f"{out}: 30 vectors of 6 dimensions, float32, carried by linear in ")
    carried = np.load(out)
    assert np.array_equal(carried, LinearAdapter().fit(np.load(pairs[0]), np.load(pairs[1])).transform(stored))
    assert np.abs(carried - stored @ TURN - 1).max() < 1.5
    done = run("--load", tmp_path / "a.safetensors", "--stored", tmp_path / "stored.npy", "--out", tmp_path / "again.npy", "--json")
    told = json.loads(done.stdout)
    assert (told["adapter"], told["scores"], told["vectors"], told["from"], told["to"]) == ("linear", {}, 30, 6, 6)
    assert (tmp_path / "again.npy").read_bytes() == out.read_bytes()
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize(
    ("dtype", "wanted"), [("float16", None), ("float32", None), ("float64", None), ("float16", "float32"), ("float32", "float16")]
)
def test_every_format_is_carried_in_chunks_with_what_lies_beside(
    suffix: str, dtype: str, wanted: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_files, "CHUNK_BYTES", 4 * D * 4)
    stored = vectors(1, 30, dtype=dtype)
    old = vectors(0, 50)
    adapter = LinearAdapter().fit(old, np.hstack([old @ TURN, old]))
    source = write(tmp_path / f"stored{suffix}", stored)
    assert [len(chunk) for chunk in open_vectors(source).chunks()] == [4] * 7 + [2]
    out = carry(adapter, source, tmp_path / f"out{suffix}", dtype=wanted)
    assert (out.rows, out.d, out.dtype) == (30, 12, np.dtype(wanted or dtype))
    expected = adapter.transform(stored.astype("float64")).astype(wanted or dtype)
    assert np.allclose(out.read(), expected, atol=1e-6 if (wanted or dtype) != "float16" else 4e-3)
    if suffix == ".safetensors":
        before, after = load_file(source), load_file(out.path)
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in ("ids", "flags", "wide"))
        assert b'"model":"a"' in out.path.read_bytes()
    if suffix == ".parquet":
        before, after = pq.read_table(source), pq.read_table(out.path)
        assert before.column_names == after.column_names
        assert before.drop(["vector"]).equals(after.drop(["vector"]))


@pytest.mark.parametrize("kind", ["list", "large", "fixed"])
def test_a_column_of_lists_keeps_its_type(kind: str, tmp_path: Path) -> None:
    table = pa.table({"vector": list_column(vectors(0, 5), kind)})
    pq.write_table(table, tmp_path / "stored.parquet")
    out = carry(LinearAdapter().fit(vectors(0, 5), vectors(1, 5, 3)), tmp_path / "stored.parquet", tmp_path / "out.parquet")
    expected = {"list": pa.list_(pa.float32()), "large": pa.large_list(pa.float32()), "fixed": pa.list_(pa.float32(), 3)}[kind]
    assert pq.read_schema(out.path).field("vector").type == expected and out.d == 3


def test_big_endian_numbers_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "stored.npy", vectors(0, 5).astype(">f4"))
    carried = carry(NoAdapter().fit(vectors(1, 5), vectors(1, 5)), tmp_path / "stored.npy", tmp_path / "out.npy")
    assert np.array_equal(carried.read(), vectors(0, 5)) and carried.dtype == np.dtype("<f4")


def test_unit_length_and_the_mlp_s_seed(pairs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "stored.npy", vectors(1, 30))
    found = []
    for seed in (0, 0, 1):
        arguments = ["--old", pairs[0], "--new", pairs[1], "--stored", tmp_path / "stored.npy", "--out", tmp_path / "out.npy"]
        assert main(["adapt", *map(str, arguments), "--adapter", "mlp", "--seed", str(seed), "--unit", "--json"]) == 0
        found.append(np.load(tmp_path / "out.npy"))
    assert np.allclose(np.linalg.norm(found[0], axis=1), 1, atol=1e-6)
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_auto_takes_other_dimensions_and_a_named_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = vectors(0, 40), vectors(0, 40) @ vectors(3, D, 9)
    save_file({"text": old, "image": vectors(5, 40)}, tmp_path / "old.safetensors")
    pq.write_table(pa.table({"text": list_column(new), "image": list_column(old)}), tmp_path / "new.parquet")
    save_file({"image": vectors(6, 8), "text": vectors(7, 8)}, tmp_path / "stored.safetensors")
    arguments = [f"--old={tmp_path}/old.safetensors", f"--new={tmp_path}/new.parquet", f"--stored={tmp_path}/stored.safetensors"]
    arguments += [f"--out={tmp_path}/out.safetensors", "--adapter=linear"]
    assert main(["adapt", *arguments]) == 1
    assert (
        capsys.readouterr().err == f"Error: {tmp_path}/stored.safetensors has 2 tensors that could be the vectors; name one of them: image, text.\n"
    )
    assert main(["adapt", *arguments, "--tensor=text"]) == 0
    after = load_file(tmp_path / "out.safetensors")
    assert np.array_equal(after["image"], vectors(6, 8))
    assert np.allclose(after["text"], vectors(7, 8) @ vectors(3, D, 9), atol=0.3)


def _damaged(matrix: np.ndarray, row: int, value: float) -> np.ndarray:
    matrix = matrix.copy()
    matrix[row, 2] = value
    return matrix


# What is written in place of a file, by its option, and the words that the error must have.
FAULTS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "rows that do not pair": (
        "old",
        lambda p: np.save(p, vectors(0, 49)),
        "old.npy has 49 rows and {}/new.npy has 50: row i of both must be the same item.",
    ),
    "another dimension": (
        "stored",
        lambda p: np.save(p, vectors(0, 9, 5)),
        "stored.npy has vectors of 5 dimensions, and {}/old.npy has vectors of 6.",
    ),
    "not finite": (
        "stored",
        lambda p: np.save(p, _damaged(vectors(0, 20), 17, np.nan)),
        "stored.npy: row 17, counted from 0, has a value that is not finite.",
    ),
    "infinite pair": (
        "new",
        lambda p: np.save(p, _damaged(vectors(0, 50), 3, np.inf)),
        "new.npy: row 3, counted from 0, has a value that is not finite.",
    ),
    "whole numbers": (
        "stored",
        lambda p: np.save(p, np.ones((3, D), dtype=np.int8)),
        "stored.npy holds int8 numbers; vectors are float16, float32 or float64.",
    ),
    "one vector": (
        "stored",
        lambda p: np.save(p, np.ones(D)),
        "stored.npy holds an array of shape [6]; a matrix with a row for each vector is needed.",
    ),
    "none at all": ("stored", lambda p: np.save(p, np.ones((0, D))), "stored.npy holds no vector: it has 0 rows of 6 dimensions."),
    "columns first": ("stored", lambda p: np.save(p, np.asfortranarray(vectors(0, 9))), "stored.npy lies in Fortran order"),
    "objects": ("stored", lambda p: np.save(p, np.array([{}]), allow_pickle=True), "stored.npy is no readable .npy file of numbers: "),
    "no such format": ("stored", lambda p: p.write_bytes(b"PK"), "stored.npy is no readable .npy file of numbers: "),
    "cut short": ("stored", lambda p: (np.save(p, vectors(0, 99)), os.truncate(p, 500)), "stored.npy is no readable .npy file of numbers: "),
    "missing": ("stored", lambda p: p.unlink(missing_ok=True), "There is no file {}/stored.npy."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    fault: str, pairs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    which, damage, words = FAULTS[fault]
    np.save(tmp_path / "stored.npy", vectors(1, 30))
    damage(tmp_path / f"{which}.npy")
    (tmp_path / "out.npy").write_text("as it was")
    before = {path.name for path in tmp_path.iterdir()}
    arguments = [f"--{name}={tmp_path / name}.npy" for name in ("old", "new", "stored", "out")]
    assert main(["adapt", *arguments, "--adapter=linear"]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("Error: ") and told.err.count("\n") == 1 and told.out == ""
    assert words.format(tmp_path) in told.err
    assert (tmp_path / "out.npy").read_text() == "as it was" and {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--out": "stored.npy"}, "stored.npy is both read and written: name another file for the carried vectors."),
        ({"--save": "old.npy"}, "old.npy is both read and written"),
        ({"--out": "x.safetensors", "--save": "x.safetensors"}, "x.safetensors is named for the carried vectors and for the adapter"),
        ({"--out": "out.parquet"}, "out.parquet must end in '.npy', as "),
        ({"--stored": "stored.txt"}, "stored.txt has the ending '.txt'; files of vectors end in .npy, .safetensors, .parquet."),
        ({"--adapter": "lineal"}, "Unknown adapter 'lineal'; did you mean 'linear'?"),
        ({"--adapter": "mlp", "--seed": "-1"}, "Parameter adapters.mlp.seed is -1: "),
        ({"--dtype": "int8"}, "Unknown dtype 'int8'"),
        ({"--old": None}, "An adapter comes from pairs, --old FILE --new FILE, or from --load FILE."),
        ({"--load": "old.npy"}, "An adapter comes from pairs, --old FILE --new FILE, or from --load FILE."),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    change: dict[str, str | None], words: str, pairs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "stored.npy", vectors(1, 30))
    options = {"--old": "old.npy", "--new": "new.npy", "--stored": "stored.npy", "--out": "out.npy", "--adapter": "linear"} | change
    plain = ("--adapter", "--seed", "--dtype")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["adapt", *[f"{k}={v if k in plain else tmp_path / v}" for k, v in options.items() if v is not None]]) == 1
    assert words in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_pairs_that_an_adapter_does_not_take_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, matrix in {"old": vectors(0, 2), "new": vectors(1, 2, 3), "stored": vectors(2, 5)}.items():
        np.save(tmp_path / f"{name}.npy", matrix)
    arguments = [f"--{name}={tmp_path / name}.npy" for name in ("old", "new", "stored", "out")]
    for adapter, words in {"sdc": "'sdc': Pairs must be two matrices of the same shape", "auto": "'auto': To choose an adapter"}.items():
        assert main(["adapt", *arguments, f"--adapter={adapter}"]) == 1
        assert f"Error: {tmp_path}/old.npy and {tmp_path}/new.npy do not suit the adapter {words}" in capsys.readouterr().err


def test_rows_of_a_parquet_column_are_named(tmp_path: Path) -> None:
    path, good = tmp_path / "stored.parquet", [1.0, 2.0]
    for rows, words in {
        "short": ([good, good, [1.0]], "row 2, counted from 0, has a vector of 1 dimensions in column 'v', where the first has 2."),
        "null": ([good, None], "row 1, counted from 0, has no vector in column 'v'"),
        "hole": ([good, [1.0, None]], "row 1, counted from 0, has a value that is not finite."),
    }.values():
        pq.write_table(pa.table({"v": pa.array(rows, pa.list_(pa.float32()))}), path)
        with pytest.raises(DataError, match=words):
            open_vectors(path).read()
    pq.write_table(pa.table({"v": [1.0], "w": ["a"]}), path)
    with pytest.raises(DataError, match=r"has no column of vectors among its columns: v, w\.$"):
        open_vectors(path)
    with pytest.raises(DataError, match="column 'w' is of type string; vectors are lists of float16, float32 or float64"):
        open_vectors(path, "w")
    with pytest.raises(DataError, match="Unknown column 'x'"):
        open_vectors(path, "x")
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is no readable Parquet file"):
        open_vectors(path)


def test_safetensors_that_hold_no_vectors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "stored.safetensors"
    save_file({"ids": np.arange(3)}, path)
    with pytest.raises(DataError, match=r"has no tensor of vectors among its tensors: ids\.$"):
        open_vectors(path)
    with pytest.raises(DataError, match="tensor 'ids' is of type I64; vectors are F16, F32, F64"):
        open_vectors(path, "ids")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="is no readable safetensors file"):
        open_vectors(path)


def test_carried_values_that_a_narrow_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "stored.npy", vectors(0, 5, dtype="float16"))
    adapter = LinearAdapter().fit(vectors(0, 20), vectors(0, 20) * 1e6)
    with pytest.raises(DataError, match="exceed what float16 holds: choose a wider dtype"):
        carry(adapter, tmp_path / "stored.npy", tmp_path / "out.npy")
    assert np.isfinite(carry(adapter, tmp_path / "stored.npy", tmp_path / "out.npy", dtype="float32").read()).all()


def test_a_file_that_is_no_adapter_is_refused(pairs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"x": vectors(0, 3)}, tmp_path / "a.safetensors")
    arguments = [f"--load={tmp_path}/a.safetensors", f"--stored={pairs[0]}", f"--out={tmp_path}/out.npy"]
    assert main(["adapt", *arguments]) == 1
    assert "has no carryover header" in capsys.readouterr().err


PEAK = """
import sys
from carryover_cli.__main__ import main
assert main(sys.argv[1:]) == 0
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    d, rows = 256, {"small": 60_000, "large": 300_000}
    np.save(tmp_path / "pairs.npy", vectors(0, 300, d))
    peaks = {}
    for name, n in rows.items():
        # A sparse file of zeros: quickly made, and as long as any.
        np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.float16, (n, d)).flush()
        arguments = [f"--old={tmp_path}/pairs.npy", f"--new={tmp_path}/pairs.npy", f"--stored={tmp_path}/{name}.npy", f"--out={tmp_path}/out.npy"]
        command = [sys.executable, "-c", PEAK, "adapt", *arguments, "--adapter=linear", "--dtype=float32"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.stderr == "", "no bar where no terminal is"
        peaks[name] = int(done.stdout.splitlines()[-1]) * 1024
    grown = (rows["large"] - rows["small"]) * d * 2
    assert peaks["large"] - peaks["small"] < grown / 4, f"{grown / 1e6:.0f} MB more on disk"
