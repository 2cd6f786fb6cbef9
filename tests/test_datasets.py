"""Data sets: every storage gives the same images, hostile files are named, and classes keep their labels and test sets."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import stat
import struct
import tarfile
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carryover import registry
from carryover.classes import read_register
from carryover.datasets import ClassImages, Loaded, _files, held_out, prepare_dataset, read_class
from carryover.datasets._pixels import BadImageError, convert
from carryover.errors import ArtefactError, ConfigurationError, DataError
from carryover.images import ImageSet, PackedImages

Contents = dict[str, bytes]


def picture(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def flat(classes: int = 3, images: int = 5) -> Contents:
    return {f"class {c}/{i}.jpg": file_of(picture(100 * c + i), "JPEG") for c in range(classes) for i in range(images)}


def split(test: str = "val") -> Contents:
    return {
        f"{part}/c{c}/{i}.png": file_of(picture(100 * c + i + (10 if part == test else 0)))
        for c in range(2)
        for part in ("train", test)
        for i in range(2)
    }


def in_folder(path: Path, contents: Contents) -> str:
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return str(path)


def in_tar(path: Path, contents: Contents, mode: Any = "w", extra: tarfile.TarInfo | None = None) -> str:
    with tarfile.open(path, mode) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if extra is not None:
            archive.addfile(extra)
    return str(path)


def in_zip(path: Path, contents: Contents) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return str(path)


STORAGES: dict[str, Callable[[Path, Contents], str]] = {
    "folder": in_folder,
    "tar": in_tar,
    "tar.gz": lambda path, contents: in_tar(path, contents, "w:gz"),
    "tar.bz2": lambda path, contents: in_tar(path, contents, "w:bz2"),
    "tar.xz": lambda path, contents: in_tar(path, contents, "w:xz"),
    "zip": in_zip,
}


def load(path: str, **parameters: Any) -> list[ClassImages]:
    loaded = registry.build("datasets", "images", {"path": path, "size": 12} | parameters).load()
    classes = list(loaded.classes)
    assert [images.name for images in classes] == loaded.names
    return classes


def pixels(images: ImageSet) -> np.ndarray:
    return images.gather(np.arange(len(images)))


def rows(classes: list[ClassImages]) -> list[tuple[str, bytes, bytes]]:
    return [(images.name, pixels(images.train).tobytes(), pixels(images.test).tobytes()) for images in classes]


def pixel_of(file: bytes, size: int = 1, channels: int = 3) -> list[int]:
    return list(convert(file, size, channels, encoded=False))


# Storage and layout


@pytest.mark.parametrize("storage", STORAGES)
def test_every_storage_gives_the_same_images(tmp_path: Path, storage: str) -> None:
    contents = flat()
    expected = load(in_folder(tmp_path / "reference", contents))
    # In another order, as archives made elsewhere may have it.
    found = load(STORAGES[storage](tmp_path / f"images.{storage}", dict(reversed(contents.items()))))
    assert rows(found) == rows(expected)
    assert [(len(images.train), len(images.test)) for images in found] == [(4, 1)] * 3


@pytest.mark.parametrize("storage", ["folder", "tar", "tar.xz", "zip"])
@pytest.mark.parametrize("wrapper", ["", "wrapped/", "twice/wrapped/"])
@pytest.mark.parametrize("test", ["test", "val", "Validation"])
def test_the_test_folder_is_the_test_set(tmp_path: Path, storage: str, wrapper: str, test: str) -> None:
    contents = {wrapper + name: content for name, content in split(test).items()}
    litter = {"classes.csv": b"c0,cat", "train/readme.txt": b"", "extra/notes.txt": b"", ".git/config": b"", "train/.cache/x": b""}
    litter |= {"train/c0/.hidden": b"", "train/c0/Thumbs.db": b"", "__MACOSX/train/c0/._0.png": b""}
    contents |= {wrapper + name: content for name, content in litter.items()}
    found = load(STORAGES[storage](tmp_path / "images", contents))
    assert [(images.name, len(images.train), len(images.test)) for images in found] == [("c0", 2, 2), ("c1", 2, 2)]
    assert np.array_equal(pixels(found[1].train)[0], np.asarray(picture(100)))
    assert np.array_equal(pixels(found[1].test)[1], np.asarray(picture(111)))


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    contents = {f"{name}/{i}.png": file_of(picture(i)) for name in ("bus", "train") for i in range(2)}
    assert [images.name for images in load(in_folder(tmp_path / "images", contents))] == ["bus", "train"]


def test_a_single_class_is_a_data_set(tmp_path: Path) -> None:
    assert [images.name for images in load(in_folder(tmp_path / "images", flat(1)))] == ["class 0"]


def test_unlabelled_test_images_do_not_hide_the_validation_folder(tmp_path: Path) -> None:
    found = load(in_folder(tmp_path / "images", split() | {"test/1.png": file_of(picture(1))}))
    assert [len(images.test) for images in found] == [2, 2]


@pytest.mark.parametrize("storage", ["folder", "tar", "tar.gz", "zip"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train/empty/": None}, "'train/empty' without images"),
        ({"train/c9/1.png": b""}, "'c9' in 'train' and not in 'val'"),
        ({"val/c9/1.png": b""}, "'c9' in 'val' and not in 'train'"),
        ({"train/c0/deep/1.png": b""}, "the folder 'train/c0/deep' where images of a class are expected"),
        ({"train/caf\u00e9/1.png": b"", "train/cafe\u0301/1.png": b""}, "differ in Unicode form only"),
        ({"train/ /1.png": b""}, "empty name"),
    ],
)
def test_a_layout_that_does_not_fit_is_named(tmp_path: Path, storage: str, change: dict[str, Any], message: str) -> None:
    contents = split() | {name: b"" if content is None else content for name, content in change.items()}
    path = tmp_path / "images"
    if storage == "folder":
        in_folder(path, {name: content for name, content in contents.items() if not name.endswith("/")})
        for name in contents:
            (path / name).mkdir(parents=True, exist_ok=True) if name.endswith("/") else None
    elif storage == "zip":
        in_zip(path, contents)
    else:
        folder = tarfile.TarInfo("train/empty")
        folder.type = tarfile.DIRTYPE
        files = {name: content for name, content in contents.items() if not name.endswith("/")}
        in_tar(path, files, "w:gz" if storage == "tar.gz" else "w", folder if len(files) < len(contents) else None)
    with pytest.raises(DataError, match=message):
        load(str(path), on_bad="skip")


def test_a_folder_without_class_folders_says_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no class folders: accepted are <class>/<image>"):
        load(in_folder(tmp_path / "images", {"1.png": file_of(picture(1))}))
    with pytest.raises(DataError, match="test folder 'val' without the class folders of 'train'"):
        load(in_folder(tmp_path / "more", {"train/c0/1.png": b"", "val/1.png": b""}))


def test_something_that_is_no_data_set_says_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no data set .*\.zip"):
        load(str(tmp_path / "none"))
    for content in (b"", b"hello" * 300):
        (tmp_path / "text").write_bytes(content)
        with pytest.raises(DataError, match=r"is no data set: needed is a folder or an archive"):
            load(str(tmp_path / "text"))


def test_links_to_images_are_followed_and_circles_are_named(tmp_path: Path) -> None:
    path = in_folder(tmp_path / "images", flat(1))
    os.symlink(tmp_path / "images" / "class 0", tmp_path / "images" / "class 1")
    assert [len(images.train) for images in load(path)] == [4, 4]
    os.symlink(tmp_path / "images", tmp_path / "images" / "class 0" / "up")
    with pytest.raises(DataError, match="class 0/up is a link to a folder that holds it"):
        load(path)


def test_a_pipe_in_a_folder_is_named_and_not_opened(tmp_path: Path) -> None:
    path = in_folder(tmp_path / "images", flat(1))
    os.mkfifo(tmp_path / "images" / "class 0" / "pipe")
    with pytest.raises(DataError, match="class 0/pipe is no regular file"):
        load(path)


# Test sets


def test_held_out_images_do_not_depend_on_other_classes(tmp_path: Path) -> None:
    before = load(in_folder(tmp_path / "images", flat(2, 20)))
    after = load(in_folder(tmp_path / "images", flat(4, 20) | {"class 2/new.png": file_of(picture(7))}))
    assert rows(after)[:2] == rows(before)
    assert len({images[2] for images in rows(after)}) == 4
    other = load(str(tmp_path / "images"), seed=1)
    assert rows(other)[0] != rows(before)[0]


@pytest.mark.parametrize(("count", "fraction", "expected"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.2, 2), (100, 0.25, 25)])
def test_training_and_held_out_images_part_the_class(count: int, fraction: float, expected: int) -> None:
    train, test = held_out(count, fraction, 0, "ant")
    assert len(test) == expected
    assert sorted([*train, *test]) == list(range(count))
    assert list(train) == sorted(train) and list(test) == sorted(test)


def test_each_class_and_seed_has_a_draw_of_its_own() -> None:
    draws = {tuple(held_out(50, 0.2, seed, name)[1]) for seed in (0, 1) for name in ("ant", "bee")}
    assert len(draws) == 4


def test_one_image_is_enough_only_beside_a_test_folder(tmp_path: Path) -> None:
    one = file_of(picture(1))
    assert len(load(in_folder(tmp_path / "split", {"train/a/1.png": one, "test/a/1.png": one}))[0].train) == 1
    with pytest.raises(DataError, match=r"Class 'b' has 1 image\(s\): holding out a test set needs at least 2"):
        load(in_folder(tmp_path / "flat", {"a/1.png": one, "a/2.png": one, "b/1.png": one}))


# Encodings


@pytest.mark.parametrize("storage", ["folder", "tar.xz"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 12, 16])
def test_encoded_images_have_the_pixels_of_packed_ones(tmp_path: Path, storage: str, channels: int, size: int) -> None:
    contents = flat(1, 8)
    contents |= {f"class 0/{mode}.png": file_of(picture(7, (9, 14), mode)) for mode in ("L", "LA", "RGBA", "P", "1")}
    path = STORAGES[storage](tmp_path / "images", contents)
    packed = load(path, channels=channels, size=size)
    encoded = load(path, channels=channels, size=size, encoding="jpeg")
    assert (packed[0].train.encoding, encoded[0].train.encoding) == ("packed", "encoded")
    assert packed[0].train.shape == encoded[0].train.shape == (size, size, channels)
    assert rows(packed) == rows(encoded)


def test_a_jpeg_of_the_right_size_keeps_its_bytes() -> None:
    for file in (file_of(picture(1), "JPEG"), file_of(picture(1), "PNG")):
        assert convert(file, 12, 3, encoded=True) == file
        for size, channels in ((12, 1), (11, 3)):
            assert convert(file, size, channels, encoded=True).startswith(b"\x89PNG")
    exif = Image.Exif()
    exif[0x0112] = 3
    assert convert(file_of(picture(1), "JPEG", exif=exif), 12, 3, encoded=True).startswith(b"\x89PNG")
    assert convert(file_of(picture(1, mode="RGBA")), 12, 3, encoded=True).startswith(b"\x89PNG")
    assert convert(file_of(picture(1), "BMP"), 12, 3, encoded=True).startswith(b"\x89PNG")


# Pixels


def test_grey_and_colour_become_each_other() -> None:
    grey, red = file_of(Image.new("L", (2, 2), 77)), file_of(Image.new("RGB", (2, 2), (255, 0, 0)))
    assert pixel_of(grey) == [77, 77, 77] and pixel_of(grey, channels=1) == [77]
    assert pixel_of(red) == [255, 0, 0] and pixel_of(red, channels=1) == [76]
    assert pixel_of(file_of(Image.new("1", (2, 2), 1)), channels=1) == [255]


def test_transparent_images_lie_on_white() -> None:
    assert pixel_of(file_of(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))) == [255, 255, 255]
    assert pixel_of(file_of(Image.new("RGBA", (2, 2), (255, 0, 0, 51)))) == [255, 204, 204]
    assert pixel_of(file_of(Image.new("LA", (2, 2), (0, 51))), channels=1) == [204]
    for size in (1, 2):
        assert pixel_of(file_of(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3)), size)[:3] == [255, 255, 255]


def test_palette_images_become_colours_and_their_transparent_entry_white() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([9, 9, 9, 10, 20, 30])
    assert pixel_of(file_of(image)) == [10, 20, 30]
    assert pixel_of(file_of(image, transparency=1)) == [255, 255, 255]
    assert pixel_of(file_of(image, "GIF")) == [10, 20, 30]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("value", "expected"), [(0, 0), (65535, 255), (257 * 100, 100), (257 * 100 + 128, 100), (257 * 100 + 129, 101)])
def test_16_bit_greys_are_divided_by_257(kind: str, value: int, expected: int) -> None:
    file = file_of(Image.fromarray(np.full((2, 2), value, dtype=np.uint16)), kind)
    assert pixel_of(file, channels=1) == [expected]
    assert pixel_of(file) == [expected] * 3


def test_pixels_without_a_known_range_are_refused() -> None:
    with pytest.raises(BadImageError, match="floating-point"):
        pixel_of(file_of(Image.new("F", (2, 2), 0.5), "TIFF"))
    with pytest.raises(BadImageError, match="more than 16 bits"):
        pixel_of(file_of(Image.new("I", (2, 2), 70000), "TIFF"))


def test_cmyk_becomes_rgb() -> None:
    red, green, blue = pixel_of(file_of(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "JPEG", quality=100))
    assert red > 250 and green < 5 and blue < 5


@pytest.mark.parametrize(("orientation", "corner"), [(1, 0), (2, 1), (3, 3), (4, 2), (5, 0), (6, 2), (7, 3), (8, 1)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int, corner: int) -> None:
    values = np.array([[10, 80], [150, 220]], dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = file_of(Image.fromarray(values).convert("RGB"), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    # The pixel that the upright image begins with.
    assert pixel_of(file, size=2, channels=1)[0] == values.ravel()[corner]


def test_the_centre_square_is_shrunk_by_averaging_and_enlarged_smoothly() -> None:
    values = np.zeros((2, 6), dtype=np.uint8)
    values[:, 2:4] = [[0, 40], [80, 120]]
    values[:, [0, 1, 4, 5]] = 255
    wide, tall = (file_of(Image.fromarray(array)) for array in (values, values.T))
    assert pixel_of(wide, channels=1) == pixel_of(tall, channels=1) == [60]
    assert pixel_of(wide, size=2, channels=1) == [0, 40, 80, 120]
    assert pixel_of(file_of(Image.fromarray(np.array([[0, 100, 200, 40]] * 4, np.uint8))), size=2, channels=1)[:2] == [50, 120]
    assert pixel_of(file_of(Image.fromarray(np.array([[0, 80]] * 2, np.uint8))), size=4, channels=1)[:4] == [0, 20, 60, 80]


# Bad files


def header_of_a_bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


BAD = {
    "text.jpg": (b"no image", "is no image of a known format"),
    "empty.jpg": (b"", "is no image of a known format"),
    "cut.jpg": (file_of(picture(1), "JPEG")[:-200], "cannot be decoded"),
    "bomb.png": (header_of_a_bomb(10_000, 10_001), "has more than 100,000,000 pixels"),
    "larger.png": (header_of_a_bomb(60_000, 60_000), "has more than 100,000,000 pixels"),
    "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is no image of a known format"),
}


@pytest.mark.parametrize("storage", ["folder", "tar.gz"])
@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_image_is_named_or_passed_over_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str, name: str
) -> None:
    content, reason = BAD[name]
    path = STORAGES[storage](tmp_path / "images", flat(2) | {f"class 1/{name}": content})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(DataError, match=f"'class 1/{name}' {reason}.* 'skip'"):
            load(path)
        found = load(path, on_bad="skip")
    assert [len(images.train) for images in found] == [4, 4]
    error = capsys.readouterr().err
    assert error.startswith("warning: ") and f"'class 1/{name}' {reason}" in error and error.count("\n") == 1


@pytest.mark.parametrize("storage", STORAGES)
def test_a_file_of_too_many_bytes_is_not_read(tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = STORAGES[storage](tmp_path / "images", flat(1) | {"class 0/large.png": bytes(5000)})
    monkeypatch.setattr(_files, "MAX_FILE_BYTES", 4000)
    with pytest.raises(DataError, match=r"large.png' has more than"):
        load(path)


def test_a_class_of_bad_images_alone_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image that can be read for the class 'b'"):
        load(in_folder(tmp_path / "images", flat(1) | {"b/1.png": b"x", "b/2.png": b""}), on_bad="skip")


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = in_folder(tmp_path / "images", flat(1))

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_files, "_content", refuse)
    with pytest.raises(DataError, match=r"'class 0/0.jpg' cannot be read \(Permission denied\)"):
        load(path)


# Hostile and damaged archives


def hostile(kind: bytes, name: str = "class 0/evil.png") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "../../../etc/passwd"
    return member


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize(
    "member",
    [
        hostile(tarfile.REGTYPE, "../evil.png"),
        hostile(tarfile.REGTYPE, "class 0/../../evil.png"),
        hostile(tarfile.REGTYPE, "/evil.png"),
        hostile(tarfile.REGTYPE, "C:/evil.png"),
        hostile(tarfile.SYMTYPE),
        hostile(tarfile.LNKTYPE),
        hostile(tarfile.CHRTYPE),
        hostile(tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type!r}",
)
def test_a_tar_member_that_leads_elsewhere_is_named(tmp_path: Path, mode: str, member: tarfile.TarInfo) -> None:
    path = in_tar(tmp_path / "images.tar", flat(1), mode, member)
    with pytest.raises(DataError, match=rf"member '{member.name}', which (has a path outside|is a link)"):
        load(path)
    assert os.listdir(tmp_path) == ["images.tar"]


@pytest.mark.parametrize("name", ["../evil.png", "class 0/../../evil.png", "/evil.png", "C:\\evil.png", "..\\evil.png", "link.png", "secret.png"])
def test_a_zip_member_that_leads_elsewhere_is_named(tmp_path: Path, name: str) -> None:
    path = in_zip(tmp_path / "images.zip", flat(1))
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    if name == "link.png":
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, b"/etc/passwd")
    if name == "secret.png":
        content = bytearray(Path(path).read_bytes())
        # The bit that says "encrypted", in the last entry of the directory.
        content[content.rindex(b"PK\x01\x02") + 8] |= 1
        Path(path).write_bytes(content)
    with pytest.raises(DataError, match=r"evil.png', which has a path outside|link.png', which is a link|secret.png', which is encrypted"):
        load(path)
    assert os.listdir(tmp_path) == ["images.zip"]


@pytest.mark.parametrize("storage", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.97])
def test_a_truncated_archive_is_an_error(tmp_path: Path, storage: str, share: float) -> None:
    path = STORAGES[storage](tmp_path / "images", flat(2, 12))
    content = Path(path).read_bytes().rstrip(b"\0") if storage == "tar" else Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"damaged or truncated|is no data set"):
        load(path)


@pytest.mark.parametrize("storage", ["tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_that_lacks_its_checksum_is_an_error(tmp_path: Path, storage: str) -> None:
    path = STORAGES[storage](tmp_path / "images", flat())
    Path(path).write_bytes(Path(path).read_bytes()[:-3])
    with pytest.raises(DataError, match="is damaged or truncated"):
        load(path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_with_a_damaged_header_is_an_error(tmp_path: Path, mode: str) -> None:
    content = bytearray(Path(in_tar(tmp_path / "plain", flat())).read_bytes())
    position = content.index(b"class 2/0.jpg")
    content[position] ^= 1
    path = tmp_path / "images"
    if mode == "w:gz":
        import gzip

        path.write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"does not end as a \.tar does"):
        load(str(path))


def test_a_zip_with_a_damaged_member_is_an_error(tmp_path: Path) -> None:
    path = Path(in_zip(tmp_path / "images.zip", flat()))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"images\.zip is damaged"):
        load(str(path))


def extended(kind: bytes, size: int) -> tarfile.TarInfo:
    """Return the header of a header, which claims `size` bytes."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, size
    return member


