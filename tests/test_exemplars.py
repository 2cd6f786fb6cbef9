"""Exemplar images: within their budget, each class a prefix of its herding order, and read back as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover import artefacts, registry, rehearsal
from carryover.errors import ArtefactError, ConfigurationError
from carryover.exemplars import Exemplars
from carryover.images import EncodedImages, ImageSet, PackedImages, encode_png
from carryover.machine import Machine
from carryover.rehearsal import KIND, KeptImages, Learned

WHERE = Machine(device="cpu", precision="float32", threads=1)
NONE = KeptImages(PackedImages(np.empty((0, 2, 2, 1), dtype=np.uint8), np.empty(0, dtype=np.int64)), np.empty((0, 5)))
CONFIGURATION = Path(__file__).parent.parent / "conf" / "regimes"
REHEARSING = ["hybrid", "lucir", "rehearsal"]


def task(first: int, counts: list[int], seed: int = 0) -> tuple[PackedImages, np.ndarray]:
    """Images of the classes first, first + 1, ... in mixed order, each recognisable, and their features."""
    random = np.random.default_rng([first, seed])
    labels = random.permutation(np.repeat(np.arange(first, first + len(counts)), counts))
    return PackedImages(random.integers(0, 256, (len(labels), 2, 2, 1), dtype=np.uint8), labels), random.normal(size=(len(labels), 5))


def learned(images: ImageSet, features: np.ndarray, kept: KeptImages = NONE, drift: float = 0.0) -> Learned:
    """The images of a task, after `kept` was; the new network's features of the latter have moved by `drift`."""
    return Learned(images, features, kept.images, kept.features + drift, 0, WHERE)


def of(kept: KeptImages, label: int) -> list[bytes]:
    """The images of a class, in the order in which they are kept."""
    return [image.tobytes() for image in kept.images.gather(np.flatnonzero(np.asarray(kept.images.labels) == label))]


def plain_herding(features: np.ndarray, count: int) -> list[int]:
    """iCaRL's algorithm 4 as it is written: each next row brings the mean of those chosen nearest to the class mean."""
    rows = features / np.sqrt((features**2).sum(axis=1, keepdims=True))
    mean, chosen = rows.mean(axis=0), list[int]()
    while len(chosen) < min(count, len(rows)):
        distances = [
            np.inf if i in chosen else ((mean - (rows[i] + rows[chosen].sum(axis=0)) / (len(chosen) + 1)) ** 2).sum() for i in range(len(rows))
        ]
        chosen.append(int(np.argmin(distances)))
    return chosen


def read_section(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CONFIGURATION / f"{name}.yaml").read_text(encoding="utf-8"))[name])


@settings(deadline=None, max_examples=30)
@given(
    first=st.lists(st.integers(1, 9), min_size=1, max_size=4), second=st.lists(st.integers(1, 9), min_size=1, max_size=4), total=st.integers(8, 40)
)
def test_a_total_is_shared_equally_and_shrinks_as_classes_arrive(first: list[int], second: list[int], total: int) -> None:
    store = Exemplars(total=total)
    kept = store.update(learned(*task(0, first)))
    assert [len(of(kept, c)) for c in range(len(first))] == [min(count, total // len(first)) for count in first]
    grown = store.update(learned(*task(len(first), second), kept, drift=1.0))
    share = total // (len(first) + len(second))
    assert [len(of(grown, c)) for c in range(len(first) + len(second))] == [min(count, share) for count in first + second]
    assert len(grown.images) <= total
    for c in range(len(first)):
        assert of(grown, c) == of(kept, c)[:share]


@pytest.mark.parametrize("seed", range(5))
def test_new_classes_are_kept_in_their_herding_order(seed: int) -> None:
    images, features = task(3, [7, 5], seed)
    kept = Exemplars(per_class=4).update(learned(images, features))
    for label in (3, 4):
        rows = np.flatnonzero(images.labels == label)
        assert of(kept, label) == [images.images[i].tobytes() for i in rows[plain_herding(features[rows], 4)]]
    assert np.asarray(kept.images.labels).tolist() == [3] * 4 + [4] * 4


@settings(deadline=None, max_examples=20)
@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=3), total=st.integers(6, 20), seed=st.integers(0, 99))
def test_each_row_of_features_is_that_of_its_image_under_the_new_network(counts: list[int], total: int, seed: int) -> None:
    store = Exemplars(total=total)
    images, features = task(0, counts, seed)
    kept = store.update(learned(images, features))
    more, further = task(len(counts), counts, seed)
    grown = store.update(learned(more, further, kept, drift=2.5))
    known = {image.tobytes(): row + 2.5 for image, row in zip(images.images, features, strict=True)}
    known |= {image.tobytes(): row for image, row in zip(more.images, further, strict=True)}
    assert grown.features.shape == (len(grown.images), 5)
    pixels = grown.images.gather(np.arange(len(grown.images)))
    for image, row in zip(pixels, grown.features, strict=True):
        # Two images of 4 bytes may be the same by chance: then the later one's row is known.
        if sum(image.tobytes() == other.tobytes() for other in (*images.images, *more.images)) == 1:
            assert np.array_equal(row, known[image.tobytes()])


def test_a_budget_per_class_never_touches_earlier_exemplars_and_small_classes_keep_all() -> None:
    store = Exemplars(per_class=3)
    images, features = task(0, [6, 2])
    kept = store.update(learned(images, features))
    assert sorted(of(kept, 1)) == sorted(image.tobytes() for image in images.images[images.labels == 1])
    grown = store.update(learned(*task(2, [5]), kept, drift=-1.0))
    assert of(grown, 0) == of(kept, 0) and of(grown, 1) == of(kept, 1) and len(of(grown, 2)) == 3


