"""Files of vectors: `.npy`, `.safetensors` and `.parquet`, read and rewritten a chunk at a time.

Chunks are read, not memory-mapped: mapped pages would count as the process's memory, and stay as long as the system likes. A file is
rewritten in its own format, and what it holds beside the vectors (other tensors, other columns) goes along.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from carryover.artefacts import replacing
from carryover.errors import DataError, unknown

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".npy", ".safetensors", ".parquet")
# A chunk's bytes in float32: large enough for fast matrix products and reads, small enough for any machine.
CHUNK_BYTES = 32 * 2**20
COPY_BYTES = 2**24
_SAFETENSORS: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}

Carry = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Vectors:
    """The vectors in a file: `rows` of dimension `d` and a floating-point `dtype`."""

    path: Path
    rows: int
    d: int
    dtype: np.dtype[Any]

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the vectors in order, [m, d] at a time.

        Raises:
            DataError: if a value is not finite; the first row that has one is named.
        """
        raise NotImplementedError

    def read(self) -> np.ndarray:
        """Return all vectors, [rows, d]; same errors as `chunks`."""
        return np.concatenate(list(self.chunks()))

    def rewrite(self, target: str | os.PathLike[str], carry: Carry, d: int, dtype: np.dtype[Any]) -> Iterator[int]:
        """Write the file again to `target`, which it replaces when it is whole, with `carry(chunk)`, [m, d] of `dtype`, in place of each chunk.

        Yields the number of vectors in each chunk once it is written; the caller's loop drives the work.
        """
        with replacing(target) as temporary:
            yield from self._rewrite(temporary, carry, d, dtype)

    def _finite(self, chunk: np.ndarray, start: int) -> np.ndarray:
        good = np.isfinite(chunk).all(axis=1)
        if not good.all():
            raise DataError(f"{self.path}: row {start + int(good.argmin())}, counted from 0, has a value that is not finite.")
        return chunk

    def _size(self) -> int:
        return max(CHUNK_BYTES // (4 * self.d), 1)

    def _rewrite(self, temporary: Path, carry: Carry, d: int, dtype: np.dtype[Any]) -> Iterator[int]:
        raise NotImplementedError


@dataclass(frozen=True)
class _Raw(Vectors):
    """Vectors that lie one behind the other from byte `offset` on."""

    offset: int

    def chunks(self) -> Iterator[np.ndarray]:
        """Read the vectors a chunk at a time, see `Vectors.chunks`."""
        size = self._size()
        with self.path.open("rb") as handle:
            handle.seek(self.offset)
            for start in range(0, self.rows, size):
                m = min(size, self.rows - start)
                yield self._finite(np.fromfile(handle, self.dtype, m * self.d).reshape(m, self.d), start)

    def _write(self, handle: BinaryIO, carry: Carry) -> Iterator[int]:
        for chunk in self.chunks():
            handle.write(np.ascontiguousarray(carry(chunk)).data)
            yield len(chunk)


@dataclass(frozen=True)
class _Npy(_Raw):
    def _rewrite(self, temporary: Path, carry: Carry, d: int, dtype: np.dtype[Any]) -> Iterator[int]:
        with temporary.open("wb") as handle:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (self.rows, d)}
            np.lib.format.write_array_header_1_0(handle, header)
            yield from self._write(handle, carry)


