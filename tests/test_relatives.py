"""The relatives' regimes (LwM, iCaRL, LUCIR): every term and gradient equals its formula, and every regime trains."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from carryover import registry
from carryover.backbones import HEADS, CosineHead, LinearHead, Network, initialise, to_arrays
from carryover.images import PackedImages
from carryover.machine import Machine
from carryover.regimes import Regime, Step, Teacher
from carryover.regimes.attention import Attention, attention_distance, grad_cam
from carryover.regimes.lucir import LUCIR, margin_ranking
from carryover.regimes.rehearsal import Rehearsal
from carryover.training import Training, train

torch.set_num_threads(1)
CONFIGURATION = Path(__file__).parent.parent / "conf" / "regimes"
KEPT = {"per_class": 2, "total": None}
KINDS = sorted(HEADS)
SEEDS = range(4)
OLD, NEW = 4, 3
Head = LinearHead | CosineHead


def make_head(kind: str, d: int, classes: int, random: np.random.Generator) -> Head:
    """A head whose rows have different lengths, so that a formula that forgets to normalise them is caught."""
    head = HEADS[kind](d)
    head.grow(classes, torch.Generator().manual_seed(int(random.integers(2**31))))
    with torch.no_grad():
        head.weight.mul_(torch.from_numpy(random.uniform(0.5, 3, (classes, 1))))
        if isinstance(head, LinearHead):
            head.bias.copy_(torch.from_numpy(random.normal(0, 0.1, classes)))
        else:
            head.scale.fill_(random.uniform(3, 9))
    return head


def outputs(kind: str, batch: int, classes: int, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Head]:
    """Features, logits, maps [batch, 5, 3, 2] as they come from a ReLU, and the head, of a network without a backbone."""
    strengths = random.uniform(0, 3, (batch, 5, 1, 1))  # images differ in their channels
    maps = torch.from_numpy((strengths * np.maximum(random.normal(0.4, 1, (batch, 5, 3, 2)), 0)).astype(np.float32)).requires_grad_()
    head = make_head(kind, 5, classes, random)
    features = maps.mean(dim=(2, 3))
    if isinstance(head, LinearHead):  # so that not all images are likeliest of one class
        head.bias.data -= head(features).detach().mean(dim=0)
    logits = head(features)
    features.retain_grad()
    logits.retain_grad()
    return features, logits, maps, head


def make_step(seed: int, kind: str = "linear", teacher: bool = True, labels: list[int] | None = None) -> Step:
    """A step as in training; labels are of old and new classes unless they are given."""
    random = np.random.default_rng(seed)
    drawn = np.array(labels) if labels is not None else random.permutation(OLD + NEW)
    features, logits, maps, head = outputs(kind, len(drawn), OLD + NEW, random)
    view = None
    if teacher:
        old_features, old_logits, old_maps, old_head = outputs(kind, len(drawn), OLD, random)
        view = Teacher(old_features.detach(), old_logits.detach(), old_maps.detach(), old_head.requires_grad_(False))
    return Step(torch.from_numpy(drawn), features, logits, maps, head, view)


def plain(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().numpy().astype(np.float64)
    return array


def length(vector: np.ndarray) -> float:
    return float(np.sqrt((vector**2).sum()))


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length one; zero stays zero."""
    scaled: np.ndarray = vector / (length(vector) or 1)
    return scaled


def sigmoid(z: np.ndarray) -> np.ndarray:
    value: np.ndarray = 1 / (1 + np.exp(-z))
    return value


def plain_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([np.log(np.exp(row - row[label]).sum()) for row, label in zip(logits, labels, strict=True)]))


