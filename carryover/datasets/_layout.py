"""The ImageFolder layout: which folder of a tree is which class, and which files are its images."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from carryover.classes import canonical
from carryover.errors import DataError

TEST_FOLDERS = ("test", "val", "validation")
ACCEPTED = "accepted are <class>/<image> and train/<class>/<image> with test/<class>/<image> (or val, validation)"


@dataclass(frozen=True)
class ClassFiles:
    """The sorted paths of a class's images; `test` is None where the layout has no test folder."""

    name: str
    train: list[str]
    test: list[str] | None

    @property
    def paths(self) -> list[str]:
        """All of them."""
        return [*self.train, *(self.test or [])]


class Tree:
    """Files and folders, from their paths relative to the root; "" is the root.

    Args:
        files: the paths of all files.
        folders: the paths of folders; those that hold files need not be among them.
    """

    def __init__(self, files: Iterable[str], folders: Iterable[str]) -> None:
        self.files: dict[str, list[str]] = defaultdict(list)
        for path in files:
            self.files[posixpath.dirname(path)].append(path)
        self.folders: dict[str, list[str]] = defaultdict(list)
        seen = {""}
        for folder in (*folders, *self.files):
            while folder not in seen:
                seen.add(folder)
                parent = posixpath.dirname(folder)
                self.folders[parent].append(posixpath.basename(folder))
                folder = parent


def find_classes(tree: Tree, where: str) -> list[ClassFiles]:
    """Return the classes of a tree, sorted by name; files beside the class folders are passed over.

    Args:
        tree: what the data set `where` holds.
        where: its path, for errors.

    Raises:
        DataError: if the layout is another, a class has no images, or two folders have one name.
    """
    top = _unwrapped(tree)
    layout = {name.casefold(): posixpath.join(top, name) for name in tree.folders[top]}
    train = layout.get("train", "")
    if not tree.folders.get(train) or not train:
        return [ClassFiles(name, files, None) for name, files in _class_files(tree, top, where)]
    trained = _class_files(tree, train, where)
    test = _test_folder(tree, layout, {name for name, _ in trained}, where)
    if test is None:
        return [ClassFiles(name, files, None) for name, files in trained]
    tested = dict(_class_files(tree, test, where))
    for name in {name for name, _ in trained} ^ set(tested):
        present, absent = (test, train) if name in tested else (train, test)
        raise DataError(f"{where} has the class folder {name!r} in {present!r} and not in {absent!r}: every class needs both.")
    return [ClassFiles(name, files, tested[name]) for name, files in trained]


def _unwrapped(tree: Tree) -> str:
    """Return the folder that the layout begins in: archives often wrap everything in a folder of their own."""
    top = ""
    while len(tree.folders[top]) == 1:
        only = posixpath.join(top, tree.folders[top][0])
        if not tree.folders.get(only) or tree.folders[top][0].casefold() == "train":
            break
        top = only
    return top


def _class_files(tree: Tree, parent: str, where: str) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for folder in sorted(tree.folders[parent]):
        path = posixpath.join(parent, folder)
        name = canonical(folder, where)
        if name in found:
            raise DataError(f"{where} has two class folders {name!r} in {parent or 'its root'!r} whose names differ in Unicode form only.")
        if tree.folders.get(path):
            inner = posixpath.join(path, tree.folders[path][0])
            raise DataError(f"{where} has the folder {inner!r} where images of a class are expected: {ACCEPTED}.")
        if not tree.files.get(path):
            raise DataError(f"{where} has the class folder {path!r} without images.")
        found[name] = sorted(tree.files[path])
    if not found:
        raise DataError(f"{where} has no class folders: {ACCEPTED}.")
    return sorted(found.items())


def _test_folder(tree: Tree, layout: dict[str, str], names: set[str], where: str) -> str | None:
    """Return the test folder: the first that has class folders, for a `test` of unlabelled images often lies beside `val`."""
    present = [layout[name] for name in TEST_FOLDERS if name in layout]
    for folder in present:
        if not names.isdisjoint(canonical(name, where) for name in tree.folders[folder]):
            return folder
    if present:
        raise DataError(f"{where} has the test folder {present[0]!r} without the class folders of {layout['train']!r}: {ACCEPTED}.")
    return None