def with_records(**records: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo("class 0/1.png")
    member.pax_headers = records
    return member


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize(
    ("member", "message"),
    [
        *((extended(kind, 2**40), "a header claims 1099511627776 bytes") for kind in (b"x", b"g", b"L", b"K", b"X")),
        (extended(b"L", -512), "a header claims -512 bytes"),
        (extended(tarfile.REGTYPE, -1024), "a header claims -1024 bytes"),
        (with_records(size="-1024"), "claims -1024 bytes"),
        (with_records(size="1" + "0" * 30), "unpacks to more than 200 times its size"),
        (with_records(path="a/" * 40_000 + "1.png"), "lies more than 32 folders deep or has a path of more than 1024 bytes"),
        (with_records(path="a" * 2000), "path of more than 1024 bytes"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value.type!r} {value.size}",
)
def test_a_tar_header_that_claims_absurd_sizes_is_refused(tmp_path: Path, mode: str, member: tarfile.TarInfo, message: str) -> None:
    path = tmp_path / "images.tar"
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT if member.pax_headers else tarfile.GNU_FORMAT) as archive:
        archive.addfile(member)
        for name, content in flat().items():
            archive.addfile(tarfile.TarInfo(name), io.BytesIO(content))
    with pytest.raises(DataError, match=message):
        load(str(path))


@pytest.mark.parametrize("storage", ["tar.gz", "tar.xz", "zip"])
def test_an_archive_that_unpacks_to_absurd_sizes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str) -> None:
    path = STORAGES[storage](tmp_path / "images", flat() | {"class 0/zeros.png": bytes(8 << 20)})
    monkeypatch.setattr(_files, "MIN_UNPACKED_BYTES", 4 << 20)
    with pytest.raises(DataError, match="unpacks to more than 200 times its size"):
        load(path, on_bad="skip")
    monkeypatch.setattr(_files, "MIN_UNPACKED_BYTES", 16 << 20)
    assert len(load(path, on_bad="skip")) == 3