def plain_cosines(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.array([[f @ w / (length(f) * length(w)) for w in weight] for f in features])


def plain_grad_cam(maps: np.ndarray, head: Head, classes: np.ndarray) -> np.ndarray:
    """ReLU(sum_k alpha_k A_k), alpha_k = (1 / hw) sum_ij d score / d A_k[i, j] and f_k = (1 / hw) sum_ij A_k[i, j]."""
    result = []
    for a, label in zip(maps, classes, strict=True):
        d, h, w = a.shape
        row, feature = plain(head.weight)[label], a.reshape(d, -1).mean(axis=1)
        if isinstance(head, LinearHead):
            slope = row
        else:
            u, v = row / length(row), feature / length(feature)
            slope = float(head.scale.detach()) * (u - (u @ v) * v) / length(feature)
        alpha = [np.full((h, w), slope[k] / (h * w)).mean() for k in range(d)]
        result.append(np.maximum(sum(alpha[k] * a[k] for k in range(d)), 0))
    return np.array(result)


def plain_attention_distance(new: np.ndarray, old: np.ndarray) -> float:
    return float(np.mean([np.abs(unit(q) - unit(p)).sum() for q, p in zip(new, old, strict=True)]))


# Learning without memorizing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("recorded", [True, False])
def test_grad_cam_equals_its_definition(kind: str, seed: int, recorded: bool) -> None:
    random = np.random.default_rng(seed)
    _, _, maps, head = outputs(kind, 6, 5, random)
    classes = torch.from_numpy(random.integers(0, 5, 6))
    found = grad_cam(maps if recorded else maps.detach(), head.requires_grad_(recorded), classes)
    expected = plain_grad_cam(plain(maps), head, classes.numpy())
    assert found.shape == (6, 3, 2) and found.requires_grad is recorded
    assert 0 < (expected > 0).mean() < 1
    assert np.allclose(plain(found), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_on_a_frozen_backbone_reaches_the_head_as_finite_differences_say(kind: str) -> None:
    random = np.random.default_rng(2)
    _, _, maps, head = outputs(kind, 6, 5, random)
    frozen, head = maps.detach().double(), head.double()
    classes = torch.from_numpy(random.integers(0, 5, 6))
    old = torch.from_numpy(random.uniform(size=(6, 3, 2)))

    def distance() -> Tensor:
        return attention_distance(grad_cam(frozen, head, classes), old)

    (found,) = torch.autograd.grad(distance(), head.weight)
    expected = torch.zeros_like(found)
    for position in np.ndindex(*head.weight.shape):
        ends = []
        for shift in (1e-6, -1e-6):
            with torch.no_grad():
                head.weight[position] += shift
            ends.append(float(distance().detach()))
            with torch.no_grad():
                head.weight[position] -= shift
        expected[position] = (ends[0] - ends[1]) / 2e-6
    assert found.abs().max() > 1e-3
    assert torch.allclose(found, expected, atol=1e-5)


def test_grad_cam_of_a_teacher_works_where_nothing_records_gradients_and_leaves_none_behind() -> None:
    _, _, maps, head = outputs("cosine", 3, 4, np.random.default_rng(0))
    classes = torch.tensor([0, 1, 3])
    with torch.no_grad():
        found = grad_cam(maps.detach(), head, classes)
    assert np.allclose(plain(found), plain_grad_cam(plain(maps), head, classes.numpy()), atol=1e-5)
    assert all(parameter.grad is None for parameter in head.parameters())


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_distance_equals_its_formula_whatever_the_maps_scales(seed: int) -> None:
    random = np.random.default_rng(seed)
    new, old = random.uniform(size=(2, 4, 3, 2)).astype(np.float32)
    expected = plain_attention_distance(new.astype(float), old.astype(float))
    assert float(attention_distance(torch.from_numpy(new), torch.from_numpy(old))) == pytest.approx(expected, abs=1e-5)
    assert float(attention_distance(torch.from_numpy(new) * 1e-4, torch.from_numpy(old) * 1e3)) == pytest.approx(expected, abs=1e-5)


def test_attention_distance_of_known_maps() -> None:
    here, there, both = (torch.tensor([[[a, b]]]) for a, b in ((3.0, 0.0), (0.0, 2.0), (1.0, 1.0)))
    nowhere = torch.zeros(1, 1, 2)
    assert float(attention_distance(here, here)) == 0
    assert float(attention_distance(here, there)) == pytest.approx(2)
    assert float(attention_distance(here, both)) == pytest.approx(1 - 0.5**0.5 + 0.5**0.5)
    assert float(attention_distance(nowhere, both)) == pytest.approx(2 * 0.5**0.5)
    assert float(attention_distance(nowhere, nowhere)) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dead", ["maps of zero", "all places against the class"])
def test_an_all_zero_map_gives_no_gradient_and_no_nan(kind: str, dead: str) -> None:
    random = np.random.default_rng(1)
    _, _, _, head = outputs(kind, 1, 3, random)
    before = torch.from_numpy(random.uniform(0.1, 1, (2, 5, 3, 2)).astype(np.float32))
    if dead == "maps of zero":
        before[0] = -before[0]
    elif isinstance(head, LinearHead):
        with torch.no_grad():
            head.weight[0] = -head.weight[0].abs()
    else:
        # The same feature everywhere: the derivative of a cosine is at right angles to it, so every place scores zero.
        before[0] = before[0].mean(dim=(1, 2), keepdim=True)
        with torch.no_grad():
            head.weight[0] = before[0, :, 0, 0]
    before.requires_grad_()
    new = grad_cam(before.relu(), head, torch.tensor([0, 1]))
    assert new[0].abs().max() < 1e-6 and new[1].max() > 0
    if kind == "linear" or dead == "maps of zero":
        assert bool((new[0] == 0).all())
        old = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0))
        distance = attention_distance(new, old)
        assert float(distance.detach()) == pytest.approx(plain_attention_distance(plain(new), plain(old)), abs=1e-5)
        distance.backward()  # type: ignore[no-untyped-call]
        assert before.grad is not None and bool((before.grad[0] == 0).all()) and bool((before.grad[1] != 0).any())
        assert head.weight.grad is not None
        assert bool(torch.isfinite(before.grad).all()) and bool(torch.isfinite(head.weight.grad).all())


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_lwm_s_terms_equal_the_paper_s_formula_for_the_old_class_the_teacher_finds_likeliest(seed: int, kind: str, separate: bool) -> None:
    step = make_step(seed, kind, labels=[OLD + i % NEW for i in range(OLD + NEW)])
    assert step.teacher is not None
    terms = Attention(distillation=1.5, temperature=3.0, attention=0.7, separate=separate).loss(step)
    logits, old = plain(step.logits), plain(step.teacher.logits)
    likeliest = np.array([max(range(OLD), key=lambda c: row[c]) for row in old])
    assert len(set(likeliest)) > 1
    soft = np.exp(old / 3) / np.exp(old / 3).sum(axis=1, keepdims=True)
    student = logits[:, :OLD] / 3
    new_maps, old_maps = (
        plain_grad_cam(plain(step.maps), step.head, likeliest),
        plain_grad_cam(plain(step.teacher.maps), step.teacher.head, likeliest),
    )
    expected = {
        "cross_entropy": (
            plain_cross_entropy(logits[:, OLD:], step.labels.numpy() - OLD) if separate else plain_cross_entropy(logits, step.labels.numpy())
        ),
        "distillation": -1.5 * float((soft * (student - np.log(np.exp(student).sum(axis=1, keepdims=True)))).sum(axis=1).mean()),
        "attention": 0.7 * plain_attention_distance(new_maps, old_maps),
    }
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_distillation_is_zero_where_the_student_is_the_teacher(kind: str) -> None:
    step = make_step(0, kind)
    teacher = Teacher(step.features.detach(), step.logits[:, :OLD].detach(), step.maps.detach(), copy.deepcopy(step.head))
    same = Step(step.labels, step.features, step.logits, step.maps, step.head, teacher)
    assert float(Attention(attention=1.0, separate=False).loss(same)["attention"].detach()) == 0
    assert float(Attention(attention=1.0, separate=False).loss(step)["attention"].detach()) > 0.1


