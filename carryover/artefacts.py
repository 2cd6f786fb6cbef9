"""Artefacts: one safetensors file each, with a checked header, written whole or not at all.

The grammar of the header: the safetensors metadata holds the single key `carryover`, a canonical JSON object with
`format` (the string "carryover"), `version` (an integer), `kind` (what the file is: "features", "memory", ...) and
`fields` (whatever else the kind records: regime, task, class names). A single key, because the order of several
keys in safetensors metadata is not fixed, and the same artefact must have the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from carryover.errors import ArtefactError

FORMAT = "carryover"
VERSION = 1
_DTYPE_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "uint8": "U8", "int8": "I8"}
_LAYOUT = ("int64", "float64", "float32", "int32", "float16", "int8", "uint8")


@dataclass(frozen=True)
class Artefact:
    """The content of an artefact: its `kind`, its recorded `fields` and its named `tensors`."""

    kind: str
    fields: dict[str, Any]
    tensors: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a tensor.

        Raises:
            ArtefactError: if there is none of that name.
        """
        try:
            return self.tensors[name]
        except KeyError as error:
            raise ArtefactError(f"A {self.kind!r} artefact has no tensor {name!r}, and holds {', '.join(sorted(self.tensors)) or 'none'}.") from error


class _Fields(dict[str, Any]):
    """What a header records; what it does not is an error that names the file."""

    def __init__(self, path: str | os.PathLike[str], fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise ArtefactError(f"{self._path} records no {name}: it was written by another release, or for something else.")


@dataclass(frozen=True)
class Stream:
    """A tensor too large for memory: its `dtype` and `shape`, and its values as consecutive `chunks` of any shape."""

    dtype: np.dtype
    shape: tuple[int, ...]
    chunks: Iterable[np.ndarray]

    @property
    def nbytes(self) -> int:
        """The bytes of all chunks together."""
        return math.prod(self.shape) * self.dtype.itemsize


def _metadata(kind: str, fields: Mapping[str, Any]) -> dict[str, str]:
    header = {"format": FORMAT, "version": VERSION, "kind": kind, "fields": dict(fields)}
    return {FORMAT: json.dumps(header, sort_keys=True, separators=(",", ":"))}


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, remove it on failure.

    A killed process leaves no half-written `path`, and a hard-linked cached file is replaced, never written into.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write(path: str | os.PathLike[str], kind: str, tensors: Mapping[str, np.ndarray], **fields: Any) -> None:
    """Write an artefact atomically.

    Raises:
        ArtefactError: if a floating-point tensor holds a number that is not finite, or the disk refuses.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    for name, array in arrays.items():
        _check_finite(path, name, array)
    try:
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata=_metadata(kind, fields))
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"Cannot write {path}: {error}.") from error


def write_stream(path: str | os.PathLike[str], kind: str, tensors: Mapping[str, Stream], **fields: Any) -> None:
    """Write the bytes that `write` writes, from tensors that come in pieces; memory holds one piece at a time.

    Raises:
        ArtefactError: if a floating-point piece holds a number that is not finite, or the disk refuses.
    """
    header, order = _header(kind, fields, {name: (stream.dtype, stream.shape) for name, stream in tensors.items()})
    try:
        with replacing(path) as temporary, temporary.open("wb") as handle:
            handle.write(len(header).to_bytes(8, "little") + header)
            for name in order:
                _write_chunks(path, handle, name, tensors[name])
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error}.") from error


def _write_chunks(path: str | os.PathLike[str], handle: BinaryIO, name: str, stream: Stream) -> None:
    written = 0
    for chunk in stream.chunks:
        if chunk.dtype != stream.dtype:
            raise ValueError(f"tensor {name!r} of {path} is a stream of {stream.dtype} and has a chunk of {chunk.dtype}")
        _check_finite(path, name, chunk)
        written += handle.write(np.ascontiguousarray(chunk).data)
    if written != stream.nbytes:
        raise ValueError(f"tensor {name!r} of {path} has {stream.nbytes} bytes and its chunks {written}")


def read(path: str | os.PathLike[str], kind: str, **expected: Any) -> Artefact:
    """Read an artefact of the given `kind`, checking its header, its finiteness and any `expected` fields.

    Raises:
        ArtefactError: if the file is missing, truncated, of another kind or version, holds values that are not
            finite, or records another value for one of the `expected` fields (a swapped file).
    """
    header = read_header(path, kind, **expected)
    try:
        with safe_open(path, framework="numpy") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ArtefactError(f"Cannot read {path}: {_reason(error)}.") from error
    for name, array in tensors.items():
        _check_finite(path, name, array)
    return Artefact(header["kind"], header["fields"], tensors)


def read_mapped(path: str | os.PathLike[str], kind: str, **expected: Any) -> Artefact:
    """Open an artefact whose tensors stay on disk: same checks and errors as `read`, and read-only arrays that page in on use."""
    header = read_header(path, kind, **expected)
    try:
        buffer = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
        start = 8 + int.from_bytes(buffer[:8].tobytes(), "little")
        layout = json.loads(buffer[8:start].tobytes())
        del layout["__metadata__"]
        tensors = {name: _mapped_tensor(buffer[start:], entry) for name, entry in layout.items()}
    except (OSError, ValueError, KeyError) as error:
        raise ArtefactError(f"Cannot read {path}: {_reason(error)}.") from error
    for name, array in tensors.items():
        _check_finite(path, name, array)
    return Artefact(header["kind"], header["fields"], tensors)


def _mapped_tensor(data: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    begin, end = entry["data_offsets"]
    dtype = {written: name for name, written in _DTYPE_NAMES.items()}[entry["dtype"]]
    return data[begin:end].view(dtype).reshape(entry["shape"])


def read_header(path: str | os.PathLike[str], kind: str, **expected: Any) -> dict[str, Any]:
    """Read and check an artefact's header alone; same errors as `read`."""
    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = handle.metadata() or {}
    except FileNotFoundError as error:
        raise ArtefactError(f"There is no file {path}: a {kind} artefact was expected there.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtefactError(f"{path} is no readable safetensors file ({_reason(error)}): it may be truncated.") from error
    try:
        header: dict[str, Any] = json.loads(metadata[FORMAT])
        found = (header["format"], header["version"], header["kind"], header["fields"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} has no carryover header: it was not written by this project.") from error
    if found[0] != FORMAT or found[1] != VERSION:
        raise ArtefactError(f"{path} has format {found[0]!r} version {found[1]!r}; this release reads {FORMAT!r} version {VERSION}.")
    if found[2] != kind:
        raise ArtefactError(f"{path} holds a {found[2]!r} artefact where a {kind!r} artefact is needed.")
    if not isinstance(found[3], dict):
        raise ArtefactError(f"{path} has a header whose fields are not an object.")
    header["fields"] = _Fields(path, found[3])
    for name, value in expected.items():
        check_same(path, name, found[3].get(name), value)
    return header


def arrays(path: str | os.PathLike[str]) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Return type and shape of each array of an artefact whose header has been read, without reading the arrays."""
    types = {written: np.dtype(name) for name, written in _DTYPE_NAMES.items()}
    with safe_open(path, framework="numpy") as handle:
        slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 (not a mapping)
        return {name: (types[found.get_dtype()], tuple(found.get_shape())) for name, found in slices.items()}


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the digest of a file's content, 64 hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_same(path: str | os.PathLike[str], what: str, found: object, needed: object) -> None:
    """Refuse an artefact that is right in itself, and belongs to something else.

    Raises:
        ArtefactError: if what was `found` in it is not what is `needed`; it names the file and `what` differs.
    """
    if found != needed:
        raise ArtefactError(f"{path} records {what} {found!r} where {needed!r} is needed: the file was swapped.")


def serialized_size(kind: str, tensors: Mapping[str, np.ndarray], **fields: Any) -> int:
    """Return the size in bytes of the file that `write` would make, without making it."""
    header, _ = _header(kind, fields, {name: (array.dtype, array.shape) for name, array in tensors.items()})
    return 8 + len(header) + sum(array.nbytes for array in tensors.values())


def _header(kind: str, fields: Mapping[str, Any], tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> tuple[bytes, list[str]]:
    """Return the header of a file of tensors with the given types and shapes, and the names in the order of their data.

    safetensors lays tensors out by type, widest first, then by name: its readers and `write` agree on these bytes.
    """
    layout: dict[str, Any] = {"__metadata__": _metadata(kind, fields)}
    order = sorted(tensors, key=lambda name: (_LAYOUT.index(tensors[name][0].name), name))
    offset = 0
    for name in order:
        dtype, shape = tensors[name]
        end = offset + math.prod(shape) * dtype.itemsize
        layout[name] = {"dtype": _DTYPE_NAMES[dtype.name], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(layout, separators=(",", ":"), ensure_ascii=False).encode()
    return header + b" " * (-len(header) % 8), order


def _check_finite(path: str | os.PathLike[str], name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise ArtefactError(f"{path}: tensor {name!r} has {bad} of {array.size} values that are not finite.")


def _reason(error: BaseException) -> str:
    return str(error).strip().rstrip(".").splitlines()[0] if str(error).strip() else type(error).__name__