@pytest.mark.parametrize("storage", STORAGES)
def test_more_members_than_any_data_set_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str) -> None:
    path = STORAGES[storage](tmp_path / "images", flat())
    monkeypatch.setattr(_files, "MAX_MEMBERS", 14)
    with pytest.raises(DataError, match="holds more than 14 files and folders"):
        load(path)


def test_a_zip_whose_members_overlap_is_refused(tmp_path: Path) -> None:
    path = Path(in_zip(tmp_path / "images.zip", {f"class {i}/1.png": os.urandom(1 << 16) for i in range(4)}))
    with zipfile.ZipFile(path, "a") as archive:
        for info in list(archive.infolist()):
            again = zipfile.ZipInfo(f"class 4/{info.filename[6:7]}.png")
            again.compress_size, again.file_size, again.CRC = info.compress_size, info.file_size, info.CRC
            again.header_offset, again.compress_type = info.header_offset, info.compress_type
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="they overlap"):
        load(str(path))


def test_folders_in_folders_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "/".join("a" * 500)).mkdir(parents=True)
    with pytest.raises(DataError, match="more than 32 folders deep"):
        load(str(tmp_path / "images"))


@pytest.mark.parametrize("storage", ["folder", "tar.gz"])
def test_more_images_than_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str) -> None:
    path = STORAGES[storage](tmp_path / "images", flat(1, 20))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 16}.__getitem__)
    with pytest.raises(DataError, match="makes more images of 12 x 12 than 50% of this machine's memory holds"):
        load(path)
    assert len(load(path, size=8)) == 1


# Parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "path is missing"),
        ({"path": "x", "size": 0}, "images.size is 0"),
        ({"path": "x", "channels": 2}, "images.channels is 2"),
        ({"path": "x", "test_fraction": 1.0}, "test_fraction is 1.0"),
        ({"path": "x", "encoding": "png"}, "'packed' or 'jpeg'"),
        ({"path": "x", "on_bad": "ignore"}, "'error' or 'skip'"),
        ({"path": "x", "sise": 3}, "did you mean 'size'"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        registry.build("datasets", "images", parameters)


def test_every_data_set_is_found_by_name() -> None:
    assert registry.names("datasets") == ["cifar10", "cifar100", "digits", "images"]
    for name in registry.names("datasets"):
        assert callable(registry.find("datasets", name).load)


def test_nothing_is_shown_where_standard_error_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(in_folder(tmp_path / "images", flat()))
    assert capsys.readouterr().err == ""


# Digits and CIFAR


def test_digits_are_grey_bytes_with_a_stratified_test_set() -> None:
    classes = list(registry.build("datasets", "digits", {"test_fraction": 0.25, "seed": 3}).load().classes)
    assert [images.name for images in classes] == [str(digit) for digit in range(10)]
    assert sum(len(images.train) + len(images.test) for images in classes) == 1797
    assert all(images.train.shape == (8, 8, 1) for images in classes)
    assert all(abs(len(images.test) / (len(images.test) + len(images.train)) - 0.25) < 0.01 for images in classes)
    values = np.unique(np.concatenate([pixels(images.train) for images in classes]))
    assert values.tolist() == np.rint(np.arange(17) * 255 / 16).tolist()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def fake_cifar(monkeypatch: pytest.MonkeyPatch, name: str) -> bytes:
    """Return an archive like CIFAR's, of 4 images a file, and make torchvision expect its md5s."""
    from torchvision import datasets

    cls = getattr(datasets, name)
    key = "labels" if name == "CIFAR10" else "fine_labels"
    random = np.random.default_rng(0)
    files: Contents = {}

    def listed(entries: list[list[str]]) -> list[list[str]]:
        for entry in entries:
            data = random.integers(0, 256, (4, 3072), dtype=np.uint8)
            files[entry[0]] = pickle.dumps({"data": data, key: [1, 0, 1, 0]})
        return [[entry[0], md5(files[entry[0]])] for entry in entries]

    monkeypatch.setattr(cls, "train_list", listed(cls.train_list))
    monkeypatch.setattr(cls, "test_list", listed(cls.test_list))
    files[cls.meta["filename"]] = pickle.dumps({cls.meta["key"]: ["zebra", "ant"]})
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": md5(files[cls.meta["filename"]])})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(f"{cls.base_folder}/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(cls, "tgz_md5", md5(buffer.getvalue()))
    return buffer.getvalue()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.mark.parametrize(("name", "batches"), [("CIFAR10", 5), ("CIFAR100", 1)])
def test_cifar_is_read_from_an_archive_placed_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None, name: str, batches: int
) -> None:
    archive = fake_cifar(monkeypatch, name)
    filename = "cifar-10-python.tar.gz" if name == "CIFAR10" else "cifar-100-python.tar.gz"
    (tmp_path / filename).write_bytes(archive)
    loaded = registry.build("datasets", name.lower(), {"root": str(tmp_path)}).load()
    ant, zebra = loaded.classes
    assert loaded.names == [ant.name, zebra.name] == ["ant", "zebra"]
    assert (len(ant.train), len(ant.test)) == (2 * batches, 2)
    assert ant.train.shape == (32, 32, 3)
    # The file holds the colours one after the other, and its first image is of label 1, the ant.
    first = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)[0]
    assert np.array_equal(pixels(ant.train)[0], first.reshape(3, 32, 32).transpose(1, 2, 0))