class TinyNetwork(nn.Module):
    """One convolution with a ReLU, and a head, in double precision."""

    def __init__(self, kind: str, classes: int, random: np.random.Generator) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 5, 3, padding=1, bias=False)
        with torch.no_grad():
            self.convolution.weight.copy_(torch.from_numpy(random.normal(size=(5, 2, 3, 3))))
        self.head = make_head(kind, 5, classes, random)
        self.double()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Head]:
        maps = F.relu(self.convolution(images))
        features = maps.mean(dim=(2, 3))
        return features, self.head(features), maps, self.head


def central_differences(value: Callable[[], float], parameter: Tensor, by: float = 1e-6) -> np.ndarray:
    flat = parameter.data.view(-1)
    slopes = []
    for i in range(len(flat)):
        here = float(flat[i])
        values = []
        for moved in (here + by, here - by):
            flat[i] = moved
            values.append(value())
        flat[i] = here
        slopes.append((values[0] - values[1]) / (2 * by))
    return np.array(slopes).reshape(parameter.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_attention_gradient_equals_central_differences_and_flows_through_alpha(seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.normal(size=(4, 2, 4, 4)))
    student, teacher = TinyNetwork(kind, OLD + NEW, random), TinyNetwork(kind, OLD, random)
    with torch.no_grad():
        view = Teacher(*teacher(images))
    labels = torch.from_numpy(random.integers(OLD, OLD + NEW, 4))

    def term() -> Tensor:
        features, logits, maps, head = student(images)
        return Attention(attention=1.0, separate=False).loss(Step(labels, features, logits, maps, head, view))["attention"]

    assert term().dtype == torch.float64
    parameters = [student.convolution.weight, student.head.weight]
    gradients = torch.autograd.grad(term(), parameters)
    for gradient, parameter in zip(gradients, parameters, strict=True):
        assert bool((gradient != 0).any())
        assert np.allclose(gradient.numpy(), central_differences(lambda: float(term().detach()), parameter), rtol=1e-5, atol=1e-7)

    # With alpha held fixed, as when maps are made without a graph of the derivative, the gradient is another one.
    _, _, maps, _ = student(images)
    likeliest = view.logits.argmax(dim=1)
    flat = maps.detach().mean(dim=(2, 3)).requires_grad_()
    (slope,) = torch.autograd.grad(student.head(flat).gather(1, likeliest[:, None]).sum(), flat)
    fixed = F.relu((slope[:, :, None, None] * maps).sum(dim=1))
    detached = attention_distance(fixed, grad_cam(view.maps, view.head, likeliest))
    assert float(detached.detach()) == pytest.approx(float(term().detach()), rel=1e-9)
    through_maps, none = torch.autograd.grad(detached, parameters, allow_unused=True)
    assert none is None
    if kind == "cosine":  # of a linear head, alpha depends on the head's weights alone
        assert float((through_maps - gradients[0]).norm() / gradients[0].norm()) > 0.01


# iCaRL


def plain_targets(step: Step) -> np.ndarray:
    """The old network's sigmoids for old classes and, for new ones, one where the label is and zero elsewhere."""
    targets = np.zeros(step.logits.shape)
    if step.teacher is not None:
        targets[:, :OLD] = sigmoid(plain(step.teacher.logits))
    for i, label in enumerate(step.labels.tolist()):
        if step.teacher is None or label >= OLD:
            targets[i, label] = 1
    return targets


@pytest.mark.parametrize("teacher", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_icarl_s_terms_sum_to_the_weighted_mean_of_sigmoid_cross_entropies(seed: int, teacher: bool) -> None:
    step = make_step(seed, teacher=teacher)
    z, t = plain(step.logits), plain_targets(step)
    terms = Rehearsal(KEPT, weight=7.0).loss(step)
    assert list(terms) == (["labels", "distillation"] if teacher else ["labels"])
    each = -t * np.log(sigmoid(z)) - (1 - t) * np.log(1 - sigmoid(z))
    assert float(sum(term.detach() for term in terms.values())) == pytest.approx(7 * each.mean(), rel=1e-5)
    if teacher:
        assert float(terms["labels"].detach()) == pytest.approx(7 * each[:, OLD:].sum() / each.size, rel=1e-5)
        assert float(terms["distillation"].detach()) == pytest.approx(7 * each[:, :OLD].sum() / each.size, rel=1e-5)


@pytest.mark.parametrize("teacher", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_icarl_s_gradient_is_the_difference_of_sigmoids_and_targets(seed: int, teacher: bool) -> None:
    step = make_step(seed, teacher=teacher)
    torch.stack(list(Rehearsal(KEPT, weight=7.0).loss(step).values())).sum().backward()  # type: ignore[no-untyped-call]
    z = plain(step.logits)
    assert step.logits.grad is not None
    assert np.allclose(plain(step.logits.grad), 7 * (sigmoid(z) - plain_targets(step)) / z.size, atol=1e-6)


def test_an_exemplar_s_new_outputs_are_pulled_to_zero_and_its_old_ones_to_the_teacher_s() -> None:
    step = make_step(5, labels=[0, 3, 2])
    assert step.teacher is not None
    terms = Rehearsal(KEPT, weight=1.0).loss(step)
    z, q = plain(step.logits), sigmoid(plain(step.teacher.logits))
    assert float(terms["labels"].detach()) == pytest.approx(-np.log(1 - sigmoid(z[:, OLD:])).sum() / z.size, rel=1e-5)
    other = make_step(5, labels=[1, 0, 0])
    assert float(Rehearsal(KEPT, weight=1.0).loss(other)["distillation"].detach()) == pytest.approx(float(terms["distillation"].detach()))
    terms["distillation"].backward()  # type: ignore[no-untyped-call]
    assert step.logits.grad is not None
    assert np.allclose(plain(step.logits.grad)[:, :OLD], (sigmoid(z[:, :OLD]) - q) / z.size, atol=1e-6)
    assert bool((step.logits.grad[:, OLD:] == 0).all())


def test_icarl_stays_finite_at_extreme_logits() -> None:
    step = make_step(6)
    large = (step.logits.detach() * 1e4).requires_grad_()
    total = torch.stack(list(Rehearsal(KEPT).loss(Step(step.labels, step.features, large, step.maps, step.head, step.teacher)).values())).sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert bool(torch.isfinite(total)) and large.grad is not None and bool(torch.isfinite(large.grad).all())


# LUCIR


def plain_ranking(cosines: np.ndarray, labels: np.ndarray, old: int, margin: float, nearest: int) -> float:
    violations = []
    for row, label in zip(cosines, labels, strict=True):
        if label < old:
            violations += [max(margin - row[label] + other, 0.0) for other in sorted(row[old:], reverse=True)[:nearest]]
    return float(np.mean(violations)) if violations else 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_lucir_s_terms_equal_the_paper_s_formula(seed: int) -> None:
    step = make_step(seed, "cosine")
    assert step.teacher is not None and isinstance(step.head, CosineHead)
    terms = LUCIR(KEPT, less_forget=5.0, margin=0.4, nearest=2, ranking=0.6).loss(step)
    features, old_features, labels = plain(step.features), plain(step.teacher.features), step.labels.numpy()
    cosines = plain_cosines(features, plain(step.head.weight))
    distances = [1 - f @ g / (length(f) * length(g)) for f, g in zip(features, old_features, strict=True)]
    ranking = plain_ranking(cosines, labels, OLD, 0.4, 2)
    assert ranking > 0
    expected = {
        "cross_entropy": plain_cross_entropy(float(step.head.scale.detach()) * cosines, labels),
        "less_forget": 5 * np.sqrt(OLD / NEW) * float(np.mean(distances)),
        "ranking": 0.6 * ranking,
    }
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_lucir_in_the_first_task_is_cross_entropy_of_cosine_logits_alone() -> None:
    step = make_step(0, "cosine", teacher=False)
    assert isinstance(step.head, CosineHead)
    terms = LUCIR(KEPT).loss(step)
    logits = float(step.head.scale.detach()) * plain_cosines(plain(step.features), plain(step.head.weight))
    assert {name: float(term.detach()) for name, term in terms.items()} == {
        "cross_entropy": pytest.approx(plain_cross_entropy(logits, step.labels.numpy()), rel=1e-5)
    }


def test_lucir_fixes_the_rows_of_old_classes_once_there_are_any() -> None:
    for teacher in (True, False):
        step = make_step(1, "cosine", teacher=teacher)
        torch.stack(list(LUCIR(KEPT).loss(step).values())).sum().backward()  # type: ignore[no-untyped-call]
        assert isinstance(step.head, CosineHead) and step.head.weight.grad is not None and step.head.scale.grad is not None
        moved = (step.head.weight.grad != 0).any(dim=1).tolist()
        assert moved == ([False] * OLD if teacher else [True] * OLD) + [True] * NEW
        assert float(step.head.scale.grad) != 0


def test_the_less_forget_constraint_reaches_features_and_no_head() -> None:
    step = make_step(2, "cosine")
    LUCIR(KEPT).loss(step)["less_forget"].backward()  # type: ignore[no-untyped-call]
    assert step.features.grad is not None and bool((step.features.grad != 0).any())
    assert all(parameter.grad is None for parameter in step.head.parameters())


@pytest.mark.parametrize("nearest", [1, 2, 3, 10])
@pytest.mark.parametrize("margin", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_margin_ranking_is_the_mean_over_exemplars_and_their_nearest_new_classes(seed: int, margin: float, nearest: int) -> None:
    random = np.random.default_rng(seed)
    cosines, labels = random.uniform(-1, 1, (12, OLD + NEW)), random.permutation(np.arange(12) % (OLD + NEW))
    found = margin_ranking(torch.from_numpy(cosines), torch.from_numpy(labels), OLD, margin, nearest)
    assert float(found) == pytest.approx(plain_ranking(cosines, labels, OLD, margin, nearest), abs=1e-9)


def test_margin_ranking_pulls_an_exemplar_to_its_class_and_from_the_nearest_new_ones_alone() -> None:
    cosines = torch.tensor([[0.2, 0.9, 0.1, 0.6, 0.5], [0.2, 0.9, 0.1, 0.6, 0.5], [0.9, 0.0, -0.5, -0.4, -0.6]], requires_grad=True)
    labels = torch.tensor([0, 3, 0])  # an exemplar too near to new classes, a new image, an exemplar far enough from them
    margin_ranking(cosines, labels, 2, 0.5, 2).backward()  # type: ignore[no-untyped-call]
    assert cosines.grad is not None
    assert cosines.grad.tolist() == [[-0.5, 0, 0, 0.25, 0.25], [0] * 5, [0] * 5]


def test_a_batch_without_exemplars_has_no_ranking_and_finite_gradients() -> None:
    step = make_step(3, "cosine", labels=[OLD, OLD + 1, OLD + 2, OLD])
    terms = LUCIR(KEPT, margin=2.0).loss(step)
    assert float(terms["ranking"].detach()) == 0
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    for tensor in (step.maps, *step.head.parameters()):
        assert tensor.grad is not None and bool(torch.isfinite(tensor.grad).all())


# Training


def pictures(classes: list[int]) -> PackedImages:
    random = np.random.default_rng(0)
    return PackedImages(random.integers(0, 256, (24, 8, 8, 1), dtype=np.uint8), np.resize(classes, 24))


def configured(name: str) -> Any:
    """A regime with the parameters of its file in conf/."""
    return registry.build("regimes", name, yaml.safe_load((CONFIGURATION / f"{name}.yaml").read_text(encoding="utf-8"))[name])


def networks(head: str) -> tuple[Network, Network]:
    """A network of two classes, and one that begins as its copy with two more."""
    teacher = initialise("small", head, 1, 0)
    teacher.head.grow(2, torch.Generator().manual_seed(1))
    student = copy.deepcopy(teacher)
    student.head.grow(4, torch.Generator().manual_seed(2))
    return teacher.eval(), student


def trained(regime: Regime, precision: str = "float32", first: bool = False, **changes: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Arrays of a network before and after an epoch of three steps."""
    values: dict[str, Any] = {"epochs": 1, "increment_epochs": 1, "learning_rate": 0.02, "increment_learning_rate": 0.02, "schedule": "cosine"}
    settings = Training(**(values | {"batch_size": 8, "padding": 1} | changes))
    teacher, student = networks(regime.head or "linear")
    before, held = ({name: array.copy() for name, array in to_arrays(network).items()} for network in (student, teacher))
    where = Machine(device="cpu", precision=precision, threads=1)  # type: ignore[arg-type]
    # In a later task there are images of old classes only where the regime keeps some.
    images = pictures([0, 1, 2, 3] if first or regime.store is not None else [2, 3])
    losses = train(student, None if first else teacher, images, regime, settings, where, 0)
    assert np.isfinite(losses).all() and len(losses) == 1
    assert all(array.tobytes() == held[name].tobytes() for name, array in to_arrays(teacher).items())
    return before, to_arrays(student)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", registry.names("regimes"))
def test_every_regime_trains_all_of_the_network_and_repeats_itself_to_the_byte(name: str, first: bool, precision: str) -> None:
    before, after = trained(configured(name), precision, first)
    for key, array in after.items():
        assert array.dtype == np.float32 and np.isfinite(array).all() and not np.array_equal(array, before[key]), key
    _, again = trained(configured(name), precision, first)
    assert all(array.tobytes() == again[key].tobytes() for key, array in after.items())


class OnlyAttention(Attention):
    """Attention distillation alone; the other terms are there with weight zero, for every parameter takes part in a loss."""

    def loss(self, step: Step) -> dict[str, Tensor]:
        terms = super().loss(step)
        return {"attention": terms["attention"], "others": 0.0 * terms["cross_entropy"]}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_attention_distillation_alone_changes_convolutions_and_the_rows_of_old_classes(precision: str) -> None:
    before, after = trained(OnlyAttention(attention=1.0), precision, weight_decay=0.0)
    learned = {name for name, array in after.items() if not np.array_equal(array, before[name]) and "running" not in name}
    assert {name for name, array in after.items() if array.ndim == 4} <= learned and "head.weight" in learned and "head.bias" not in learned
    assert not np.array_equal(after["head.weight"][:2], before["head.weight"][:2])
    assert np.array_equal(after["head.weight"][2:], before["head.weight"][2:])
    before, after = trained(OnlyAttention(attention=0.0), precision, weight_decay=0.0)
    assert all(np.array_equal(array, before[name]) for name, array in after.items() if "running" not in name)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("head", KINDS)
def test_what_a_loss_sees_in_training_fits_together(head: str, first: bool) -> None:
    seen: list[Step] = []

    class Watching(Attention):
        def loss(self, step: Step) -> dict[str, Tensor]:
            with torch.no_grad():
                for view in (step, step.teacher):
                    if view is not None:
                        assert torch.allclose(view.features, view.maps.mean(dim=(2, 3)), atol=1e-5)
                        assert torch.allclose(view.logits, view.head(view.features), atol=1e-5)
            seen.append(step)
            return super().loss(step)

    regime = Watching()
    regime.head = head  # type: ignore[misc]
    trained(regime, first=first)
    assert len(seen) == 3
    for step in seen:
        assert step.logits.shape == (8, 4) and step.maps.requires_grad and type(step.head) is HEADS[head]
        assert (step.teacher is None) is first
        if step.teacher is not None:
            assert step.teacher.logits.shape == (8, 2) and step.teacher.head.weight.shape[0] == 2
            assert not any(tensor.requires_grad for tensor in (step.teacher.maps, step.teacher.logits, *step.teacher.head.parameters()))


def test_training_with_lucir_leaves_the_directions_of_old_rows_where_they_are() -> None:
    before, after = trained(configured("lucir"))
    for row in range(4):
        old, new = before["head.weight"][row].astype(float), after["head.weight"][row].astype(float)
        assert bool(1 - old @ new / (length(old) * length(new)) < 1e-10) is (row < 2)