def test_exemplars_stand_class_by_class_in_rising_label_as_a_memory_does() -> None:
    store = Exemplars(total=12)
    kept = store.update(learned(*task(0, [5, 5])))
    grown = store.update(learned(*task(2, [5, 5]), kept))
    assert np.asarray(grown.images.labels).tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_encoded_images_are_kept_as_the_files_they_are() -> None:
    images, features = task(0, [4, 4])
    encoded = EncodedImages.from_files([encode_png(image) for image in images.images], images.labels, (2, 2, 1))
    kept, packed = (Exemplars(per_class=2).update(learned(some, features)) for some in (encoded, images))
    assert isinstance(kept.images, EncodedImages) and [of(kept, c) for c in (0, 1)] == [of(packed, c) for c in (0, 1)]
    assert kept.images.nbytes < encoded.nbytes


def test_less_than_one_image_a_class_is_an_error() -> None:
    store = Exemplars.of({"total": 2}, "regimes.lucir.exemplars")
    with pytest.raises(ConfigurationError, match=r"Parameter regimes\.lucir\.exemplars\.total is 2: .* less than one image for each of 3 classes"):
        store.update(learned(*task(0, [2, 2, 2])))


@pytest.mark.parametrize("limit", [None, 1])
def test_exactly_one_limit_is_given(limit: int | None) -> None:
    with pytest.raises(ConfigurationError, match="Section exemplars takes either per_class or total"):
        Exemplars(per_class=limit, total=limit)


@pytest.mark.parametrize("name", REHEARSING)
def test_a_wrong_budget_of_a_regime_is_answered_with_the_section_s_path(name: str) -> None:
    def refusal(**changes: Any) -> str:
        section = read_section(name)
        with pytest.raises(ConfigurationError) as caught:
            registry.build("regimes", name, {key: value for key, value in (section | changes).items() if value != "left out"})
        return str(caught.value)

    path = f"regimes.{name}.exemplars"
    for both_or_neither in ({"per_class": 5, "total": 50}, {"per_class": None, "total": None}, {}):
        assert refusal(exemplars=both_or_neither) == f"Section {path} takes either per_class or total: set one and leave the other null."
    assert refusal(exemplars="left out") == f"Parameter {path} is missing: field required."
    assert f"Parameter {path}.total is 0:" in refusal(exemplars={"per_class": None, "total": 0})
    assert f"{path}" in (text := refusal(exemplars={"per_clas": 5})) and "did you mean 'per_class'" in text


@pytest.mark.parametrize("name", REHEARSING)
def test_regimes_with_exemplars_keep_what_their_section_says(name: str) -> None:
    section = read_section(name) | {"exemplars": {"per_class": None, "total": 6}}
    store = registry.build("regimes", name, section).store
    assert len(store.update(learned(*task(0, [5, 5, 5]))).images) == 6


@pytest.mark.parametrize("encoded", [False, True])
def test_exemplars_are_read_as_they_were_written_and_weigh_their_file(tmp_path: Path, encoded: bool) -> None:
    images, features = task(0, [4, 3])
    some: ImageSet = images
    if encoded:
        some = EncodedImages.from_files([encode_png(image) for image in images.images], images.labels, (2, 2, 1))
    store = Exemplars(per_class=2)
    kept = store.update(learned(some, features))
    path = tmp_path / "task0.safetensors"
    kept.write(path, regime="lucir", task="task0")
    again = rehearsal.read(path, store, regime="lucir", task="task0")
    assert np.array_equal(again.gather(np.arange(4)), kept.images.gather(np.arange(4)))
    assert np.array_equal(again.labels, kept.images.labels) and again.shape == (2, 2, 1)
    assert rehearsal.size(path, regime="lucir", task="task0") == path.stat().st_size > kept.images.nbytes


@pytest.mark.parametrize("store", [None, Exemplars(per_class=2)])
def test_where_no_image_is_kept_none_is_read_and_nothing_weighs(tmp_path: Path, store: Exemplars | None) -> None:
    path = tmp_path / "empty.safetensors"
    NONE.write(path, regime="distill", task="empty")
    found = rehearsal.read(path, store, regime="distill", task="empty")
    assert len(found) == 0 and found.shape == (2, 2, 1)
    assert rehearsal.size(path, regime="distill", task="empty") == 0


def test_exemplars_of_another_task_or_regime_and_other_artefacts_are_refused(tmp_path: Path) -> None:
    store = Exemplars(per_class=2)
    path = tmp_path / "task0.safetensors"
    store.update(learned(*task(0, [3]))).write(path, regime="lucir", task="task0")
    for expected, told in {("lucir", "task1"): "records task 'task0'", ("hybrid", "task0"): "records regime 'lucir'"}.items():
        regime, name = expected
        with pytest.raises(ArtefactError, match=told):
            rehearsal.read(path, store, regime=regime, task=name)
        with pytest.raises(ArtefactError, match=told):
            rehearsal.size(path, regime=regime, task=name)
    artefacts.write(tmp_path / "other.safetensors", "memory", {"features": np.zeros((1, 2))}, regime="lucir", task="task0")
    with pytest.raises(ArtefactError, match=f"a 'memory' artefact where a '{KIND}' artefact is needed"):
        rehearsal.read(tmp_path / "other.safetensors", store, regime="lucir", task="task0")
    with pytest.raises(ArtefactError, match="There is no file"):
        rehearsal.size(tmp_path / "none.safetensors")
