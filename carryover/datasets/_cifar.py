"""CIFAR-10 and CIFAR-100: torchvision downloads them, and their pickles are read here, after their md5 and as plain data alone."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from carryover.datasets._classes import ClassImages, Loaded
from carryover.errors import DataError
from carryover.images import PackedImages

# What a pickled numpy array names; before version 2 numpy's core had no underscore.
_ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core"))}


class PlainUnpickler(pickle.Unpickler):
    """Reads pickles of plain containers and numpy arrays; any other class or function in them, which loading might call, is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names.

        Raises:
            UnpicklingError: if it is no part of a numpy array.
        """
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no data needs")
        return super().find_class(module, name)


def load_cifar(name: str, root: str) -> Loaded:
    """Return torchvision's data set `name` ("CIFAR10" or "CIFAR100") from the folder `root`, downloading it if it is missing.

    Raises:
        DataError: if it is missing or damaged and cannot be downloaded (it says which file to put where), or a file of it holds
            anything but data.
    """
    # Importing torchvision takes seconds.
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    cls = getattr(datasets, name)
    folder = Path(root) / cls.base_folder
    md5s = dict([*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])])
    try:
        if not all(check_integrity(folder / file, md5) for file, md5 in md5s.items()):
            download_and_extract_archive(cls.url, root, filename=cls.filename, md5=cls.tgz_md5)
        content = {file: _plain(folder / file, md5) for file, md5 in md5s.items()}
        names = [str(name) for name in content[cls.meta["filename"]][cls.meta["key"]]]
        parts = [_images([content[file] for file, _ in listed], len(names)) for listed in (cls.train_list, cls.test_list)]
    # Beside OSError (no network, no space), torchvision raises RuntimeError for a wrong md5.
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(_advice(cls, name, root, error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"The files of {name} in {folder} have the right md5 and hold no images ({error}).") from error
    order = sorted(range(len(names)), key=names.__getitem__)
    return Loaded([names[label] for label in order], _classes(names, order, *parts))


def _plain(path: Path, md5: str) -> Any:
    """Return what a pickle holds; the bytes whose md5 was compared are the bytes that are read."""
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise RuntimeError(f"the file {path} that is there has the md5 {found}")
    try:
        return PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # A pickle is a program, and fails in any way whatever.
        raise DataError(f"The file {path} is not read: {str(error).strip().rstrip('.') or type(error).__name__}.") from error


def _images(batches: list[Any], classes: int) -> PackedImages:
    """Return the images of batches, colours last: the files hold them as rows of 3 x 32 x 32 bytes."""
    labels = np.concatenate([np.asarray(batch["labels" if "labels" in batch else "fine_labels"], dtype=np.int64) for batch in batches])
    pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} for {classes} classes")
    return PackedImages(np.ascontiguousarray(pixels), labels)


def _classes(names: list[str], order: list[int], train: PackedImages, test: PackedImages) -> Iterator[ClassImages]:
    for label in order:
        yield ClassImages(names[label], *(part.subset(np.flatnonzero(part.labels == label)).relabelled(0) for part in (train, test)))


def _advice(cls: Any, name: str, root: str, error: Exception) -> str:
    archive = Path(root) / cls.filename
    reason = str(error).strip().rstrip(".") or type(error).__name__
    if archive.is_file():
        with archive.open("rb") as handle:
            found = hashlib.file_digest(handle, "md5").hexdigest()
        if found != cls.tgz_md5:
            reason = f"the file {archive} that is there has the md5 {found}; {reason}"
    return (
        f"{name} cannot be downloaded from {cls.url} ({reason}): place the file {cls.filename}, "
        f"whose md5 is {cls.tgz_md5}, in the folder {root} (and remove {cls.base_folder} from there)."
    )
