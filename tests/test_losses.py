"""Regimes: every term of a loss equals its formula written out in numpy, and its gradient reaches the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from carryover import registry
from carryover.regimes import Step, Teacher
from carryover.regimes.distill import Distill, cosine_distance, knowledge_distillation
from carryover.regimes.finetune import Finetune


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logarithm: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithm


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([-log_softmax(logits)[i, label] for i, label in enumerate(labels)]))


def plain_distillation(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    soft = np.exp(log_softmax(teacher / temperature))
    return float(-(soft * log_softmax(student / temperature)).sum(axis=1).mean())


def plain_cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]))


def make_step(seed: int, batch: int = 6, d: int = 5, old: int = 3, new: int = 2, teacher: bool = True) -> Step:
    random = np.random.default_rng(seed)

    def tensor(*shape: int) -> Tensor:
        return torch.from_numpy(random.normal(size=shape).astype(np.float32) * 3).requires_grad_()

    labels = torch.from_numpy(random.integers(old, old + new, batch))
    view = Teacher(tensor(batch, d).detach(), tensor(batch, old).detach()) if teacher else None
    return Step(labels, tensor(batch, d), tensor(batch, old + new), view)


def arrays(step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    assert step.teacher is not None
    parts = (step.labels, step.features, step.logits, step.teacher.features, step.teacher.logits)
    labels, features, logits, old_features, old_logits = (part.detach().numpy() for part in parts)
    return labels, features.astype(float), logits.astype(float), old_features.astype(float), old_logits.astype(float)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), temperature=st.floats(0.5, 10))
def test_knowledge_distillation_equals_plain_numpy(seed: int, temperature: float) -> None:
    step = make_step(seed)
    _, _, logits, _, old = arrays(step)
    found = knowledge_distillation(torch.from_numpy(logits[:, :3]), torch.from_numpy(old), temperature)
    assert float(found) == pytest.approx(plain_distillation(logits[:, :3], old, temperature), rel=1e-6)


def test_knowledge_distillation_is_smallest_at_the_teacher_and_has_no_factor_of_squared_temperature() -> None:
    teacher = torch.tensor([[2.0, 0.0, -1.0]])
    entropy = plain_distillation(teacher.numpy().astype(float), teacher.numpy().astype(float), 4.0)
    assert float(knowledge_distillation(teacher, teacher, 4.0)) == pytest.approx(entropy, rel=1e-6)
    assert float(knowledge_distillation(teacher.flip(1), teacher, 4.0)) > entropy
    uniform = torch.zeros(1, 3)
    assert float(knowledge_distillation(uniform, uniform, 4.0)) == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.parametrize(("student", "expected"), [([2.0, 0.0], 0.0), ([0.0, 5.0], 1.0), ([-1.0, 0.0], 2.0), ([1.0, 1.0], 1 - 0.5**0.5)])
def test_cosine_distance_of_known_angles(student: list[float], expected: float) -> None:
    assert float(cosine_distance(torch.tensor([student]), torch.tensor([[3.0, 0.0]]))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_distill_terms_equal_the_paper_s_formula(seed: int, separate: bool) -> None:
    step = make_step(seed)
    labels, features, logits, old_features, old_logits = arrays(step)
    terms = Distill(distillation=1.5, temperature=3.0, feature=0.7, separate=separate).loss(step)
    expected = {
        "cross_entropy": cross_entropy(logits[:, 3:], labels - 3) if separate else cross_entropy(logits, labels),
        "distillation": 1.5 * plain_distillation(logits[:, :3], old_logits, 3.0),
        "feature": 0.7 * plain_cosine_distance(features, old_features),
    }
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_distill_in_the_first_task_is_cross_entropy_alone() -> None:
    step = make_step(0, old=0, new=4, teacher=False)
    terms = Distill(separate=True).loss(step)
    assert list(terms) == ["cross_entropy"]
    expected = cross_entropy(step.logits.detach().numpy().astype(float), step.labels.numpy())
    assert float(terms["cross_entropy"].detach()) == pytest.approx(expected, rel=1e-5)


def test_separate_cross_entropy_leaves_old_logits_alone() -> None:
    step = make_step(1)
    Distill(separate=True).loss(step)["cross_entropy"].backward()  # type: ignore[no-untyped-call]
    assert step.logits.grad is not None
    assert (step.logits.grad[:, :3] == 0).all() and (step.logits.grad[:, 3:] != 0).all()


def test_each_term_reaches_what_it_should_and_no_other() -> None:
    for name, reached in {"cross_entropy": (True, False), "distillation": (True, False), "feature": (False, True)}.items():
        step = make_step(2)
        Distill().loss(step)[name].backward()  # type: ignore[no-untyped-call]
        for tensor, expected in zip((step.logits, step.features), reached, strict=True):
            assert (tensor.grad is not None and bool((tensor.grad != 0).any())) is expected, name


def test_distillation_gradient_equals_difference_of_softened_probabilities() -> None:
    step = make_step(3)
    _, _, logits, _, old = arrays(step)
    Distill(distillation=1.0, temperature=2.0).loss(step)["distillation"].backward()  # type: ignore[no-untyped-call]
    expected = (np.exp(log_softmax(logits[:, :3] / 2)) - np.exp(log_softmax(old / 2))) / 2 / len(logits)
    assert step.logits.grad is not None
    assert np.allclose(step.logits.grad[:, :3].numpy(), expected, atol=1e-6)
    assert (step.logits.grad[:, 3:] == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_finetune_is_cross_entropy_over_all_classes_whatever_the_teacher_says(seed: int) -> None:
    step = make_step(seed)
    labels, _, logits, _, _ = arrays(step)
    terms = Finetune().loss(step)
    assert list(terms) == ["cross_entropy"]
    assert float(terms["cross_entropy"].detach()) == pytest.approx(cross_entropy(logits, labels), rel=1e-5)


@pytest.mark.parametrize("name", registry.names("regimes"))
def test_the_loss_of_every_regime_is_scalar_finite_and_reaches_the_logits(name: str) -> None:
    regime = registry.build("regimes", name, {})
    for teacher in (True, False):
        step = make_step(4, teacher=teacher)
        total = torch.stack(list(regime.loss(step).values())).sum()
        assert total.shape == () and bool(torch.isfinite(total))
        total.backward()  # type: ignore[no-untyped-call]
        assert step.logits.grad is not None and bool((step.logits.grad != 0).any())