@dataclass(frozen=True)
class _Safetensors(_Raw):
    """The tensor `name`; `header` is the file's own and `begin` where its data begin."""

    name: str
    header: dict[str, Any]
    begin: int

    def _rewrite(self, temporary: Path, carry: Carry, d: int, dtype: np.dtype[Any]) -> Iterator[int]:
        written = {kept: name for name, kept in _SAFETENSORS.items()}[dtype.newbyteorder("<")]
        mine = {"dtype": written, "shape": [self.rows, d]}
        sizes = {name: end - begin for name, (begin, end) in self._offsets().items()}
        sizes[self.name] = self.rows * d * dtype.itemsize
        entries = {name: mine if name == self.name else self.header[name] for name in sizes}
        # Widest numbers first, as the format has it, so that each lies at a multiple of its size.
        order = sorted(sizes, key=lambda name: -sizes[name] // max(math.prod(entries[name]["shape"]), 1))
        layout = {"__metadata__": self.header["__metadata__"]} if "__metadata__" in self.header else {}
        end = 0
        for name in order:
            layout[name] = {**entries[name], "data_offsets": [end, end + sizes[name]]}
            end += sizes[name]
        header = json.dumps(layout, separators=(",", ":"), ensure_ascii=False).encode()
        header += b" " * (-len(header) % 8)
        with temporary.open("wb") as handle:
            handle.write(len(header).to_bytes(8, "little") + header)
            for name in order:
                if name == self.name:
                    yield from self._write(handle, carry)
                else:
                    self._copy(handle, *self._offsets()[name])

    def _offsets(self) -> dict[str, list[int]]:
        return {name: entry["data_offsets"] for name, entry in self.header.items() if name != "__metadata__"}

    def _copy(self, handle: BinaryIO, begin: int, end: int) -> None:
        with self.path.open("rb") as source:
            source.seek(self.begin + begin)
            for start in range(begin, end, COPY_BYTES):
                handle.write(source.read(min(COPY_BYTES, end - start)))


@dataclass(frozen=True)
class _Parquet(Vectors):
    """The column `name`, of lists of numbers."""

    name: str

    def chunks(self) -> Iterator[np.ndarray]:
        """Read the vectors a chunk at a time, see `Vectors.chunks`."""
        for chunk, _ in self._batches([self.name]):
            yield chunk

    def _batches(self, columns: list[str] | None = None) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        import pyarrow.parquet as pq

        start = 0
        with pq.ParquetFile(self.path, pre_buffer=False) as file:
            for batch in file.iter_batches(self._size(), columns=columns):
                yield self._finite(self._matrix(batch.column(self.name), start), start), batch
                start += len(batch)

    def _matrix(self, column: pa.Array, start: int) -> np.ndarray:
        import pyarrow.compute as pc

        lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
        wrong = lengths != self.d
        if wrong.any():
            row = int(wrong.argmax())
            found = "no vector" if lengths[row] < 0 else f"a vector of {lengths[row]} dimensions"
            raise DataError(f"{self.path}: row {start + row}, counted from 0, has {found} in column {self.name!r}, where the first has {self.d}.")
        # What is missing within a vector becomes NaN, and is found with the others.
        values: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
        return values.astype(self.dtype, copy=False).reshape(-1, self.d)

    def _rewrite(self, temporary: Path, carry: Carry, d: int, dtype: np.dtype[Any]) -> Iterator[int]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pq.read_schema(self.path)
        index = schema.get_field_index(self.name)
        field = schema.field(index)
        value = pa.from_numpy_dtype(dtype)
        if pa.types.is_fixed_size_list(field.type):
            kind = pa.list_(value, d)
        else:
            kind = (pa.large_list if pa.types.is_large_list(field.type) else pa.list_)(value)
        schema = schema.set(index, field.with_type(kind))
        with pq.ParquetWriter(temporary, schema) as writer:
            for chunk, batch in self._batches():
                column = pa.FixedSizeListArray.from_arrays(pa.array(carry(chunk).ravel()), d).cast(kind)
                columns = [column if i == index else batch.column(i) for i in range(len(schema))]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
                yield len(chunk)


def open_vectors(path: str | os.PathLike[str], tensor: str | None = None) -> Vectors:
    """Return the vectors in a file, of which no more than the header, or the first row, is read.

    Args:
        path: a `.npy` file of a matrix, a `.safetensors` file, or a `.parquet` file with a column of lists of numbers.
        tensor: the name of the tensor or column, where there are several that could be meant.

    Raises:
        DataError: if the file is missing or damaged, of an unknown kind, or holds no such vectors.
    """
    path = Path(path)
    reader = {".npy": _open_npy, ".safetensors": _open_safetensors, ".parquet": _open_parquet}.get(path.suffix)
    if reader is None:
        raise DataError(f"{path} has the ending {path.suffix!r}; files of vectors end in {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    return reader(path, tensor)


def _open_npy(path: Path, tensor: str | None) -> Vectors:
    try:
        # Mapped for its header alone, whose length it knows; no page of it is read.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is no readable .npy file of numbers: {' '.join(str(error).split()).rstrip('.')}.") from error
    dtype = _checked(path, array.dtype, array.shape)
    if not array.flags.c_contiguous:
        raise DataError(f"{path} lies in Fortran order, column by column; save it with numpy.ascontiguousarray.")
    n, d = array.shape
    return _Npy(path, n, d, dtype, array.offset)


def _open_safetensors(path: Path, tensor: str | None) -> Vectors:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass  # It checks that the header describes the file to its end.
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is no readable safetensors file: {' '.join(str(error).split()).rstrip('.')}.") from error
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header: dict[str, Any] = json.loads(handle.read(length))
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    name = _chosen(
        path, "tensor", tensor, entries, [name for name, entry in entries.items() if entry["dtype"] in _SAFETENSORS and len(entry["shape"]) == 2]
    )
    entry = entries[name]
    if entry["dtype"] not in _SAFETENSORS:
        raise DataError(f"{path}: tensor {name!r} is of type {entry['dtype']}; vectors are {', '.join(_SAFETENSORS)}.")
    dtype = _checked(path, _SAFETENSORS[entry["dtype"]], tuple(entry["shape"]))
    n, d = entry["shape"]
    return _Safetensors(path, n, d, dtype, 8 + length + entry["data_offsets"][0], name, header, 8 + length)


def _open_parquet(path: Path, tensor: str | None) -> Vectors:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def holds_vectors(kind: pa.DataType) -> bool:
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        return bool(listed and pa.types.is_floating(kind.value_type))

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            name = _chosen(path, "column", tensor, schema.names, [field.name for field in schema if holds_vectors(field.type)])
            kind = schema.field(name).type
            if not holds_vectors(kind):
                raise DataError(f"{path}: column {name!r} is of type {kind}; vectors are lists of float16, float32 or float64.")
            first = next(file.iter_batches(1, columns=[name]), None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file: {' '.join(str(error).split()).rstrip('.')}.") from error
    vector = None if first is None else first.column(0)[0].as_py()
    dtype = _checked(path, np.dtype(kind.value_type.to_pandas_dtype()), (rows, len(vector or [])))
    return _Parquet(path, rows, len(vector or []), dtype, name)


def _chosen(path: Path, what: str, asked: str | None, names: Collection[str], vectors: list[str]) -> str:
    """Return the name of the tensor or column that is meant: the one `asked` for, or the only one that holds vectors."""
    if asked is not None:
        if asked not in names:
            raise DataError(f"{path}: {unknown(what, asked, names)}")
        return asked
    if len(vectors) != 1:
        held = ", ".join(sorted(vectors if vectors else names)) or "none"
        fault = f"{len(vectors)} {what}s that could be the vectors; name one of them" if vectors else f"no {what} of vectors among its {what}s"
        raise DataError(f"{path} has {fault}: {held}.")
    return vectors[0]


def _checked(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.dtype[Any]:
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise DataError(f"{path} holds {dtype} numbers; vectors are float16, float32 or float64.")
    if len(shape) != 2:
        raise DataError(f"{path} holds an array of shape {list(shape)}; a matrix with a row for each vector is needed.")
    if not math.prod(shape):
        raise DataError(f"{path} holds no vector: it has {shape[0]} rows of {shape[1]} dimensions.")
    return dtype
