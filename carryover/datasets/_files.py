"""The files of a folder or an archive, read into memory one at a time: nothing is ever extracted to disk.

Archives of others are met with limits: how many members, how deep and how long their paths, how large their headers and their
files, and how much larger than itself a compressed archive may become.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import itertools
import lzma
import os
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO

from carryover.datasets._pixels import MAX_FILE_BYTES, BadImageError
from carryover.errors import DataError

ACCEPTED = "a folder or an archive (.tar, .tar.gz, .tar.bz2, .tar.xz or .zip)"
_LITTER = {"__macosx", "thumbs.db", "desktop.ini"}
_COMPRESSED: dict[bytes, Callable[[str], IO[bytes]]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}  # type: ignore[dict-item]
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, NotImplementedError, RuntimeError, ValueError, IndexError, OverflowError),
)
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
# ImageNet's largest release has 14 million images.
MAX_MEMBERS = 20_000_000
MAX_DEPTH = 32
MAX_PATH_BYTES = 1024
MAX_HEADER_BYTES = 1 << 20
# Photographs hardly shrink; drawings, as bitmaps, may well. What unpacks to little is let be whatever its ratio.
MAX_RATIO = 200
MIN_UNPACKED_BYTES = 1 << 30


@dataclass
class Files:
    """Files in any order: their `paths` and `folders` relative to the root, and `read`, which many threads may call at once."""

    read: Callable[[str], bytes]
    paths: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)


def open_files(path: str) -> Files | None:
    """Return the files of a folder, a .zip or a plain .tar; None if it is an archive that has to be read from its start.

    Raises:
        DataError: if there is no such file, it is something else, or it holds a member that is not safe to open.
    """
    if os.path.isdir(path):
        return _folder(path)
    start = _first_bytes(path)
    if any(start.startswith(magic) for magic in _COMPRESSED):
        return None
    # The .tar first: a .zip is known by its end, and may be the last member of a .tar.
    if _is_tar(path):
        return _tar(path)
    if zipfile.is_zipfile(path):
        return _zip(path)
    raise DataError(f"{path} is no data set: needed is {ACCEPTED}.")


def stream_files(path: str) -> Iterator[tuple[str, bytes | BadImageError | None]]:
    """Yield each member of a compressed .tar as its path and content, in the archive's order: it is unpacked once, in memory.

    The content is None for a folder, and the reason for a member that is too large.
    """
    opener = next(opener for magic, opener in _COMPRESSED.items() if _first_bytes(path).startswith(magic))
    with _damage_named(path), opener(path) as stream:
        unpacked: Any = _Bounded(stream, path)
        with tarfile.open(fileobj=unpacked, mode="r|", tarinfo=_Header) as archive:
            yield from _stream_members(path, archive)
        # The checksums of the compressed stream come after the last member.
        while unpacked.read(1 << 20):
            pass


def _check_unpacked(path: str, size: int) -> None:
    if size > max(MIN_UNPACKED_BYTES, MAX_RATIO * os.path.getsize(path)):
        raise DataError(
            f"The archive {path} unpacks to more than {MAX_RATIO} times its size: unpack it yourself, if you trust it, and name the folder."
        )


class _Bounded:
    """An unpacked stream that refuses to become absurdly larger than the packed file."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self._stream, self._path, self._size = stream, path, 0

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._size += len(content)
        _check_unpacked(self._path, self._size)
        return content


