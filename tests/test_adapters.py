"""What every adapter has in common, checked for each that is found by name."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover import registry
from carryover.adapters import Adapter, Chasing, Head, head_of, parameter_count

torch.set_num_threads(1)
# Those that learn from pairs; the ones that chase have tests of their own.
NAMES = [name for name in registry.names("adapters") if not issubclass(registry.find("adapters", name), Chasing)]
# Small and fast, where the defaults are neither.
QUICK: dict[str, dict[str, Any]] = {"mlp": {"width": 2, "steps": 5}}
# How far a method may move a vector, relative to the features' deviation, when nothing has drifted: the perceptron
# shrinks its weights on noise-free zeros but does not leave its start.
TOLERANCE = {"none": 0.0, "sdc": 1e-6, "linear": 1e-5, "mlp": 1e-3}


def make(name: str) -> Adapter:
    adapter: Adapter = registry.build("adapters", name, QUICK.get(name, {}))
    return adapter


def pairs(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Head]:
    random = np.random.default_rng(seed)
    previous, current = (random.normal(size=(n, d)).astype(np.float32) for _ in range(2))
    return previous, current, random.integers(0, 3, n), Head(random.normal(size=(3, d)).astype(np.float32), np.zeros(3, dtype=np.float32))


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=15)
@given(n=st.integers(1, 20), d=st.integers(1, 6), m=st.integers(0, 9), seed=st.integers(0, 1000), dtype=st.sampled_from(["float32", "float64"]))
def test_an_adapter_maps_matrices_to_finite_float32_and_round_trips(name: str, n: int, d: int, m: int, seed: int, dtype: str) -> None:
    previous, current, labels, head = pairs(seed, n, d)
    stored = np.random.default_rng(seed + 1).normal(size=(m, d)).astype(dtype)
    untouched = previous.copy(), current.copy(), stored.copy()
    adapter = make(name)
    assert adapter.fit(previous.astype(dtype), current.astype(dtype), labels, head) is adapter
    carried = adapter.transform(stored)
    assert carried.shape == (m, d) and carried.dtype == np.float32 and np.isfinite(carried).all()
    assert all(np.array_equal(a, b) for a, b in zip(untouched, (previous, current, stored), strict=True))
    state = {key: array.copy() for key, array in adapter.state().items()}
    again = make(name)
    assert again.restore(state) is again
    assert np.array_equal(again.transform(stored), carried)
    assert parameter_count(again) == sum(array.size for array in state.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_forgets_the_one_before(name: str) -> None:
    first, second = pairs(1, 15, 4), pairs(2, 9, 4)
    refitted = make(name).fit(*first).fit(*second)
    assert np.array_equal(refitted.transform(first[0]), make(name).fit(*second).transform(first[0]))


@pytest.mark.parametrize("name", NAMES)
def test_constructor_arguments_are_stored_unchanged(name: str) -> None:
    cls = registry.find("adapters", name)
    for parameter in inspect.signature(cls).parameters.values():
        assert parameter.default is not inspect.Parameter.empty, "an adapter works with its defaults"
        assert getattr(cls(), parameter.name) is parameter.default
        other = object()
        assert getattr(cls(**{parameter.name: other}), parameter.name) is other


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_zero_drift_is_the_identity(name: str, seed: int) -> None:
    previous, _, labels, head = pairs(seed, 40, 5)
    stored = np.random.default_rng(9).normal(size=(20, 5)).astype(np.float32)
    adapter = registry.build("adapters", name, {"steps": 50} if name == "mlp" else {})
    moved = adapter.fit(previous, previous.copy(), labels, head).transform(stored)
    assert np.abs(moved - stored).max() <= TOLERANCE.get(name, 0.05)


# `generative` carries nothing by default, and the map of `ldc` has no offset.
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("none", "generative", "ldc")])
def test_a_common_shift_is_followed(name: str) -> None:
    previous, _, labels, head = pairs(0, 60, 4)
    shift = np.array([3.0, -2.0, 0.5, 1.0], dtype=np.float32)
    adapter = registry.build("adapters", name, {}).fit(previous, previous + shift, labels, head)
    assert np.abs(adapter.transform(previous) - previous - shift).max() < 0.05


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("previous", "current"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2))),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((0, 2)), np.zeros((0, 2))),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2))),
        (np.array([[1.0, np.nan]]), np.ones((1, 2))),
        (np.ones((1, 2)), np.array([[1.0, np.inf]])),
    ],
)
def test_pairs_of_wrong_shape_or_not_finite_raise(name: str, previous: np.ndarray, current: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^Pairs must be"):
        make(name).fit(previous, current)


# Others lead to any dimension, or have a map within that does.
@pytest.mark.parametrize("name", ["none", "sdc", "sdc_means", "ldc"])
def test_pairs_of_two_dimensions_raise(name: str) -> None:
    with pytest.raises(ValueError, match=r"^Pairs must be two matrices of the same shape"):
        make(name).fit(np.zeros((3, 1)), np.zeros((3, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_features_of_wrong_shape_raise(name: str) -> None:
    adapter = make(name).fit(*pairs(0, 10, 4))
    wrong = [np.zeros(4), np.zeros((2, 2, 4))] + ([] if name in ("none", "generative") else [np.zeros((2, 5)), np.zeros((2, 1))])
    for features in wrong:
        with pytest.raises(ValueError, match=r"^Features must be a matrix"):
            adapter.transform(features)


def test_head_of_reads_linear_and_cosine_heads() -> None:
    weight, bias = np.ones((3, 2), dtype=np.float32), np.arange(3, dtype=np.float32)
    linear = head_of({"head_weight": weight, "head_bias": bias, "labels": np.zeros(1)})
    assert linear.scale is None and np.array_equal(linear.bias, bias) and np.array_equal(linear.weight, weight)
    cosine = head_of({"head_weight": weight, "head_scale": np.array(12.0, dtype=np.float32)})
    assert cosine.scale == 12.0 and np.array_equal(cosine.bias, np.zeros(3))
