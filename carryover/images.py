"""Image sets: labelled images of one shape, held as bytes of pixels or as encoded files that are decoded on use.

Pixels are uint8 arrays `[n, h, w, c]` with c = 1 (grey) or 3 (RGB). An encoded set holds each image as a JPEG or PNG file,
may sit on a memory-mapped artefact much larger than memory, and gives the same pixels as the packed set of the same files.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from PIL import Image

from carryover import artefacts
from carryover.artefacts import Stream
from carryover.errors import ArtefactError, DataError

PACKED = "packed"
ENCODED = "encoded"
Shape = tuple[int, int, int]
"""Height, width and channels of every image of a set."""

MAX_PIXELS = 100_000_000
"""Of an image: larger ones are taken for attacks."""

_MODES = {1: "L", 3: "RGB"}
_CHUNK_BYTES = 4 << 20
_SERIAL_BELOW = 16


class ImageSource(Protocol):
    """n labelled images of one shape, to be looked at."""

    @property
    def labels(self) -> np.ndarray:
        """The images' labels, int64 [n]."""

    @property
    def shape(self) -> Shape:
        """Height, width and channels of every image."""

    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Return the pixels of the images at `indices` [b], a new uint8 array [b, h, w, c]."""


class ImageSet(ImageSource, Protocol):
    """n labelled images of one shape that are held as bytes, to be kept."""

    @property
    def nbytes(self) -> int:
        """The bytes that images and labels take."""

    @property
    def encoding(self) -> str:
        """How the images are held: "packed" or "encoded"."""

    def subset(self, indices: np.ndarray) -> ImageSet:
        """Return the set of the images at `indices`, in that order."""

    def relabelled(self, label: int) -> ImageSet:
        """Return the same images, all with one `label`."""

    def streams(self) -> dict[str, Stream]:
        """Return the tensors of this set's artefact."""


class PackedImages:
    """Images as bytes of pixels.

    Args:
        images: uint8 [n, h, w, c].
        labels: integers [n].
    """

    encoding = PACKED

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.ndim != 4:
            raise DataError(f"Packed images are uint8 [n, h, w, c]; these are {images.dtype} {list(images.shape)}.")
        self.images = images
        self.labels = _checked_labels(labels, len(images))

    @property
    def shape(self) -> Shape:
        """Height, width and channels of every image."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    @property
    def nbytes(self) -> int:
        """The bytes of pixels and labels."""
        return self.images.nbytes + self.labels.nbytes

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Return the pixels of the images at `indices` [b], a new uint8 array [b, h, w, c]."""
        return np.take(self.images, indices, axis=0)

    def subset(self, indices: np.ndarray) -> PackedImages:
        """Return the set of the images at `indices`, in that order."""
        return PackedImages(np.take(self.images, indices, axis=0), np.take(self.labels, indices))

    def relabelled(self, label: int) -> PackedImages:
        """Return the same images, all with one `label`."""
        return PackedImages(self.images, np.full(len(self), label, dtype=np.int64))

    def streams(self) -> dict[str, Stream]:
        """Return `images` [n, h, w, c] and `labels` [n]."""
        return {
            "images": Stream(np.dtype(np.uint8), self.images.shape, [self.images]),
            "labels": Stream(np.dtype(np.int64), self.labels.shape, [self.labels]),
        }


