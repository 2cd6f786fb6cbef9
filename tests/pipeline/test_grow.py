"""Growing: new folders become a task of their own, from the state alone; the images of old classes are gone."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import networkx
import numpy as np
import pytest
from conftest import Project, error_of
from dvc.repo import Repo

from carryover import artefacts
from carryover.datasets import read_class
from carryover.errors import CarryoverError, ConfigurationError, DataError
from carryover.images import encode_png

BUNDLE = "data/bundle.safetensors"


def carryover(project: Project, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command `carryover`."""
    return project.run(sys.executable, "-m", "carryover_cli", *arguments, check=check)


def known(project: Project, bundle: str = BUNDLE) -> list[str]:
    """Return the classes of a bundle."""
    classes: list[str] = artefacts.read_header(project.root / bundle, "bundle")["fields"]["classes"]
    return classes


def draw(project: Project, folder: Path, digits: list[str], images: int = 20) -> None:
    """Write training images of digits as PNG files, a folder a class."""
    for name in digits:
        train, _ = read_class(project.root / "data/dataset", int(name))
        (folder / name).mkdir(parents=True)
        for i, pixels in enumerate(train.gather(np.arange(images))):
            (folder / name / f"{i:02d}.png").write_bytes(encode_png(pixels))


def test_two_growths_without_any_old_image(copy: Project, tmp_path: Path) -> None:
    first, second, third = [str(digit) for digit in range(10) if str(digit) not in known(copy)][:3]
    pictures = tmp_path / "pictures"
    draw(copy, pictures, [first, second, third])
    (pictures / first / "bad.png").write_bytes(b"no image")
    for names, folder in (((first, second), "inbox"), ((third,), "later")):
        for name in names:
            shutil.copytree(pictures / name, copy.root / folder / name)
    (copy.root / ".gitignore").open("a", encoding="utf-8").write("/inbox/\n/later/\n")
    copy.commit()
    # The images of the protocol's tasks are gone, from DVC's cache too.
    for gone in ("data/dataset", "data/tasks", ".dvc/cache"):
        shutil.rmtree(copy.root / gone)
    before = copy.digests(".")

    done = carryover(copy, "grow", "inbox")
    assert done.stdout.startswith("grown1: 2 new classes, 5 in all; ")
    assert f"'{first}/bad.png' is no image" in done.stderr
    shutil.rmtree(copy.root / "inbox")
    carryover(copy, "grow", "later")
    shutil.rmtree(copy.root / "later")

    after = copy.digests(".")
    assert {path for path, digest in before.items() if after.get(path) != digest and not path.startswith(("inbox", "later", ".dvc/"))} == set()
    assert known(copy, "grown/grown2/bundle.safetensors") == [*known(copy), first, second, third]
    assert not [path for path in after if path.startswith(("data/tasks", "data/features")) and "grown" in path], "features of images go with them"
    assert copy.run("git", "status", "--porcelain").stdout == "?? grown/\n"
    copy.commit()
    assert {name for name in copy.run("git", "ls-files", "grown").stdout.split() if "grown1" in name} == {
        f"grown/grown1/{name}" for name in (".gitignore", "dvc.lock", "dvc.yaml", "scores.json")
    }
    assert copy.repro("grown/grown1/dvc.yaml", "grown/grown2/dvc.yaml") == []
    assert copy.repro("--allow-missing", "bundle") == []
    # What a fresh clone would need the new images for: nothing of the protocol.
    with Repo(copy.root) as repo:
        graph = repo.index.graph
        for stage in graph:
            if stage.path_in_repo == "dvc.yaml":
                assert {needed.path_in_repo for needed in networkx.descendants(graph, stage)} <= {"dvc.yaml"}, stage.name
    assert "grown" not in copy.dvc("status", "grown/grown1/dvc.yaml", "grown/grown2/dvc.yaml").stdout

    text = carryover(copy, "predict", "grown/grown2/bundle.safetensors", str(pictures), "--csv", "--top", "6", check=False).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["class"] for row in rows} == {*known(copy), first, second, third}
    best = [(Path(row["image"]).parent.name, row["class"]) for row in rows if row["rank"] == "1"]
    assert len(best) == 60
    assert np.mean([name == guess for name, guess in best]) > 0.5


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing folder": (lambda folder: folder.rmdir(), "There is no folder"),
    "an empty folder": (lambda folder: None, "has no class folders"),
    "a class folder without images": (lambda folder: (folder / "ant").mkdir(), "has the class folder 'ant' without images"),
    "one image": (lambda folder: shutil.copytree(folder.parent / "one", folder / "ant"), "Class 'ant' has 1 image"),
    "two images, one of them for the test": (lambda folder: shutil.copytree(folder.parent / "two", folder / "ant"), "at least 2 are needed"),
    "no image that can be read": (lambda folder: shutil.copytree(folder.parent / "bad", folder / "ant"), "has no image that can be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_folders_that_cannot_be_learned_are_refused(borrowed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from stages import growth

    good = encode_png(np.zeros((8, 8, 1), dtype=np.uint8))
    for place, files in {"one": [good], "two": [good, good], "bad": [b"no image"]}.items():
        (tmp_path / place).mkdir()
        for i, content in enumerate(files):
            (tmp_path / place / f"{i}.png").write_bytes(content)
    (tmp_path / "new").mkdir()
    prepare, words = REFUSED[name]
    prepare(tmp_path / "new")
    monkeypatch.chdir(borrowed.root)
    before = borrowed.digests(".")
    with pytest.raises(DataError, match=words):
        growth.grow(str(tmp_path / "new"))
    assert borrowed.digests(".") == before
    assert not (borrowed.root / "grown").exists()


def test_a_known_class_is_refused_in_one_sentence(borrowed: Project, tmp_path: Path) -> None:
    name = known(borrowed)[1]
    draw(borrowed, tmp_path / "new", [name], images=2)
    done = carryover(borrowed, "grow", str(tmp_path / "new"), check=False)
    assert f"has the class '{name}', which is known already (label 1)" in error_of(done)
    assert not (borrowed.root / "grown").exists()


@pytest.mark.parametrize(
    ("parameter", "words"),
    [({"training__epochs": -1}, "training.epochs is -1"), ({"memory__total": 1}, "memory.total is 1 vectors")],
    ids=["before it learns", "after the network and the features"],
)
def test_a_growth_that_fails_leaves_nothing(borrowed: Project, tmp_path: Path, parameter: dict[str, int], words: str) -> None:
    (new,) = [str(digit) for digit in range(10) if str(digit) not in known(borrowed)][:1]
    draw(borrowed, tmp_path / "new", [new], images=4)
    borrowed.set(**parameter)
    before = borrowed.digests(".")
    done = carryover(borrowed, "grow", str(tmp_path / "new"), check=False)
    assert words in error_of(done)
    assert {path for path, digest in borrowed.digests(".").items() if before.get(path) != digest and not path.startswith(".dvc/")} == set()


def test_a_bundle_that_looked_at_old_images_does_not_grow(borrowed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages import growth

    monkeypatch.chdir(borrowed.root)
    found = artefacts.read(borrowed.root / BUNDLE, "bundle")
    found.fields["origin"]["method"]["adapter"] = "oracle"
    artefacts.write(borrowed.root / BUNDLE, "bundle", found.tensors, **found.fields)
    with pytest.raises(CarryoverError, match="is of oracle after task1"):
        growth.grow(str(tmp_path))
    (borrowed.root / BUNDLE).unlink()
    with pytest.raises(ConfigurationError, match="run `dvc repro bundle` first"):
        growth.grow(str(tmp_path))
