"""The perceptron starts where it should, learns what a linear map cannot, and treats the fixed classifier as fixed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from carryover.adapters import Head
from carryover.adapters.linear import LinearAdapter
from carryover.adapters.mlp import CHUNK, MLPAdapter

torch.set_num_threads(1)
D = 4
# The paper's form: the perceptron alone, the cosine loss and cross-entropy through the classifier.
PAPER: dict[str, Any] = {"start": "none", "similarity": "cosine", "classification_weight": 1.0, "weight_decay": 0.0}


def pairs(seed: int = 0, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    previous = random.normal(size=(n, D)).astype(np.float32) * 2 + 1
    return previous, (np.abs(previous) + 0.1 * random.normal(size=(n, D))).astype(np.float32)


def head(classes: int = 3, scale: float | None = None) -> Head:
    random = np.random.default_rng(9)
    weight = random.normal(size=(classes, D)).astype(np.float32)
    bias = np.zeros(classes) if scale else random.normal(size=classes)
    return Head(weight, bias.astype(np.float32), scale)


def labels(n: int = 60, classes: int = 3) -> np.ndarray:
    return np.random.default_rng(8).integers(0, classes, n)


def forward(adapter: MLPAdapter, x: np.ndarray) -> np.ndarray:
    """The network's formula in numpy, from its published state."""
    state = {name: array.astype(float) for name, array in adapter.state().items()}
    w1, b1, w2, b2, w3, b3 = (state[f"weights/{i}"] for i in range(6))
    spread, target_spread = state["scales"]
    standard = (x.astype(float) - state["centre"]) / spread
    hidden = np.maximum(np.maximum(standard @ w1.T + b1, 0) @ w2.T + b2, 0)
    carried: np.ndarray = x @ state["matrix"] + state["offset"] + target_spread * (hidden @ w3.T + b3)
    return carried


def classification_loss(carried: np.ndarray, targets: np.ndarray, fixed: Head) -> float:
    logits = carried @ fixed.weight.T + fixed.bias
    if fixed.scale is not None:
        lengths = np.linalg.norm(carried, axis=1, keepdims=True) * np.linalg.norm(fixed.weight, axis=1)
        logits = fixed.scale * (carried @ fixed.weight.T) / lengths
    return float(np.mean([np.log(np.exp(row - row[label]).sum()) for row, label in zip(logits, targets, strict=True)]))


def cosine_loss(carried: np.ndarray, target: np.ndarray) -> float:
    return float(np.mean([1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(carried, target, strict=True)]))


def paper_loss(adapter: MLPAdapter, previous: np.ndarray, current: np.ndarray, targets: np.ndarray, fixed: Head) -> float:
    carried = adapter.transform(previous).astype(float)
    return cosine_loss(carried, current) + classification_loss(carried, targets, fixed)


@pytest.mark.parametrize("start", ["none", "identity", "linear"])
def test_transform_equals_the_formula(start: Any) -> None:
    previous, current = pairs()
    adapter = MLPAdapter(width=3, start=start, steps=15).fit(previous, current)
    assert np.allclose(adapter.transform(previous), forward(adapter, previous), atol=1e-4)


def test_two_hidden_layers_of_sixteen_d_units() -> None:
    shapes = {name: array.shape for name, array in MLPAdapter(steps=1).fit(*pairs()).state().items()}
    assert [shapes[f"weights/{i}"] for i in range(6)] == [(64, 4), (64,), (64, 64), (64,), (4, 64), (4,)]


def test_training_begins_at_the_linear_solution() -> None:
    previous, current = pairs()
    stored = np.random.default_rng(5).normal(size=(30, D)).astype(np.float32) * 5
    adapter = MLPAdapter(start="linear", ridge=0.2, steps=1, learning_rate=1e-12).fit(previous, current)
    assert np.allclose(adapter.transform(stored), LinearAdapter(0.2).fit(previous, current).transform(stored), atol=1e-5)


def test_training_begins_at_the_identity() -> None:
    adapter = MLPAdapter(start="identity", steps=1, learning_rate=1e-12).fit(*pairs())
    stored = np.random.default_rng(5).normal(size=(30, D)).astype(np.float32) * 5
    assert np.allclose(adapter.transform(stored), stored, atol=1e-5)


def test_the_linear_part_stays_fixed_while_the_perceptron_learns() -> None:
    previous, current = pairs()
    linear, adapter = LinearAdapter(0.01).fit(previous, current), MLPAdapter(steps=30).fit(previous, current)
    assert np.array_equal(adapter.matrix_, linear.matrix_) and np.array_equal(adapter.offset_, linear.offset_)
    assert not np.allclose(adapter.transform(previous), linear.transform(previous), atol=1e-3)