def test_a_failed_download_says_which_file_to_place_where(tmp_path: Path, offline: None) -> None:
    with pytest.raises(DataError) as caught:
        registry.build("datasets", "cifar100", {"root": str(tmp_path / "raw")}).load()
    message = str(caught.value)
    assert "no network" in message and "cifar-100-python.tar.gz" in message and str(tmp_path / "raw") in message
    assert "eb9058c3a382ffc7106e4002c42a8d85" in message and "\n" not in message


def test_a_placed_file_with_another_md5_is_named(tmp_path: Path, offline: None) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half a file")
    with pytest.raises(DataError, match=f"has the md5 {md5(b'half a file')}.*c58f30108f718f92721af3b95e74349a"):
        registry.build("datasets", "cifar10", {"root": str(tmp_path)}).load()


class Trap:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("file", ["train", "meta"])
def test_a_pickle_with_another_md5_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None, file: str) -> None:
    archive = fake_cifar(monkeypatch, "CIFAR100")
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive)
    registry.build("datasets", "cifar100", {"root": str(tmp_path)}).load()
    (tmp_path / "cifar-100-python.tar.gz").unlink()
    (tmp_path / "cifar-100-python" / file).write_bytes(pickle.dumps(Trap(str(tmp_path / "opened"))))
    with pytest.raises(DataError, match="place the file"):
        registry.build("datasets", "cifar100", {"root": str(tmp_path)}).load()
    assert not (tmp_path / "opened").exists()


