"""Views: blends of crops of the task's own images and the exemplars, without labels, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover.images import PackedImages
from carryover.views import UNLABELLED, Blends, Views


def flat(values: list[int], size: int = 4, channels: int = 1) -> PackedImages:
    """Images of one grey value each."""
    images = np.repeat(np.array(values, dtype=np.uint8), size * size * channels).reshape(-1, size, size, channels)
    return PackedImages(images, np.arange(len(values)))


def pixels(views: Blends) -> np.ndarray:
    return views.gather(np.arange(len(views)))


NONE = flat([])


@pytest.mark.parametrize("views", [0, 1, 3])
def test_there_are_so_many_views_of_each_image_and_none_has_a_label(views: int) -> None:
    made = Views(views, padding=1).of(flat([10, 20, 30]), flat([200]), "task1")
    assert len(made) == 3 * views and made.shape == (4, 4, 1)
    assert (np.asarray(made.labels) == UNLABELLED).all() and UNLABELLED == -1


@settings(deadline=None, max_examples=30)
@given(values=st.lists(st.integers(0, 255), min_size=1, max_size=8), others=st.lists(st.integers(0, 255), max_size=4), seed=st.integers(0, 99))
def test_blends_stay_between_the_values_of_the_images(values: list[int], others: list[int], seed: int) -> None:
    made = pixels(Views(2, padding=0, seed=seed).of(flat(values), flat(others), "t"))
    assert made.dtype == np.uint8
    assert made.min() >= min(values + others) and made.max() <= max(values + others)


def test_each_view_is_at_least_half_its_own_image() -> None:
    made = pixels(Views(20, padding=0, flip=False).of(flat([0, 200]), NONE, "t")).reshape(20, 2, -1)
    assert made[:, 0].max() <= 100 and made[:, 1].min() >= 100
    # The shares spread over 0 to 0.5, and all pixels of a view have the same.
    mixed = made[:, 0, 0][made[:, 0, 0] > 0]
    assert mixed.min() < 30 and mixed.max() > 70
    assert (made == made[:, :, :1]).all()


def test_exemplars_are_blended_in_and_are_never_the_main_part() -> None:
    made = pixels(Views(30, padding=0, flip=False).of(flat([0, 0]), flat([200, 200]), "t"))
    assert made.max() > 50 and made.max() <= 100
    assert pixels(Views(30, padding=0).of(flat([0, 0]), NONE, "t")).max() == 0


def test_crops_take_in_the_zero_padding_on_all_sides() -> None:
    made = pixels(Views(40, padding=1, flip=False).of(flat([255]), NONE, "t"))
    for edge in (made[:, 0], made[:, -1], made[:, :, 0], made[:, :, -1]):
        assert edge.min() < 255
    assert (made[:, 1:-1, 1:-1] == 255).all()
    # The image and its partner are cropped apart: where only one of them has padding, the blend is grey.
    assert ((made > 0) & (made < 255)).any()


@pytest.mark.parametrize(("height", "width", "allowed"), [(4, 4, {0, 1, 2, 3}), (4, 6, {0, 2})])
def test_turned_views_are_the_same_views_turned_by_half_turns_alone_where_not_square(height: int, width: int, allowed: set[int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    images, exemplars = PackedImages(noise, np.arange(5)), PackedImages(noise[:0], np.arange(0))
    straight = pixels(Views(8, padding=1).of(images, exemplars, "t"))
    turned = pixels(Views(8, padding=1, turn=True).of(images, exemplars, "t"))
    assert turned.shape == straight.shape
    found = [next(k for k in allowed if np.array_equal(np.rot90(before, k), after)) for before, after in zip(straight, turned, strict=True)]
    assert set(found) == allowed
    # Nor does it matter in which order, or with which others, views are gathered.
    some = np.array([33, 2, 17])
    assert np.array_equal(Views(8, padding=1, turn=True).of(images, exemplars, "t").gather(some), turned[some])


def test_crops_differ_between_tasks() -> None:
    first, second = (pixels(Views(40, padding=1, flip=False).of(flat([255]), NONE, task)) == 255 for task in ("task1", "task2"))
    assert (first != second).any()


def test_views_depend_on_seed_and_task_alone_and_not_on_what_was_made_before() -> None:
    images, exemplars = flat([10, 90, 170]), flat([250])
    first = pixels(Views(2, seed=1).of(images, exemplars, "task1"))
    settings_again = Views(2, seed=1)
    settings_again.of(images, exemplars, "task0")
    assert np.array_equal(pixels(settings_again.of(images, exemplars, "task1")), first)
    assert not np.array_equal(pixels(Views(2, seed=1).of(images, exemplars, "task2")), first)
    assert not np.array_equal(pixels(Views(2, seed=2).of(images, exemplars, "task1")), first)
    # Two views of one task differ.
    assert not np.array_equal(first[:3], first[3:])


def test_the_images_themselves_stay_as_they_are() -> None:
    images = flat([10, 90, 170])
    before = images.images.copy()
    Views(2).of(images, flat([250]), "t")
    assert np.array_equal(images.images, before)