@pytest.mark.parametrize("start", ["none", "identity", "linear"])
def test_a_non_linear_map_is_learned_better_than_by_a_linear_one(start: Any) -> None:
    previous, current = pairs(n=400)
    fresh, target = pairs(1, 200)
    linear = ((LinearAdapter().fit(previous, current).transform(fresh) - target) ** 2).mean()
    learned = ((MLPAdapter(start=start, steps=300, learning_rate=3e-3).fit(previous, current).transform(fresh) - target) ** 2).mean()
    assert learned < 0.3 * linear


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    first, second, third = (MLPAdapter(steps=10, seed=seed, noise=0.1).fit(*pairs()).state() for seed in (1, 1, 2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert any(first[name].tobytes() != third[name].tobytes() for name in first)


def test_the_fit_does_not_touch_torch_s_global_generator() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    MLPAdapter(steps=2, noise=0.1).fit(*pairs())
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("scale", [None, 8.0])
def test_the_paper_s_form_lowers_its_own_loss(scale: float | None) -> None:
    (previous, current), targets, fixed = pairs(), labels(), head(scale=scale)
    losses = [
        paper_loss(MLPAdapter(steps=steps, **PAPER).fit(previous, current, targets, fixed), previous, current, targets, fixed) for steps in (1, 200)
    ]
    assert losses[1] < 0.75 * losses[0]


def test_the_classifier_is_held_fixed_and_classification_follows_it() -> None:
    previous, current = pairs()
    targets, fixed = labels(), head()
    weight, bias = fixed.weight.copy(), fixed.bias.copy()
    parameters: dict[str, Any] = PAPER | {"similarity_weight": 0.0, "steps": 500}
    with_head = MLPAdapter(**parameters).fit(previous, current, targets, fixed)
    assert np.array_equal(fixed.weight, weight) and np.array_equal(fixed.bias, bias)
    # The random labels are fitted through the head, so the gradient does go through it.
    assert classification_loss(with_head.transform(previous).astype(float), targets, fixed) < 0.5


@pytest.mark.parametrize("missing", ["labels", "head", "weight"])
def test_without_labels_or_head_or_weight_there_is_no_cross_entropy(missing: str) -> None:
    previous, current = pairs()
    plain = MLPAdapter(steps=5).fit(previous, current).state()
    adapter = MLPAdapter(steps=5, classification_weight=0.0 if missing == "weight" else 1.0)
    other = adapter.fit(previous, current, None if missing == "labels" else labels(), None if missing == "head" else head()).state()
    assert all(np.array_equal(plain[name], other[name]) for name in plain)


def test_rows_without_a_class_do_not_enter_cross_entropy() -> None:
    previous, current = pairs()
    plain = MLPAdapter(steps=5).fit(previous, current).state()
    unlabelled = MLPAdapter(steps=5, classification_weight=1.0).fit(previous, current, np.full(60, -1), head()).state()
    assert all(np.array_equal(plain[name], unlabelled[name]) for name in plain)


@pytest.mark.parametrize("scale", [None, 8.0])
def test_cross_entropy_of_a_mixed_batch_is_the_sum_of_labelled_rows_over_all_rows(scale: float | None) -> None:
    from carryover.adapters.mlp import _cross_entropy

    carried, targets, fixed = pairs()[0], labels(), head(scale=scale)
    mixed = np.where(np.arange(60) < 45, targets, -1)
    found = _cross_entropy(torch.from_numpy(carried), torch.from_numpy(mixed), fixed)
    assert float(found) == pytest.approx(classification_loss(carried[:45].astype(float), targets[:45], fixed) * 45 / 60, rel=1e-5)


def test_squared_similarity_is_relative_to_the_features_so_that_units_do_not_matter() -> None:
    previous, current = pairs()
    factor = np.float32(2.0**7)
    plain = MLPAdapter(steps=20).fit(previous, current).transform(previous)
    scaled = MLPAdapter(steps=20).fit(previous * factor, current * factor).transform(previous * factor)
    assert np.allclose(scaled / factor, plain, atol=1e-3)


def test_noise_changes_the_fit_and_only_in_training() -> None:
    previous, current = pairs()
    noisy = MLPAdapter(steps=20, noise=0.5).fit(previous, current)
    assert not np.allclose(noisy.transform(previous), MLPAdapter(steps=20).fit(previous, current).transform(previous), atol=1e-4)
    assert np.array_equal(noisy.transform(previous), noisy.transform(previous))


def test_restore_gives_the_same_transform() -> None:
    previous, current = pairs()
    fitted = MLPAdapter(steps=10).fit(previous, current)
    restored = MLPAdapter().restore({name: array.copy() for name, array in fitted.state().items()})
    assert np.array_equal(restored.transform(previous), fitted.transform(previous))


def test_rows_do_not_depend_on_the_chunk_they_are_in() -> None:
    adapter = MLPAdapter(width=1, steps=5).fit(*pairs())
    stored = np.random.default_rng(0).normal(size=(CHUNK + 3, D)).astype(np.float32)
    assert np.allclose(adapter.transform(stored)[CHUNK - 2 :], adapter.transform(stored[CHUNK - 2 :]), atol=1e-5)


def test_more_steps_than_pairs_and_batches_larger_than_the_data() -> None:
    adapter = MLPAdapter(steps=9, batch_size=1000).fit(*pairs(n=3))
    assert np.isfinite(adapter.transform(pairs()[0])).all()


def test_labels_must_match_the_pairs() -> None:
    with pytest.raises(ValueError, match="as many labels"):
        MLPAdapter().fit(*pairs(), labels(59), head())
