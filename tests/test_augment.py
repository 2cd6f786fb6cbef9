"""Augmentation in whole batches equals the same thing done to one image after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover.augment import crop_and_flip, draw, normalise

torch.set_num_threads(1)


def pictures(b: int, h: int, w: int, c: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (b, h, w, c), dtype=np.uint8)


def loop(images: np.ndarray, rows: np.ndarray, columns: np.ndarray, flips: np.ndarray, padding: int) -> np.ndarray:
    made = np.zeros_like(images)
    _, h, w, _ = images.shape
    for i, image in enumerate(images):
        for y in range(h):
            for x in range(w):
                source_y, source_x = y + rows[i] - padding, (w - 1 - x if flips[i] else x) + columns[i] - padding
                if 0 <= source_y < h and 0 <= source_x < w:
                    made[i, y, x] = image[source_y, source_x]
    return made


@settings(deadline=None, max_examples=40)
@given(
    b=st.integers(1, 6),
    h=st.integers(1, 7),
    w=st.integers(1, 7),
    c=st.sampled_from([1, 3]),
    padding=st.integers(0, 4),
    flip=st.booleans(),
    seed=st.integers(0, 999),
)
def test_crop_and_flip_equals_a_loop_over_images(b: int, h: int, w: int, c: int, padding: int, flip: bool, seed: int) -> None:
    images = pictures(b, h, w, c, seed)
    drawn = draw(b, padding, flip, torch.Generator().manual_seed(seed))
    found = crop_and_flip(torch.from_numpy(images), *drawn, padding).numpy()
    rows, columns, flips = (part.numpy() for part in drawn)
    assert found.dtype == np.uint8 and np.array_equal(found, loop(images, rows, columns, flips, padding))


def test_the_middle_offset_without_a_flip_is_the_identity() -> None:
    images = torch.from_numpy(pictures(3, 5, 4, 3))
    middle, none = torch.full((3,), 2), torch.zeros(3, dtype=torch.bool)
    assert torch.equal(crop_and_flip(images, middle, middle, none, 2), images)
    assert torch.equal(crop_and_flip(images, middle, middle, ~none, 2), images.flip(2))


def test_offsets_cover_their_whole_range_evenly_and_half_the_images_flip() -> None:
    rows, columns, flips = draw(9000, 4, True, torch.Generator().manual_seed(0))
    for offsets in (rows, columns):
        counts = np.bincount(offsets.numpy(), minlength=9)
        assert len(counts) == 9 and (np.abs(counts - 1000) < 150).all()
    assert abs(int(flips.sum()) - 4500) < 200
    assert abs(np.corrcoef(rows.numpy(), columns.numpy())[0, 1]) < 0.05


def test_without_padding_and_flip_nothing_is_drawn() -> None:
    rows, columns, flips = draw(100, 0, False, torch.Generator().manual_seed(0))
    assert not rows.any() and not columns.any() and not flips.any()


def test_switching_flips_on_leaves_the_crops_as_they_were() -> None:
    with_flips, without = (draw(50, 4, flip, torch.Generator().manual_seed(0)) for flip in (True, False))
    assert torch.equal(with_flips[0], without[0]) and torch.equal(with_flips[1], without[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalise_maps_bytes_to_minus_two_to_two_with_channels_first(dtype: torch.dtype) -> None:
    images = pictures(2, 3, 4, 3)
    images[0, 0, 0] = [0, 255, 128]
    found = normalise(torch.from_numpy(images), dtype)
    assert found.shape == (2, 3, 3, 4) and found.dtype == dtype
    expected = (images.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25
    assert np.allclose(found.float().numpy(), expected, atol=1e-5 if dtype is torch.float32 else 0.02)
    assert found[0, :2, 0, 0].tolist() == [-2, 2]
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_a_crop_s_gradient_goes_back_to_where_its_pixels_came_from(padding: int) -> None:
    images = torch.from_numpy(pictures(5, 6, 4, 3)).double()
    drawn = draw(5, padding, True, torch.Generator().manual_seed(0))
    asked = images.clone().requires_grad_()
    found = crop_and_flip(asked, *drawn, padding)
    assert torch.equal(found, crop_and_flip(images, *drawn, padding))
    weights = torch.rand(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((found * weights).sum(), asked)
    # Of each pixel the weight of the place that it is shown at, or zero.
    places = crop_and_flip(torch.arange(1, 1 + images.numel(), dtype=torch.float64).reshape(images.shape), *drawn, padding)
    expected = torch.zeros(1 + images.numel(), dtype=torch.float64)
    expected[places.long().flatten()] = weights.flatten()
    assert torch.equal(gradient, expected[1:].reshape(images.shape))