def stack_global(module: str, name: str) -> bytes:
    """Return a pickle of a function, by its name alone."""
    return b"\x80\x04" + b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)) + b"\x93."


@pytest.mark.parametrize("file", ["train", "test", "meta"])
@pytest.mark.parametrize(
    "content", ["trap", stack_global("os", "system"), stack_global("numpy.lib.npyio", "load"), b"", b"\x80\x04\x95", b"cos\nsystem\n."]
)
def test_a_pickle_that_would_run_something_is_refused_even_with_the_right_md5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None, file: str, content: bytes | str
) -> None:
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(fake_cifar(monkeypatch, "CIFAR100"))
    registry.build("datasets", "cifar100", {"root": str(tmp_path)}).load()
    hostile = pickle.dumps(Trap(str(tmp_path / "opened"))) if isinstance(content, str) else content
    (tmp_path / "cifar-100-python" / file).write_bytes(hostile)
    from torchvision.datasets import CIFAR100

    if file == "meta":
        monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": md5(hostile)})
    else:
        monkeypatch.setattr(CIFAR100, f"{file}_list", [[file, md5(hostile)]])
    with pytest.raises(DataError, match=f"cifar-100-python/{file} is not read: ") as caught:
        registry.build("datasets", "cifar100", {"root": str(tmp_path)}).load()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "opened").exists()


