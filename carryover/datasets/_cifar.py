"""CIFAR-10 and CIFAR-100 through torchvision, which checks the md5 of every file before it unpickles any."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from carryover.datasets._classes import ClassImages, Loaded
from carryover.errors import DataError
from carryover.images import PackedImages


def load_cifar(name: str, root: str) -> Loaded:
    """Return torchvision's data set `name` ("CIFAR10" or "CIFAR100") from the folder `root`, downloading it if it is missing.

    Raises:
        DataError: if it is missing or damaged and cannot be downloaded; it says which file to put where.
    """
    # Importing torchvision takes seconds.
    from torchvision import datasets

    cls = getattr(datasets, name)
    try:
        # The first call downloads and checks; the second reads what is then there.
        train, test = cls(root, train=True, download=True), cls(root, train=False)
    # Beside OSError (no network, no space), torchvision raises RuntimeError for a wrong md5.
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(_advice(cls, name, root, error)) from error
    order = sorted(range(len(train.classes)), key=lambda label: str(train.classes[label]))
    return Loaded([train.classes[label] for label in order], _classes(train, test, order))


def _classes(train: Any, test: Any, order: list[int]) -> Iterator[ClassImages]:
    for label in order:
        yield ClassImages(train.classes[label], _of_class(train, label), _of_class(test, label))


def _of_class(dataset: Any, label: int) -> PackedImages:
    own = dataset.data[np.asarray(dataset.targets) == label]
    return PackedImages(np.ascontiguousarray(own), np.zeros(len(own), dtype=np.int64))


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
