"""Carry the vectors of a file into another file, in memory that does not grow with them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from carryover.embeddings.adapters import EmbeddingAdapter
from carryover.embeddings.files import Vectors, open_vectors
from carryover.errors import DataError, unknown

DTYPES = ("float16", "float32", "float64")


def read_pairs(old: str | os.PathLike[str], new: str | os.PathLike[str], tensor: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of two files, [n, d] and [n, e], whose rows are the same items.

    Raises:
        DataError: if a file is at fault, or they have different numbers of rows.
    """
    before, after = open_vectors(old, tensor), open_vectors(new, tensor)
    if before.rows != after.rows:
        raise DataError(f"{old} has {before.rows:,} rows and {new} has {after.rows:,}: row i of both must be the same item.")
    return before.read(), after.read()


def fit_files(adapter: EmbeddingAdapter, old: str | os.PathLike[str], new: str | os.PathLike[str], tensor: str | None = None) -> EmbeddingAdapter:
    """Return the adapter, fitted to the pairs that `read_pairs` reads.

    Raises:
        DataError: as there, and if the pairs are too few, or of two dimensions where the adapter needs one.
    """
    pairs = read_pairs(old, new, tensor)
    try:
        return adapter.fit(*pairs)
    except ValueError as error:
        raise DataError(f"{old} and {new} do not suit the adapter {adapter.name!r}: {error}") from error


def carry(
    adapter: EmbeddingAdapter,
    stored: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    tensor: str | None = None,
    dtype: str | None = None,
    unit: bool = False,
) -> Vectors:
    """Write the file `stored` again as `target`, its vectors carried by a fitted adapter; return the new vectors, which stay on disk.

    A chunk is in memory at a time, and a bar is shown on a terminal. `target` appears when it is whole.

    Args:
        adapter: fitted to vectors of the stored ones' dimension.
        stored: a `.npy`, `.safetensors` or `.parquet` file, see `open_vectors`.
        target: another file of the same ending; other tensors and columns go along.
        tensor: the name of the vectors, where the file holds several tensors or columns of them.
        dtype: of the new vectors, "float16", "float32" or "float64"; that of the stored ones by default.
        unit: whether each carried vector is scaled to unit length.

    Raises:
        DataError: if a file is at fault or the target is not another one, the dimension is not the adapter's, or a stored or carried value
            is not finite; nothing is written then.
    """
    from tqdm import tqdm

    check_dtype(dtype)
    source, wanted = open_vectors(stored, tensor), Path(target)
    check_target(wanted, stored)
    if wanted.suffix != source.path.suffix:
        raise DataError(f"{target} must end in {source.path.suffix!r}, as {stored} does: a file is carried in its own format.")
    check_dimension(source, adapter.n_features_in_, "the adapter carries")
    out = np.dtype(dtype) if dtype else source.dtype.newbyteorder("=")

    def carried(chunk: np.ndarray) -> np.ndarray:
        try:
            rows = adapter.transform(chunk.astype(np.promote_types(chunk.dtype, np.float32), copy=False))
        except ValueError as error:
            raise DataError(f"{stored}: {error}") from error
        if unit:
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)
        with np.errstate(over="ignore"):
            narrow: np.ndarray = rows.astype(out, copy=False)
        if not np.isfinite(narrow).all():
            raise DataError(f"Carried vectors of {stored} exceed what {out} holds: choose a wider dtype.")
        return narrow

    with tqdm(total=source.rows, desc="carry", unit="vector", unit_scale=True, disable=None) as bar:
        for rows in source.rewrite(wanted, carried, adapter.n_features_out_, out):
            bar.update(rows)
    return open_vectors(wanted, tensor)


def check_target(target: str | os.PathLike[str], *inputs: str | os.PathLike[str] | None) -> None:
    """Refuse a target that is one of the inputs.

    Raises:
        DataError: naming it.
    """
    for path in inputs:
        if path is not None and Path(target).exists() and Path(path).exists() and os.path.samefile(target, path):
            raise DataError(f"{target} is both read and written: name another file for the carried vectors.")


def check_dtype(dtype: str | None) -> None:
    """Refuse a type of numbers that vectors do not have.

    Raises:
        DataError: naming those that they have.
    """
    if dtype is not None and dtype not in DTYPES:
        raise DataError(unknown("dtype", dtype, DTYPES))


def check_dimension(stored: Vectors, d: int, other: str) -> None:
    """Refuse stored vectors whose dimension is not `d`, that of what `other` says.

    Raises:
        DataError: naming both.
    """
    if stored.d != d:
        raise DataError(f"{stored.path} has vectors of {stored.d} dimensions, and {other} vectors of {d}.")