# prepare


class Listed:
    """A data set of given classes."""

    def __init__(self, shapes: dict[str, tuple[int, int, int]], broken: bool = False) -> None:
        self.shapes = shapes
        self.broken = broken

    def load(self) -> Loaded:
        return Loaded(list(self.shapes), self._classes())

    def _classes(self) -> Iterator[ClassImages]:
        for name, shape in self.shapes.items():
            images = [PackedImages(np.full((n, *shape), ord(name[0]), dtype=np.uint8), np.zeros(n, dtype=np.int64)) for n in (3, 2)]
            yield ClassImages(name, *images)
        if self.broken:
            raise DataError("The disk fell out.")


SHAPE = (2, 2, 1)


def test_prepare_writes_shards_index_and_register(tmp_path: Path) -> None:
    summary = prepare_dataset(Listed({"cat": SHAPE, "ant": SHAPE}), tmp_path / "classes.csv", tmp_path / "out")
    assert str(summary) == "2 classes (2 of them new), 6 training and 4 test images of 2 x 2 x 1"
    assert [(entry.label, entry.name) for entry in read_register(tmp_path / "classes.csv")] == [(0, "ant"), (1, "cat")]
    train, test = read_class(tmp_path / "out", 1)
    assert (len(train), len(test)) == (3, 2)
    assert train.labels.tolist() == [1] * 3 and (pixels(test) == ord("c")).all()
    assert json.loads((tmp_path / "out" / "index.json").read_text()) == {
        "shape": [2, 2, 1],
        "classes": [
            {"label": 0, "name": "ant", "generation": 0, "train": 3, "test": 2},
            {"label": 1, "name": "cat", "generation": 0, "train": 3, "test": 2},
        ],
    }


