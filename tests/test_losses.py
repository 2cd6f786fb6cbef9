"""Regimes: every term of a loss equals its formula written out in numpy, and its gradient reaches the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from carryover import registry
from carryover.backbones import HEADS, CosineHead, LinearHead
from carryover.regimes import Step, Teacher
from carryover.regimes.distill import Distill, cosine_distance, knowledge_distillation
from carryover.regimes.finetune import Finetune
from carryover.regimes.hybrid import Hybrid
from carryover.regimes.lwf import LwF

torch.set_num_threads(1)
CONFIGURATION = Path(__file__).parent.parent / "conf" / "regimes"


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


def make_head(kind: str, d: int, classes: int, seed: int) -> LinearHead | CosineHead:
    head = HEADS[kind](d)
    head.grow(classes, torch.Generator().manual_seed(seed))
    return head


def make_step(seed: int, batch: int = 6, d: int = 5, old: int = 3, new: int = 2, teacher: bool = True) -> Step:
    """A step whose parts are drawn each for itself, so that a gradient tells which of them a term looks at."""
    random = np.random.default_rng(seed)

    def tensor(*shape: int) -> Tensor:
        return torch.from_numpy(random.normal(size=shape).astype(np.float32) * 3).requires_grad_()

    labels = torch.from_numpy(random.integers(old, old + new, batch))
    view = None
    if teacher:
        view = Teacher(tensor(batch, d).detach(), tensor(batch, old).detach(), tensor(batch, d, 2, 2).detach(), make_head("linear", d, old, seed))
    return Step(labels, tensor(batch, d), tensor(batch, old + new), tensor(batch, d, 2, 2), make_head("linear", d, old + new, seed), view)


def true_step(seed: int, kind: str, exemplars: bool, teacher: bool = True, old: int = 3, new: int = 2) -> Step:
    """A step as in training: features are the maps' mean, logits the head's view of them; labels are of old classes only with exemplars."""
    random = np.random.default_rng(seed)
    labels = torch.from_numpy(random.permutation(old + new))
    if not exemplars:
        labels = old + labels % new

    def outputs(classes: int) -> tuple[Tensor, Tensor, Tensor, LinearHead | CosineHead]:
        maps = torch.from_numpy(np.abs(random.normal(size=(old + new, 4, 3, 2))).astype(np.float32)).requires_grad_()
        head = make_head(kind, 4, classes, int(random.integers(1000)))
        features = maps.mean(dim=(2, 3))
        return features, head(features), maps, head

    features, logits, maps, head = outputs(old + new)
    view = None
    if teacher:
        with torch.no_grad():
            view = Teacher(*outputs(old))
        view.head.requires_grad_(False)
    return Step(labels, features, logits, maps, head, view)


def configured(name: str) -> Any:
    """A regime with the parameters of its file in conf/."""
    return registry.build("regimes", name, yaml.safe_load((CONFIGURATION / f"{name}.yaml").read_text(encoding="utf-8"))[name])


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


@pytest.mark.parametrize("seed", range(3))
def test_hybrid_s_terms_are_those_of_distill_with_labels_of_old_classes_too(seed: int) -> None:
    step = make_step(seed)
    labels = torch.tensor([0, 4, 2, 3, 1, 4])
    step = Step(labels, step.features, step.logits, step.maps, step.head, step.teacher)
    _, features, logits, old_features, old_logits = arrays(step)
    terms = Hybrid({"per_class": 2, "total": None}, distillation=1.5, temperature=3.0, feature=0.7).loss(step)
    expected = {
        "cross_entropy": cross_entropy(logits, labels.numpy()),
        "distillation": 1.5 * plain_distillation(logits[:, :3], old_logits, 3.0),
        "feature": 0.7 * plain_cosine_distance(features, old_features),
    }
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_lwf_is_cross_entropy_and_distillation_of_logits(seed: int, separate: bool) -> None:
    step = make_step(seed)
    labels, _, logits, _, old_logits = arrays(step)
    terms = LwF(distillation=1.5, temperature=3.0, separate=separate).loss(step)
    expected = (cross_entropy(logits[:, 3:], labels - 3) if separate else cross_entropy(logits, labels)) + 1.5 * plain_distillation(
        logits[:, :3], old_logits, 3.0
    )
    assert float(sum(term.detach() for term in terms.values())) == pytest.approx(expected, rel=1e-5)


def test_lwf_has_no_pull_on_features_not_even_on_a_feature_of_zero() -> None:
    step = make_step(2)
    with torch.no_grad():
        step.features[0] = 0
    terms = LwF().loss(step)
    assert float(terms["feature"].detach()) == 0
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert step.features.grad is None or bool((step.features.grad == 0).all())
    assert step.logits.grad is not None and bool((step.logits.grad != 0).any())


@pytest.mark.parametrize("kind", sorted(HEADS))
@pytest.mark.parametrize("name", registry.names("regimes"))
def test_the_loss_of_every_regime_is_finite_and_every_term_reaches_the_network(name: str, kind: str) -> None:
    regime = configured(name)
    if regime.head not in (None, kind):
        pytest.skip(f"networks of this regime have a {regime.head} head")
    for teacher in (True, False):
        step = true_step(4, kind, regime.store is not None, teacher)
        terms = regime.loss(step)
        for term_name, term in terms.items():
            assert term.shape == () and bool(torch.isfinite(term)), term_name
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        for tensor in (step.maps, *step.head.parameters()):
            assert tensor.grad is not None and bool((tensor.grad != 0).any()) and bool(torch.isfinite(tensor.grad).all())
        if step.teacher is not None:
            assert step.teacher.maps.grad is None and all(parameter.grad is None for parameter in step.teacher.head.parameters())


@pytest.mark.parametrize("name", registry.names("regimes"))
def test_the_first_task_has_no_term_that_holds_to_a_teacher(name: str) -> None:
    regime = configured(name)
    first, later = (regime.loss(true_step(5, regime.head or "linear", regime.store is not None, teacher)) for teacher in (False, True))
    assert len(first) == 1 and (not regime.needs_teacher or set(first) < set(later))
