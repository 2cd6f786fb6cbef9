"""The ledger: every byte of a file is an item's, and no image passes for something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from carryover import artefacts, ledger
from carryover.errors import ArtefactError
from carryover.images import PackedImages, write_images
from carryover.memory import KIND, Memory
from carryover.rehearsal import KIND as REHEARSAL
from carryover.rehearsal import KeptImages

IMAGES = PackedImages(np.zeros((3, 8, 8, 1), dtype=np.uint8), np.array([0, 0, 1]))


@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "pq8"])
def test_the_bytes_of_a_memory_are_its_items(tmp_path: Path, storage: str) -> None:
    features = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    Memory(features, np.array([2, 3], dtype=np.int32), storage).write(tmp_path / "memory", regime="distill")
    rows = ledger.entries(tmp_path / "memory", "memory", KIND, regime="distill")
    assert sum(row.bytes for row in rows) == (tmp_path / "memory").stat().st_size
    tensors = artefacts.read(tmp_path / "memory", KIND).tensors
    assert {row.item: (row.type, row.shape, row.bytes) for row in rows if row.item != "header"} == {
        name: (array.dtype.name, list(array.shape), array.nbytes) for name, array in tensors.items()
    }
    assert [row.images for row in rows] == [0] * len(rows)
    ledger.check(rows, False, "distill x mlp")


def test_images_are_counted_packed_or_encoded(tmp_path: Path) -> None:
    write_images(tmp_path / "packed", IMAGES, REHEARSAL, store="images", count=3)
    data, offsets = np.zeros(30, dtype=np.uint8), np.array([0, 10, 20, 30])
    artefacts.write(tmp_path / "encoded", REHEARSAL, {"data": data, "offsets": offsets, "labels": IMAGES.labels}, encoding="encoded")
    for name, item in (("packed", "images"), ("encoded", "data")):
        rows = ledger.entries(tmp_path / name, "rehearsal", REHEARSAL)
        assert {row.item: row.images for row in rows if row.images} == {item: 3}
        ledger.check(rows, True, "rehearsal x none")
        with pytest.raises(
            ArtefactError, match=f"The rehearsal of lwf x none holds 3 images in '{item}', and the method promises to keep none there."
        ):
            ledger.check(rows, False, "lwf x none")


def test_images_in_a_memory_break_every_promise(tmp_path: Path) -> None:
    artefacts.write(tmp_path / "memory", KIND, {"features": IMAGES.images, "counts": np.array([2, 1], dtype=np.int32)})
    with pytest.raises(ArtefactError, match="memory of hybrid x mlp holds 3 images in 'features'"):
        ledger.check(ledger.entries(tmp_path / "memory", "memory", KIND), True, "hybrid x mlp")


def test_a_regime_that_keeps_no_image_says_so(tmp_path: Path) -> None:
    KeptImages.none((8, 8, 1), 4).write(tmp_path / "none")
    assert artefacts.read_header(tmp_path / "none", REHEARSAL)["fields"]["store"] == "none"
    assert sum(row.images for row in ledger.entries(tmp_path / "none", "rehearsal", REHEARSAL)) == 0