def test_prepare_appends_new_classes_and_keeps_the_bytes_of_old_ones(tmp_path: Path) -> None:
    prepare_dataset(Listed({"cat": SHAPE, "dog": SHAPE}), tmp_path / "classes.csv", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.safetensors")}
    summary = prepare_dataset(Listed({"ant": SHAPE, "dog": SHAPE}), tmp_path / "classes.csv", tmp_path / "out")
    assert (summary.classes, summary.new) == (2, 1)
    assert [entry.name for entry in read_register(tmp_path / "classes.csv")] == ["cat", "dog", "ant"]
    assert (tmp_path / "out" / "00001-train.safetensors").read_bytes() == before["00001-train.safetensors"]
    assert (pixels(read_class(tmp_path / "out", 2)[0]) == ord("a")).all()
    # The cat's images are gone from the data set: so are its shards, and whoever asks is told.
    with pytest.raises(DataError, match="label 0 has no images"):
        read_class(tmp_path / "out", 0)


def test_prepare_changes_no_register_when_it_fails(tmp_path: Path) -> None:
    register = tmp_path / "classes.csv"
    prepare_dataset(Listed({"cat": SHAPE}), register, tmp_path / "out")
    before = register.read_bytes()
    with pytest.raises(DataError, match="fell out"):
        prepare_dataset(Listed({"cat": SHAPE, "dog": SHAPE}, broken=True), register, tmp_path / "out")
    with pytest.raises(DataError, match=r"Class 'dog' has images of shape \(2, 3, 1\), earlier ones have \(2, 2, 1\)"):
        prepare_dataset(Listed({"cat": SHAPE, "dog": (2, 3, 1)}), register, tmp_path / "out")
    with pytest.raises(DataError, match=r"classes.csv.*choose another dataset\.name"):
        prepare_dataset(Listed({"car": SHAPE}), register, tmp_path / "out")
    assert register.read_bytes() == before


def test_a_shard_of_another_class_is_refused(tmp_path: Path) -> None:
    prepare_dataset(Listed({"cat": SHAPE, "dog": SHAPE}), tmp_path / "classes.csv", tmp_path / "out")
    (tmp_path / "out" / "00000-train.safetensors").replace(tmp_path / "out" / "00001-train.safetensors")
    with pytest.raises(ArtefactError, match="records label 0 where 1 is needed"):
        read_class(tmp_path / "out", 1)


@pytest.mark.parametrize("encoding", ["packed", "jpeg"])
def test_prepare_has_the_same_bytes_from_a_folder_and_an_archive(tmp_path: Path, encoding: str) -> None:
    for storage in ("folder", "tar.xz"):
        path = STORAGES[storage](tmp_path / f"images.{storage}", split())
        dataset = registry.build("datasets", "images", {"path": path, "encoding": encoding, "size": 12})
        prepare_dataset(dataset, tmp_path / f"{storage}.csv", tmp_path / storage / "out")
    first, second = (sorted((tmp_path / storage / "out").iterdir()) for storage in ("folder", "tar.xz"))
    assert [(path.name, path.read_bytes()) for path in first] == [(path.name, path.read_bytes()) for path in second]
