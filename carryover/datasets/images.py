"""Anybody's images: a folder or an archive in ImageFolder layout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Annotated, Literal, NoReturn, TypeVar

from pydantic import Field
from tqdm import tqdm

from carryover.datasets import ClassImages, Loaded, held_out, image_set
from carryover.datasets._files import Files, open_files, stream_files
from carryover.datasets._layout import ClassFiles, Tree, find_classes
from carryover.datasets._parallel import ordered_map
from carryover.datasets._pixels import BadImageError, convert
from carryover.errors import DataError
from carryover.images import ImageSet

__all__ = ["Images"]

Converted = bytes | BadImageError
T = TypeVar("T")
MEMORY_SHARE = 0.5
LARGE_BYTES = 4 << 20


class Images:
    """Images in class folders: `<class>/<image>`, or `train/<class>/<image>` and `test/<class>/<image>` (or val, validation).

    A folder that wraps all of this is descended into. Folder names are the class names. Files beside the class folders and
    hidden files are passed over. How one image becomes pixels is told in `_pixels`.

    Args:
        path: a folder, or a .tar, .tar.gz, .tar.bz2, .tar.xz or .zip archive. Folders, .zip and plain .tar are read one class at
            a time; a compressed .tar is read once from its start, and its resized images are held in memory.
        size: pixels of each side.
        channels: 3 for RGB, 1 for grey.
        test_fraction: the fraction of each class that becomes the test set where there is no test folder.
        seed: of that choice.
        encoding: "packed" stores pixels, "jpeg" JPEG and PNG files that are decoded when they are used: smaller, and
            the choice for a data set larger than memory. The pixels are the same.
        on_bad: what happens to a file that is no image: "error" stops, "skip" warns and goes on.
    """

    def __init__(
        self,
        path: str,
        size: Annotated[int, Field(gt=0)] = 32,
        channels: Literal[1, 3] = 3,
        test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
        seed: Annotated[int, Field(ge=0)] = 0,
        encoding: Literal["packed", "jpeg"] = "packed",
        on_bad: Literal["error", "skip"] = "error",
    ) -> None:
        self.path = path
        self.size = size
        self.channels = channels
        self.test_fraction = test_fraction
        self.seed = seed
        self.encoding = encoding
        self.on_bad = on_bad

    def load(self) -> Loaded:
        """Open the folder or archive and find its classes."""
        files = open_files(self.path)
        if files is None:
            return self._load_stream()
        classes = find_classes(Tree(files.paths, files.folders), self.path)
        return Loaded([files_of.name for files_of in classes], self._read_classes(classes, files))

    def _load_stream(self) -> Loaded:
        """Unpack a compressed archive once, converting on the way: the layout is known only at its end."""
        folders: list[str] = []
        with self._progress(None) as bar:
            converted = self._collected(ordered_map(lambda member: (member[0], member[1]()), self._members(folders)), bar)
        classes = find_classes(Tree(converted, folders), self.path)
        return Loaded([files_of.name for files_of in classes], self._take_classes(classes, converted))

    def _read_classes(self, classes: list[ClassFiles], files: Files) -> Iterator[ClassImages]:
        def read(path: str) -> Converted:
            return self._convert(lambda: files.read(path))

        with self._progress(sum(len(files_of.paths) for files_of in classes)) as bar:
            for files_of in classes:
                images = zip(files_of.paths, ordered_map(read, files_of.paths), strict=True)
                yield self._class_images(files_of, self._collected(images, bar))

    def _collected(self, images: Iterable[tuple[str, Converted]], bar: tqdm[NoReturn]) -> dict[str, Converted]:
        """Return converted images by path, which have to fit into memory together."""
        converted: dict[str, Converted] = {}
        left = MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        for path, image in images:
            converted[path] = image
            left -= 0 if isinstance(image, BadImageError) else len(image)
            if left < 0:
                raise DataError(
                    f"{self.path} makes more images of {self.size} x {self.size} than {MEMORY_SHARE:.0%} of this machine's memory holds; set "
                    "dataset.size lower or dataset.encoding to 'jpeg', or unpack a compressed archive: a folder is read one class at a time."
                )
            bar.update()
        return converted

    def _progress(self, total: int | None) -> tqdm[NoReturn]:
        # Shown where standard error is a terminal.
        return tqdm(total=total, desc=f"reading {self.path}", unit="img", unit_scale=True, disable=None)

    def _take_classes(self, classes: list[ClassFiles], converted: dict[str, Converted]) -> Iterator[ClassImages]:
        for files_of in classes:
            # Taken out, so that memory falls class by class.
            yield self._class_images(files_of, {path: converted.pop(path) for path in files_of.paths})

    def _members(self, folders: list[str]) -> Iterator[tuple[str, Callable[[], Converted]]]:
        """Yield the path of each file of a compressed archive with what converts it; add its folders to `folders`."""
        for path, content in stream_files(self.path):
            if content is None:
                folders.append(path)
            elif isinstance(content, BadImageError):
                yield path, partial(_same, content)
            elif len(content) < LARGE_BYTES:
                yield path, partial(self._convert, partial(_same, content))
            else:
                # Here and now, for many members are under way at a time.
                yield path, partial(_same, self._convert(partial(_same, content)))

    def _convert(self, read: Callable[[], bytes]) -> Converted:
        try:
            return convert(read(), self.size, self.channels, self.encoding == "jpeg")
        except BadImageError as bad:
            return bad
        except OSError as error:
            return BadImageError(f"cannot be read ({error.strerror})")

    def _class_images(self, files_of: ClassFiles, converted: dict[str, Converted]) -> ClassImages:
        train = self._good(files_of.name, files_of.train, converted)
        if files_of.test is not None:
            return ClassImages(files_of.name, self._image_set(train), self._image_set(self._good(files_of.name, files_of.test, converted)))
        kept, tested = held_out(len(train), self.test_fraction, self.seed, files_of.name)
        images = self._image_set(train)
        return ClassImages(files_of.name, images.subset(kept), images.subset(tested))

    def _good(self, name: str, paths: list[str], converted: dict[str, Converted]) -> list[bytes]:
        good: list[bytes] = []
        for path in paths:
            image = converted[path]
            if not isinstance(image, BadImageError):
                good.append(image)
            elif self.on_bad == "error":
                raise DataError(f"{self.path}: {path!r} {image}; remove it, or set dataset.on_bad to 'skip'.")
            else:
                tqdm.write(f"warning: {self.path}: {path!r} {image}; it is passed over.", file=sys.stderr)
        if not good:
            raise DataError(f"{self.path} has no image that can be read for the class {name!r} in {paths[0].rpartition('/')[0]!r}.")
        return good

    def _image_set(self, images: list[bytes]) -> ImageSet:
        return image_set(images, (self.size, self.size, self.channels), self.encoding == "jpeg")


def _same(item: T) -> T:
    return item
