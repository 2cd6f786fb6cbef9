"""Bundles: what is loaded predicts what the parts predict, and files that are not what they say are refused by name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from PIL import Image

from carryover import artefacts, backbones
from carryover.adapters import head_of
from carryover.bundle import BadImageError, Bundle, find_images, load
from carryover.classifiers import FITTERS, Classifier, of_head, probabilities
from carryover.errors import ArtefactError, CarryoverError, DataError
from carryover.images import PackedImages
from carryover.inference import extract
from carryover.machine import Machine

NAMES = ["ant", "bée", "cat, or dog"]
ORIGIN = {"method": {"regime": "distill"}, "protocol": {}, "sha256": {}}
CPU = Machine("cpu", "float32", 1)


def images(n: int = 12, shape: tuple[int, int, int] = (8, 8, 1)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(n, *shape), dtype=np.uint8)


def network(head: str = "linear", channels: int = 1) -> backbones.Network:
    made = backbones.initialise("small", head, channels, 0)
    made.head.grow(3, torch.Generator().manual_seed(0))
    return made.eval()


def classifier(name: str, made: backbones.Network) -> Classifier:
    if name == "head":
        return of_head(head_of({f"head_{key}": array for key, array in backbones.to_arrays(made.head).items()}))
    return FITTERS[name](extract(made, PackedImages(images(), np.zeros(12, dtype=np.int64)), CPU), np.arange(12) % 3, 3, 1e-3)


def bundle(name: str = "softmax", head: str = "linear") -> Bundle:
    made = network(head)
    return Bundle(made, classifier(name, made), NAMES, (8, 8, 1), ORIGIN, CPU)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    bundle().write(tmp_path / "bundle.safetensors")
    return tmp_path / "bundle.safetensors"


@pytest.mark.parametrize("name", [*FITTERS, "head"])
@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_a_loaded_bundle_predicts_what_its_parts_predict(tmp_path: Path, name: str, head: str) -> None:
    made = network(head)
    scores = classifier(name, made)(extract(made, PackedImages(images(), np.zeros(12, dtype=np.int64)), CPU))
    bundle(name, head).write(tmp_path / "b")
    loaded = load(tmp_path / "b", CPU)
    found = loaded.predict_proba(images())
    assert loaded.classes == NAMES and loaded.shape == (8, 8, 1) and loaded.origin == ORIGIN
    assert found.dtype == np.float32 and np.array_equal(found, probabilities(scores))
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(found, scipy.special.softmax(scores, axis=1), atol=1e-5)
    assert loaded.predict(images()) == [NAMES[label] for label in scores.argmax(axis=1)]


def test_the_same_bundle_has_the_same_bytes(tmp_path: Path) -> None:
    bundle().write(tmp_path / "a")
    load_again = load(tmp_path / "a", CPU)
    load_again.write(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_bytes_and_pixels_give_the_same_answer(tmp_path: Path, path: Path) -> None:
    pixels = images(3)
    for i, image in enumerate(pixels):
        Image.fromarray(image[:, :, 0]).save(tmp_path / f"{i}.png")
    names = [tmp_path / f"{i}.png" for i in range(3)]
    loaded = load(path, CPU)
    expected = loaded.predict_proba(pixels)
    assert np.array_equal(loaded.predict_proba(names), expected)
    assert np.array_equal(loaded.predict_proba([name.read_bytes() for name in names]), expected)


def test_images_of_other_sizes_and_modes_are_read_as_the_pipeline_reads_them(path: Path) -> None:
    from carryover.datasets._pixels import convert

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, size=(31, 20, 3), dtype=np.uint8)).save(buffer, "PNG")
    file = buffer.getvalue()
    loaded = load(path, CPU)
    read = np.frombuffer(convert(file, 8, 1, False), dtype=np.uint8).reshape(1, 8, 8, 1)
    assert np.array_equal(loaded.predict_proba([file]), loaded.predict_proba(read))


def test_bad_images_are_passed_over_in_a_stream_and_named_otherwise(tmp_path: Path, path: Path) -> None:
    Image.fromarray(images(1)[0, :, :, 0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    names = [str(tmp_path / name) for name in ("bad.png", "good.png", "missing.png")]
    loaded = load(path, CPU)
    streamed = list(loaded.stream(names))
    assert [name for name, _ in streamed] == names
    first, second, third = (answer for _, answer in streamed)
    assert isinstance(first, BadImageError) and isinstance(third, BadImageError) and "No such file" in str(third)
    assert np.array_equal(second, loaded.predict_proba(images(1))[0])
    with pytest.raises(DataError, match=r"bad\.png is no image of a known format"):
        loaded.predict(names)


def test_pixels_of_another_shape_or_type_are_refused(path: Path) -> None:
    loaded = load(path, CPU)
    for wrong in (images(2, (8, 9, 1)), images(2).astype(np.float32), images(2)[..., 0]):
        with pytest.raises(DataError, match=r"uint8 \[n, 8, 8, 1\]; these are"):
            loaded.predict(wrong)
    assert loaded.predict(images(0)) == [] and loaded.predict([]) == []


def test_folders_are_searched_through_and_missing_names_refused(tmp_path: Path) -> None:
    for name in ("b/x.png", "b/deep/y.png", "b/.hidden/z.png", "a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images([str(tmp_path / "a.png"), str(tmp_path / "b")]) == [str(tmp_path / name) for name in ("a.png", "b/deep/y.png", "b/x.png")]
    with pytest.raises(DataError, match="no image or folder nowhere"):
        find_images(["nowhere"])


def changed(path: Path, fields: dict[str, Any], tensors: dict[str, np.ndarray | None]) -> None:
    found = artefacts.read(path, "bundle")
    kept = {name: array for name, array in (found.tensors | tensors).items() if array is not None}
    artefacts.write(path, "bundle", kept, **(found.fields | fields))


SMALL = {"architecture": "small", "head": "linear", "channels": 1, "classes": 3}


@pytest.mark.parametrize(
    ("fields", "tensors", "words"),
    [
        ({"classes": ["a", "b"]}, {}, "2 classes for a head of 3"),
        ({"classes": ["a", "b", "b"]}, {}, "does not name its classes"),
        ({"classes": [1, 2, 3]}, {}, "does not name its classes"),
        ({"classes": None}, {}, "does not name its classes"),
        ({"network": SMALL | {"classes": 10**12}}, {}, "for a head of 3"),
        ({"network": SMALL | {"architecture": "resnet18"}}, {}, "does not hold a resnet18"),
        ({"network": SMALL | {"architecture": "os.system"}}, {}, "Unknown backbone.architecture"),
        ({"network": SMALL | {"architecture": ["small"]}}, {}, "describes no network"),
        ({"network": 3}, {}, "no bundle has"),
        ({"images": {"shape": [8, 8, 10**9], "normalisation": {}}}, {}, "shape"),
        ({"images": {"shape": [8, "8", 1], "normalisation": {}}}, {}, "no bundle has|shape"),
        ({"images": {"shape": [8, 8, 1], "normalisation": {"mean": 0, "deviation": 1}}}, {}, "normalises pixels by"),
        ({"classifier": "pickle"}, {}, "classifier 'pickle'"),
        ({"classifier": "cosine"}, {}, "classifier tensor 'bias'"),
        ({}, {"classifier/weight": np.zeros((3, 63), dtype=np.float32)}, r"classifier tensor 'weight' as \(3, 63\)"),
        ({}, {"classifier/weight": np.zeros((3, 64), dtype=np.int64)}, "classifier tensor 'weight'"),
        ({}, {"classifier/centre": None}, "classifier tensor 'centre' as nothing"),
        ({}, {"network/head.weight": None}, "no bundle has"),
        ({}, {"network/head.weight": np.zeros((3, 8), dtype=np.float32)}, r"'head\.weight' \(\(3, 8\) where \(3, 64\)"),
    ],
)
def test_bundles_that_are_not_what_they_say_are_refused(
    path: Path, fields: dict[str, Any], tensors: dict[str, np.ndarray | None], words: str
) -> None:
    changed(path, fields, tensors)
    with pytest.raises(CarryoverError, match=words):
        load(path)


def test_an_architecture_larger_than_the_file_is_refused_before_it_is_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = backbones.Network.__init__

    def spy(self: backbones.Network, *values: Any, **named: Any) -> None:
        original(self, *values, **named)
        made.append(next(self.parameters()).device.type)

    monkeypatch.setattr(backbones.Network, "__init__", spy)
    changed(path, {"network": SMALL | {"architecture": "timm/vit_giant_patch14_224"}}, {})
    with pytest.raises(ArtefactError, match=r"does not hold a timm/vit_giant_patch14_224"):
        load(path)
    assert made == ["meta"]


def test_bundles_of_other_libraries_networks_predict_the_same(tmp_path: Path) -> None:
    made = backbones.initialise("timm/resnet10t", "linear", 1, 0, frozen=True).eval()
    made.head.grow(3, torch.Generator().manual_seed(0))
    bundled = Bundle(made, classifier("head", made), NAMES, (32, 32, 1), ORIGIN, CPU)
    bundled.write(tmp_path / "b")
    pixels = images(4, (32, 32, 1))
    assert np.array_equal(load(tmp_path / "b", CPU).predict_proba(pixels), bundled.predict_proba(pixels))


def test_files_that_are_no_bundles_are_refused(tmp_path: Path, path: Path) -> None:
    content = path.read_bytes()
    (tmp_path / "short").write_bytes(content[:-9])
    (tmp_path / "text").write_text("no bundle")
    artefacts.write(tmp_path / "other", "memory", {"features": np.zeros((1, 2))})
    for name, words in {"short": "truncated", "text": "truncated", "other": "'memory' artefact", "missing": "There is no file"}.items():
        with pytest.raises(ArtefactError, match=words):
            load(tmp_path / name)
