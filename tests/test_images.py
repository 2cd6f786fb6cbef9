"""Image sets: the two encodings agree, artefacts round-trip, and large sets are written and read in pieces."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors.numpy import load_file

from carryover import artefacts
from carryover.artefacts import Stream
from carryover.errors import ArtefactError, DataError
from carryover.images import EncodedImages, ImageSet, PackedImages, concatenate, decode, encode_png, read_images, write_images

RANDOM = np.random.default_rng(0)
DTYPES = ["int64", "float64", "float32", "int32", "float16", "int8", "uint8"]


def packed(count: int = 5, shape: tuple[int, int, int] = (4, 6, 3)) -> PackedImages:
    return PackedImages(RANDOM.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count))


def encoded(images: PackedImages) -> EncodedImages:
    return EncodedImages.from_files([encode_png(image) for image in images.images], images.labels, images.shape)


def jpeg(seed: int, size: int = 24) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def pixels(images: ImageSet) -> np.ndarray:
    return images.gather(np.arange(len(images)))


def same(first: ImageSet, second: ImageSet) -> None:
    assert first.shape == second.shape
    assert np.array_equal(first.labels, second.labels) and first.labels.dtype == np.int64
    assert np.array_equal(pixels(first), pixels(second))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_the_encoded_set_has_the_pixels_of_the_packed_set(count: int, channels: int) -> None:
    images = packed(count, (4, 6, channels))
    same(encoded(images), images)


def test_jpeg_files_decode_to_the_pixels_pillow_reads() -> None:
    files = [jpeg(seed) for seed in range(20)]
    expected = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    images = EncodedImages.from_files(files, np.arange(20), (24, 24, 3))
    assert np.array_equal(pixels(images), expected)
    assert images.nbytes == sum(map(len, files)) + 8 * 21 + 8 * 20


@given(st.lists(st.integers(-5, 4), max_size=12))
def test_subset_then_gather_is_gather_of_the_same_rows(rows: list[int]) -> None:
    indices = np.array(rows, dtype=np.int64)
    images = packed()
    for held in (images, encoded(images)):
        assert np.array_equal(held.gather(indices), images.images[indices])
        part = held.subset(indices)
        assert np.array_equal(pixels(part), images.images[indices])
        assert np.array_equal(part.labels, images.labels[indices])


def test_what_is_gathered_is_a_copy() -> None:
    images = packed()
    images.gather(np.arange(5))[:] = 0
    assert images.images.any()


def test_relabelled_images_all_have_the_one_label() -> None:
    for images in (packed(), encoded(packed())):
        assert images.relabelled(7).labels.tolist() == [7] * 5


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_joined_sets_keep_their_order_whatever_their_encodings(first: bool, second: bool) -> None:
    one, two = packed(3), packed(4)
    joined = concatenate([encoded(one) if first else one, encoded(two) if second else two])
    assert joined.encoding == ("encoded" if first or second else "packed")
    same(joined, PackedImages(np.concatenate([one.images, two.images]), np.concatenate([one.labels, two.labels])))
    same(joined.subset(np.array([6, 0])), concatenate([two.subset(np.array([3])), one.subset(np.array([0]))]))


def test_an_empty_packed_set_does_not_change_the_encoding() -> None:
    images = encoded(packed())
    assert concatenate([packed(0), images]) is images
    assert len(concatenate([packed(0), packed(0)])) == 0


def test_images_of_different_shapes_are_not_joined() -> None:
    with pytest.raises(DataError, match=r"\(4, 6, 1\), \(4, 6, 3\)"):
        concatenate([packed(1), packed(1, (4, 6, 1))])
    with pytest.raises(DataError, match="no image sets"):
        concatenate([])


@settings(max_examples=30)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)), st.sampled_from([1, 3]), st.booleans())
def test_an_image_set_survives_its_artefact(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, channels: int, encode: bool) -> None:
    path = tmp_path_factory.mktemp("set") / "set.safetensors"
    images = PackedImages(np.repeat(values[..., None], channels, axis=3), np.arange(len(values)) - 1)
    held = encoded(images) if encode else images
    write_images(path, held, "exemplars", task="3")
    found, fields = read_images(path, "exemplars", task="3")
    same(found, images)
    assert fields == {"task": "3", "encoding": held.encoding, "shape": list(images.shape)}
    assert found.encoding == held.encoding


@pytest.mark.parametrize("encode", [True, False])
def test_an_empty_set_survives_its_artefact(tmp_path: Path, encode: bool) -> None:
    write_images(tmp_path / "none", encoded(packed(0)) if encode else packed(0), "exemplars")
    assert read_images(tmp_path / "none", "exemplars")[0].gather(np.empty(0, dtype=np.int64)).shape == (0, 4, 6, 3)


def test_packed_images_that_were_read_can_be_written_to(tmp_path: Path) -> None:
    write_images(tmp_path / "set", packed(), "exemplars")
    found, _ = read_images(tmp_path / "set", "exemplars")
    assert isinstance(found, PackedImages) and found.images.flags.writeable


def test_an_encoded_set_stays_on_disk_through_subsets_and_joins(tmp_path: Path) -> None:
    write_images(tmp_path / "set", encoded(packed()), "exemplars")
    found, _ = read_images(tmp_path / "set", "exemplars")
    joined = concatenate([found.subset(np.array([4, 2])), found.relabelled(3)])
    assert isinstance(joined, EncodedImages)
    for piece in joined._pieces:
        base = piece
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base  # type: ignore[assignment]
        assert isinstance(base, np.memmap)


def test_a_subset_writes_its_own_files_alone(tmp_path: Path) -> None:
    images = encoded(packed())
    write_images(tmp_path / "part", images.subset(np.array([3, 1])), "exemplars")
    write_images(tmp_path / "same", encoded(PackedImages(pixels(images)[[3, 1]], np.array([3, 1]))), "exemplars")
    assert (tmp_path / "part").read_bytes() == (tmp_path / "same").read_bytes()


def test_a_large_encoded_set_is_written_in_bounded_memory(tmp_path: Path) -> None:
    size = 96 << 20
    data = np.memmap(tmp_path / "files", dtype=np.uint8, mode="w+", shape=(size,))
    images = EncodedImages(data, np.arange(0, size + 1, 1 << 16), np.zeros(size >> 16, dtype=np.int64), (8, 8, 3))
    tracemalloc.start()
    write_images(tmp_path / "set", images, "exemplars")
    read_images(tmp_path / "set", "exemplars")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20
    assert (tmp_path / "set").stat().st_size > size


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=4),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: hnp.arrays(
                dtype,
                hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
                elements=st.integers(0, 100),
            )
        ),
        max_size=6,
    ),
    st.text(max_size=4),
    st.integers(1, 3),
)
def test_a_streamed_artefact_has_the_bytes_of_a_written_one(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray], field: str, pieces: int
) -> None:
    folder = tmp_path_factory.mktemp("stream")
    streams = {name: Stream(array.dtype, array.shape, np.array_split(array, pieces)) for name, array in tensors.items()}
    artefacts.write(folder / "written", "thing", tensors, field=field)
    artefacts.write_stream(folder / "streamed", "thing", streams, field=field)
    assert (folder / "streamed").read_bytes() == (folder / "written").read_bytes()
    mapped = artefacts.read_mapped(folder / "streamed", "thing", field=field)
    for found in (load_file(folder / "streamed"), mapped.tensors):
        assert set(found) == set(tensors)
        assert all(np.array_equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)


def test_a_stream_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "set"
    write_images(path, packed(), "exemplars")
    before = path.read_bytes()
    nan = Stream(np.dtype(np.float32), (2,), [np.zeros(1, np.float32), np.full(1, np.nan, np.float32)])
    with pytest.raises(ArtefactError, match="not finite"):
        artefacts.write_stream(path, "exemplars", {"x": nan})
    with pytest.raises(ValueError, match="has 8 bytes and its chunks 4"):
        artefacts.write_stream(path, "exemplars", {"x": Stream(np.dtype(np.float32), (2,), [np.zeros(1, np.float32)])})
    with pytest.raises(ValueError, match="chunk of float64"):
        artefacts.write_stream(path, "exemplars", {"x": Stream(np.dtype(np.float32), (2,), [np.zeros(2)])})
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("encode", [True, False])
def test_a_truncated_or_foreign_file_is_one_sentence(tmp_path: Path, encode: bool) -> None:
    path = tmp_path / "set"
    write_images(path, encoded(packed()) if encode else packed(), "exemplars", task="1")
    with pytest.raises(ArtefactError, match="holds a 'exemplars' artefact where"):
        read_images(path, "task-images")
    with pytest.raises(ArtefactError, match="records task '1' where '2'"):
        read_images(path, "exemplars", task="2")
    with pytest.raises(ArtefactError, match="There is no file"):
        read_images(tmp_path / "other", "exemplars")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtefactError, match="truncated"):
        read_images(path, "exemplars")


@pytest.mark.parametrize(
    ("fields", "tensors"),
    [
        ({}, {}),
        ({"encoding": "zip", "shape": [1, 1, 1]}, {}),
        ({"encoding": "packed", "shape": [1, 1, 1]}, {}),
        ({"encoding": "packed", "shape": [2, 1, 1]}, {"images": np.zeros((1, 1, 1, 1), np.uint8), "labels": np.zeros(1, np.int64)}),
        ({"encoding": "packed", "shape": [1, 1, 1]}, {"images": np.zeros((1, 1, 1, 1), np.uint8), "labels": np.zeros(2, np.int64)}),
        ({"encoding": "packed", "shape": [1, 1, 1]}, {"images": np.zeros((1, 1, 1, 1), np.float32), "labels": np.zeros(1, np.int64)}),
        *(
            (
                {"encoding": "encoded", "shape": shape},
                {"data": np.zeros(9, np.uint8), "offsets": np.array(offsets), "labels": np.zeros(2, np.int64)},
            )
            for shape, offsets in [
                ([1, 1, 3], [0, 5, 10]),
                ([1, 1, 3], [0, 5, 4]),
                ([1, 1, 3], [-1, 5, 9]),
                ([1, 1, 3], [0, 9]),
                ([1, 1, 3], []),
                ([1, 1, 2], [0, 5, 9]),
                (None, [0, 5, 9]),
            ]
        ),
    ],
)
def test_an_artefact_whose_parts_disagree_is_no_image_set(tmp_path: Path, fields: dict[str, object], tensors: dict[str, np.ndarray]) -> None:
    artefacts.write(tmp_path / "set", "exemplars", tensors, **fields)
    with pytest.raises(ArtefactError, match="set"):
        read_images(tmp_path / "set", "exemplars")


def test_a_damaged_file_in_an_encoded_set_is_one_sentence() -> None:
    good = encode_png(packed(1, (20, 30, 3)).images[0])
    for file in (b"", good[:900], b"x" * 99):
        with pytest.raises(ArtefactError, match="no readable"):
            decode(file, (20, 30, 3))
    with pytest.raises(ArtefactError, match="20 x 30 where 30 x 20 is needed"):
        decode(good, (30, 20, 3))
    with pytest.raises(ArtefactError, match="no readable"):
        EncodedImages.from_files([good] * 39 + [good[:900]], np.zeros(40, np.int64), (20, 30, 3)).gather(np.arange(40))


def test_no_room_is_made_for_images_of_a_shape_that_they_have_not() -> None:
    files = [encode_png(image) for image in packed(40, (8, 8, 1)).images]
    # As pixels these would take 4 TB.
    claimed = EncodedImages.from_files(files * 1000, np.zeros(40_000, np.int64), (10_000, 10_000, 1))
    with pytest.raises(ArtefactError, match="8 x 8 where 10000 x 10000 is needed"):
        claimed.gather(np.arange(40_000))


@pytest.mark.parametrize("shape", [(24, 24), (24, 24, 2), ("none", 24, 3), (24, 0, 3), (24, 2.5, 3), (24, None, 1), (2**32, 8, 1)])
def test_encoded_images_need_a_shape_of_three_whole_numbers(shape: Any) -> None:
    with pytest.raises(DataError, match="shape"):
        EncodedImages.from_files([], np.zeros(0, dtype=np.int64), shape)