class EncodedImages:
    """Images as JPEG or PNG files in one array of bytes, decoded when they are gathered.

    Subsets and concatenations share the arrays of bytes, so those may be memory-mapped and larger than memory.

    Args:
        data: the files one after another, uint8 [bytes].
        offsets: where each file starts, and where the last one ends, int64 [n + 1].
        labels: integers [n].
        shape: height, width and channels (1 or 3) that every image decodes to.
    """

    encoding = ENCODED

    def __init__(self, data: np.ndarray, offsets: np.ndarray, labels: np.ndarray, shape: Sequence[int]) -> None:
        if data.dtype != np.uint8 or data.ndim != 1 or offsets.dtype != np.int64 or offsets.ndim != 1 or len(offsets) == 0:
            raise DataError("Encoded images are uint8 [bytes] with int64 offsets [n + 1]; these arrays are of other types.")
        if offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
            raise DataError(f"The offsets of encoded images must rise from 0 to the {len(data)} bytes that there are; these do not.")
        if not is_shape(shape):
            raise DataError(f"Encoded images have a shape (height, width, 1 or 3 channels) of at most {MAX_PIXELS:,} pixels; {tuple(shape)} is none.")
        self.labels = _checked_labels(labels, len(offsets) - 1)
        self.shape: Shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self._pieces: list[np.ndarray] = [data]
        # A row an image: which piece its file lies in, where it starts and where it stops.
        self._spans = np.stack([np.zeros_like(offsets[1:]), offsets[:-1], offsets[1:]], axis=1)

    @classmethod
    def from_files(cls, files: Sequence[bytes], labels: np.ndarray, shape: Sequence[int]) -> EncodedImages:
        """Return the set of the given JPEG or PNG files, n of them."""
        offsets = np.cumsum([0, *(len(file) for file in files)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(files), dtype=np.uint8), offsets, labels, shape)

    @property
    def nbytes(self) -> int:
        """The bytes of files, offsets and labels."""
        return int((self._spans[:, 2] - self._spans[:, 1]).sum()) + 8 * (len(self) + 1) + self.labels.nbytes

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Return the pixels of the images at `indices` [b], decoded on all processors: a new uint8 array [b, h, w, c].

        Raises:
            ArtefactError: if one is no JPEG or PNG of this set's shape.
        """
        spans = np.take(self._spans, indices, axis=0)
        # The first image is looked at before room is made for all: a header may claim any shape.
        first = [decode(self._file(span), self.shape) for span in spans[:1]]
        pixels = np.empty((len(spans), *self.shape), dtype=np.uint8)
        for row, image in enumerate(first):
            pixels[row] = image

        def fill(rows: range) -> None:
            for row in rows:
                pixels[row] = decode(self._file(spans[row]), self.shape)

        workers = processors()
        if len(spans) < _SERIAL_BELOW or workers == 1:
            fill(range(1, len(spans)))
        else:
            with ThreadPoolExecutor(workers) as pool:
                # Strided shares: neighbours often come from one class and are alike in size.
                list(pool.map(fill, [range(start, len(spans), workers) for start in range(1, workers + 1)]))
        return pixels

    def subset(self, indices: np.ndarray) -> EncodedImages:
        """Return the set of the images at `indices`, in that order; no bytes are copied."""
        return self._sharing(self._pieces, np.take(self._spans, indices, axis=0), np.take(self.labels, indices))

    def relabelled(self, label: int) -> EncodedImages:
        """Return the same images, all with one `label`."""
        return self._sharing(self._pieces, self._spans, np.full(len(self), label, dtype=np.int64))

    def joined(self, others: Sequence[EncodedImages]) -> EncodedImages:
        """Return this set followed by `others`; no bytes are copied."""
        pieces: list[np.ndarray] = []
        spans = []
        for images in (self, *others):
            spans.append(images._spans + np.array([len(pieces), 0, 0]))
            pieces += images._pieces
        return self._sharing(pieces, np.concatenate(spans), np.concatenate([self.labels, *(images.labels for images in others)]))

    def streams(self) -> dict[str, Stream]:
        """Return `data` [bytes], `offsets` [n + 1] and `labels` [n]."""
        lengths = self._spans[:, 2] - self._spans[:, 1]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return {
            "data": Stream(np.dtype(np.uint8), (int(offsets[-1]),), self._chunks()),
            "offsets": Stream(np.dtype(np.int64), offsets.shape, [offsets]),
            "labels": Stream(np.dtype(np.int64), self.labels.shape, [self.labels]),
        }

    def _sharing(self, pieces: list[np.ndarray], spans: np.ndarray, labels: np.ndarray) -> EncodedImages:
        images = EncodedImages.__new__(EncodedImages)
        images.labels, images.shape, images._pieces, images._spans = labels, self.shape, pieces, spans
        return images

    def _file(self, span: np.ndarray) -> bytes:
        piece, start, stop = span
        return bytes(self._pieces[piece][start:stop])

    def _chunks(self) -> Iterator[np.ndarray]:
        chunk = bytearray()
        for span in self._spans:
            chunk += self._file(span)
            if len(chunk) >= _CHUNK_BYTES:
                yield np.frombuffer(chunk, dtype=np.uint8)
                chunk = bytearray()
        yield np.frombuffer(chunk, dtype=np.uint8)


def decode(file: bytes, shape: Shape) -> np.ndarray:
    """Return the pixels of a JPEG or PNG `file`, uint8 [h, w, c].

    Raises:
        ArtefactError: if it cannot be decoded or has another shape.
    """
    height, width, channels = shape
    try:
        with Image.open(io.BytesIO(file), formats=("JPEG", "PNG")) as image:
            if image.size != (width, height):
                raise ArtefactError(f"An encoded image is {image.height} x {image.width} where {height} x {width} is needed.")
            pixels = np.asarray(image if image.mode == _MODES[channels] else image.convert(_MODES[channels]))
    except (OSError, ValueError, SyntaxError) as error:
        raise ArtefactError(f"An encoded image of {len(file)} bytes is no readable JPEG or PNG: the artefact is damaged.") from error
    return pixels.reshape(shape)


def encode_png(pixels: np.ndarray) -> bytes:
    """Return the lossless PNG file of an image, uint8 [h, w, c] with c = 1 or 3."""
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    """Return one set of the images of all `sets` in order.

    Packed sets make a packed set. Where some are encoded the result is encoded: their bytes are shared, not copied, and
    packed images among them are encoded without loss.

    Raises:
        DataError: if there is no set, or their images have different shapes.
    """
    if not sets:
        raise DataError("There are no image sets to join.")
    shapes = sorted({images.shape for images in sets})
    if len(shapes) > 1:
        raise DataError(f"Images of different shapes (height, width, channels) cannot be joined: {', '.join(map(str, shapes))}.")
    # An empty packed set (no exemplars yet) must not make encoded images packed, nor the other way round.
    filled = [images for images in sets if len(images)] or [sets[0]]
    if len(filled) == 1:
        return filled[0]
    packed = [images for images in filled if isinstance(images, PackedImages)]
    if len(packed) == len(filled):
        return PackedImages(np.concatenate([images.images for images in packed]), np.concatenate([images.labels for images in packed]))
    first, *others = (_as_encoded(images) for images in filled)
    return first.joined(others)


def write_images(path: str | os.PathLike[str], images: ImageSet, kind: str, **fields: Any) -> None:
    """Write an image set as an artefact of the given `kind`; its header also says the `encoding` and the `shape`.

    Memory holds a few megabytes of an encoded set at a time, however large it is.
    """
    artefacts.write_stream(path, kind, images.streams(), encoding=images.encoding, shape=list(images.shape), **fields)


def read_images(path: str | os.PathLike[str], kind: str, **expected: Any) -> tuple[ImageSet, dict[str, Any]]:
    """Return the image set of an artefact and the fields of its header.

    A packed set is read into memory; an encoded set stays on disk, memory-mapped.

    Raises:
        ArtefactError: if the file is no artefact of this `kind` with the `expected` fields, or its tensors disagree.
    """
    fields = artefacts.read_header(path, kind, **expected)["fields"]
    try:
        if fields["encoding"] == PACKED:
            tensors = artefacts.read(path, kind).tensors
            images: ImageSet = PackedImages(tensors["images"], tensors["labels"])
        elif fields["encoding"] == ENCODED:
            tensors = artefacts.read_mapped(path, kind).tensors
            images = EncodedImages(tensors["data"], tensors["offsets"], tensors["labels"], fields["shape"])
        else:
            raise ArtefactError(f"{path} has the image encoding {fields['encoding']!r}; accepted are {PACKED!r} and {ENCODED!r}.")
        if list(images.shape) != fields["shape"]:
            raise ArtefactError(f"{path} says its images have the shape {fields['shape']}, and they have {list(images.shape)}.")
    except (DataError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} holds no image set: {str(error).rstrip('.')}.") from error
    return images, fields


def is_shape(shape: Sequence[Any]) -> bool:
    """Return whether this is the height, width and channels (1 or 3) of images, in whole numbers from 1, of at most `MAX_PIXELS`."""
    whole = len(shape) == 3 and all(isinstance(side, int | np.integer) and side > 0 for side in shape)
    return whole and shape[2] in _MODES and int(shape[0]) * int(shape[1]) <= MAX_PIXELS


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _as_encoded(images: ImageSet) -> EncodedImages:
    if isinstance(images, EncodedImages):
        return images
    pixels = images.gather(np.arange(len(images)))
    return EncodedImages.from_files([encode_png(image) for image in pixels], images.labels, images.shape)


def _checked_labels(labels: np.ndarray, count: int) -> np.ndarray:
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(f"{count} images need {count} whole numbers as labels; these are {labels.dtype} {list(labels.shape)}.")
    return labels.astype(np.int64, copy=False)