class _Header(tarfile.TarInfo):
    """A member's header, of a size that can be: extended headers are read into memory whole, and a negative size never ends."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENDED and header.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header claims {header.size} bytes")
        return header


def _stream_members(path: str, archive: tarfile.TarFile) -> Iterator[tuple[str, bytes | BadImageError | None]]:
    for name, member in _tar_members(path, archive):
        if member.isdir():
            yield name, None
        elif member.size > MAX_FILE_BYTES:
            yield name, _too_large()
        else:
            yield name, _content(archive.extractfile(member))


def read_file(path: str) -> bytes:
    """Return the content of a file.

    Raises:
        BadImageError: if it is larger than an image may be.
        OSError: if it cannot be read.
    """
    return _content(open(path, "rb"))


def _folder(root: str) -> Files:
    files = Files(lambda path: read_file(os.path.join(root, path)))

    def walk(folder: str, parents: list[str]) -> None:
        for entry in sorted(os.scandir(os.path.join(root, folder)), key=lambda entry: entry.name):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if _is_litter(entry.name):
                continue
            if len(files.paths) + len(files.folders) >= MAX_MEMBERS:
                raise _too_many(f"The folder {root}")
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real in parents:
                    raise DataError(f"{root}/{path} is a link to a folder that holds it.")
                if len(parents) > MAX_DEPTH:
                    raise DataError(f"{root}/{path} lies more than {MAX_DEPTH} folders deep: no data set does.")
                files.folders.append(path)
                walk(path, [*parents, real])
            elif entry.is_file():
                files.paths.append(path)
            else:
                raise DataError(f"{root}/{path} is no regular file.")

    try:
        walk("", [os.path.realpath(root)])
    except OSError as error:
        raise DataError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error
    return files


def _zip(path: str) -> Files:
    members: dict[str, zipfile.ZipInfo] = {}
    with _damage_named(path):
        archive = zipfile.ZipFile(path)

    def read(name: str) -> bytes:
        if members[name].file_size > MAX_FILE_BYTES:
            raise _too_large()
        with _damage_named(path):
            return _content(archive.open(members[name]))

    files = Files(read)
    if len(archive.infolist()) > MAX_MEMBERS:
        raise _too_many(f"The archive {path}")
    if sum(info.compress_size for info in archive.infolist()) > os.path.getsize(path):
        raise DataError(f"The archive {path} is damaged: its members take more bytes than it has, so they overlap.")
    _check_unpacked(path, sum(info.file_size for info in archive.infolist()))
    for info in archive.infolist():
        # Some Windows programs write backslashes, against the format.
        name = _safe(path, info.filename.replace("\\", "/"))
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(path, info.filename, "is a link or a device")
        if info.flag_bits & 1:
            raise _unsafe(path, info.filename, "is encrypted")
        if not name or _is_litter(name):
            continue
        if info.is_dir():
            files.folders.append(name)
        else:
            members[name] = info
    files.paths = list(members)
    return files


def _tar(path: str) -> Files:
    places: dict[str, tuple[int, int]] = {}
    handle = open(path, "rb")  # noqa: SIM115 (it lives as long as the returned reader)
    lock = threading.Lock()

    def read(name: str) -> bytes:
        start, size = places[name]
        if size > MAX_FILE_BYTES:
            raise _too_large()
        with lock:
            handle.seek(start)
            return handle.read(size)

    files = Files(read)
    with _damage_named(path), tarfile.open(path, "r:", tarinfo=_Header) as archive:
        for name, member in _tar_members(path, archive):
            if member.isdir():
                files.folders.append(name)
            else:
                places[name] = (member.offset_data, member.size)
    files.paths = list(places)
    return files


def _tar_members(path: str, archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield the files and folders of a .tar with their checked paths."""
    for count in itertools.count(1):
        if (member := archive.next()) is None:
            break
        if count > MAX_MEMBERS:
            raise _too_many(f"The archive {path}")
        # tarfile keeps every member and every global header it has met, which for a million files is more than their pixels take.
        archive.members = []  # type: ignore[attr-defined]
        archive.pax_headers = {}
        name = _safe(path, member.name)
        if member.size < 0:
            raise _unsafe(path, member.name, f"claims {member.size} bytes")
        # tarfile would pass over the member block by block, also where the archive has long ended.
        _check_unpacked(path, member.offset_data + member.size)
        if member.issparse() or not (member.isreg() or member.isdir()):
            raise _unsafe(path, member.name, "is a link, a device or a sparse file")
        if name and not _is_litter(name):
            yield name, member
    _check_end(path, archive)


def _check_end(path: str, archive: tarfile.TarFile) -> None:
    # tarfile takes a damaged header for the end. A true end is at least two blocks of zeros, one of which it has read.
    rest = archive.fileobj.read(512)
    if len(rest) < 512 or any(rest):
        raise DataError(f"The archive {path} is damaged or truncated: it does not end as a .tar does.")


def _safe(archive: str, name: str) -> str:
    """Return a member's path without "." and trailing slashes, refusing paths that lead out of the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or (parts and len(parts[0]) == 2 and parts[0][1] == ":"):
        raise _unsafe(archive, name, "has a path outside the archive")
    if len(parts) > MAX_DEPTH or len(name.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
        raise _unsafe(archive, f"{name[:40]}...", f"lies more than {MAX_DEPTH} folders deep or has a path of more than {MAX_PATH_BYTES} bytes")
    return "/".join(parts)


def _unsafe(archive: str, member: str, reason: str) -> DataError:
    return DataError(f"The archive {archive} holds the member {member!r}, which {reason}: only plain files and folders are accepted.")


def _too_many(where: str) -> DataError:
    return DataError(f"{where} holds more than {MAX_MEMBERS:,} files and folders: no data set does.")


def _too_large() -> BadImageError:
    return BadImageError(f"has more than {MAX_FILE_BYTES >> 20} MB")


def _is_litter(path: str) -> bool:
    return any(part.startswith(".") or part.casefold() in _LITTER for part in path.split("/"))


def _content(handle: IO[bytes] | BinaryIO | None) -> bytes:
    assert handle is not None, "only regular files are read"
    with handle:
        content = handle.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise _too_large()
    return content


def _is_tar(path: str) -> bool:
    """Return whether a file begins with the header of a member; tarfile's own test also reads whatever size that claims."""
    block = _first_bytes(path, tarfile.BLOCKSIZE)
    with _damage_named(path):
        try:
            # An archive without members is nothing but zeros.
            return len(block) == tarfile.BLOCKSIZE and (not any(block) or bool(_Header.frombuf(block, "utf-8", "surrogateescape")))
        except tarfile.HeaderError:
            return False


def _first_bytes(path: str, count: int = 8) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(count)
    except FileNotFoundError as error:
        raise DataError(f"There is no data set {path}: needed is {ACCEPTED}.") from error
    except OSError as error:
        raise DataError(f"The data set {path} cannot be read: {error.strerror}.") from error


@contextlib.contextmanager
def _damage_named(path: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise DataError(f"The archive {path} is damaged or truncated ({reason}).") from error
