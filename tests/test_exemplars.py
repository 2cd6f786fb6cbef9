"""Exemplar images: within their budget, each class a prefix of its herding order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover.errors import ConfigurationError
from carryover.exemplars import ExemplarBudget
from carryover.images import ImageSet, PackedImages
from carryover.selection import herding

EMPTY = PackedImages(np.empty((0, 2, 2, 1), dtype=np.uint8), np.empty(0, dtype=np.int64))


def task(first: int, counts: list[int], seed: int = 0) -> tuple[PackedImages, np.ndarray]:
    """Images of the classes first, first + 1, ... in mixed order, each recognisable, and their features."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(first, first + len(counts)), counts))
    return PackedImages(random.integers(0, 256, (len(labels), 2, 2, 1), dtype=np.uint8), labels), random.normal(size=(len(labels), 5))


def of(images: ImageSet, label: int) -> list[bytes]:
    """The images of a class, in the order in which they are kept."""
    return [image.tobytes() for image in images.gather(np.flatnonzero(np.asarray(images.labels) == label))]


@settings(deadline=None, max_examples=30)
@given(
    first=st.lists(st.integers(1, 9), min_size=1, max_size=4), second=st.lists(st.integers(1, 9), min_size=1, max_size=4), total=st.integers(8, 40)
)
def test_a_total_is_shared_equally_and_shrinks_as_classes_arrive(first: list[int], second: list[int], total: int) -> None:
    budget = ExemplarBudget(total=total)
    images, features = task(0, first)
    kept = budget.update(EMPTY, images, features, images.labels)
    assert [len(of(kept, c)) for c in range(len(first))] == [min(count, total // len(first)) for count in first]
    more, further = task(len(first), second, 1)
    grown = budget.update(kept, more, further, more.labels)
    share = total // (len(first) + len(second))
    assert [len(of(grown, c)) for c in range(len(first) + len(second))] == [min(count, share) for count in first + second]
    assert len(grown) <= total
    for c in range(len(first)):
        assert of(grown, c) == of(kept, c)[:share]


def test_new_classes_are_kept_in_their_herding_order() -> None:
    images, features = task(3, [7, 5])
    kept = ExemplarBudget(per_class=4).update(EMPTY, images, features, images.labels)
    for label in (3, 4):
        rows = np.flatnonzero(images.labels == label)
        assert of(kept, label) == [images.images[i].tobytes() for i in rows[herding(features[rows], 4)]]
    assert np.asarray(kept.labels).tolist() == [3] * 4 + [4] * 4


def test_a_budget_per_class_never_touches_earlier_exemplars() -> None:
    budget = ExemplarBudget(per_class=3)
    images, features = task(0, [6, 2])
    kept = budget.update(EMPTY, images, features, images.labels)
    more, further = task(2, [5], 1)
    grown = budget.update(kept, more, further, more.labels)
    assert of(grown, 0) == of(kept, 0) and of(grown, 1) == of(kept, 1) and len(of(grown, 2)) == 3


def test_less_than_one_image_a_class_is_an_error() -> None:
    images, features = task(0, [2, 2, 2])
    with pytest.raises(ConfigurationError, match="budget of 2 images in all is less than one for each of 3 classes"):
        ExemplarBudget(total=2).update(EMPTY, images, features, images.labels)


@pytest.mark.parametrize("limits", [{}, {"per_class": 1, "total": 1}])
def test_exactly_one_limit_is_given(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="either per_class or total"):
        ExemplarBudget(**limits)
