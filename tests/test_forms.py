"""Forms: what is drawn from a condensed memory has the moments, or teaches the classes, of the rows that it stands for."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover import artefacts, registry
from carryover.adapters import Adapter
from carryover.adapters.gaussian import GaussianAdapter
from carryover.adapters.generative import GenerativeAdapter
from carryover.adapters.linear import LinearAdapter
from carryover.adapters.mlp import MLPAdapter
from carryover.classifiers import fit_gaussian, fit_softmax
from carryover.errors import ArtefactError, ConfigurationError, TrainingError
from carryover.forms import expand, gaussian, generator
from carryover.forms.gaussian import GaussianForm
from carryover.forms.generator import GeneratorForm
from carryover.memory import KIND, Memory
from carryover.optimisers import AdamW

torch.set_num_threads(1)
QUICK: dict[str, Any] = {"latent": 3, "width": 8, "steps": 3, "batch_size": 4, "critic_steps": 2, "samples": 6}


def rows_of(seed: int, counts: list[int], d: int, dead: int | None = None) -> np.ndarray:
    """Classes with a mean and a covariance of their own; feature `dead` is 0.7 in all rows."""
    random = np.random.default_rng(seed)
    rows = [random.normal(size=d) * 3 + random.normal(size=(count, d)) @ random.normal(size=(d, d)) for count in counts]
    features = np.concatenate(rows).astype(np.float32)
    if dead is not None:
        features[:, dead % d] = 0.7
    return features


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    exact = rows.astype(float)
    mean = exact.sum(axis=0) / len(exact)
    covariance = sum((np.outer(row - mean, row - mean) for row in exact), np.zeros((rows.shape[1],) * 2)) / len(exact)
    return mean, covariance


def by_class(features: np.ndarray, counts: np.ndarray | list[int]) -> list[np.ndarray]:
    return np.split(features, np.cumsum(counts)[:-1])


def stored_moments(arrays: dict[str, np.ndarray], c: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance from what is written, by the definition of the packed triangle."""
    d = arrays["means"].shape[1]
    lower, position = np.zeros((d, d)), 0
    for i in range(d):
        for j in range(i + 1):
            lower[i, j] = float(arrays["factors"][c, position]) * float(arrays["scales"][c])
            position += 1
    return arrays["means"][c].astype(float), lower @ lower.T


SHAPES = {
    "seed": st.integers(0, 10_000),
    "counts": st.lists(st.integers(1, 14), min_size=1, max_size=4),
    "d": st.integers(1, 7),
    "dead": st.none() | st.integers(0, 6),
}


@settings(deadline=None, max_examples=60)
@given(**SHAPES)
def test_rows_that_are_drawn_have_the_moments_of_the_rows_they_stand_for(seed: int, counts: list[int], d: int, dead: int | None) -> None:
    features = rows_of(seed, counts, d, dead)
    drawn, sizes = gaussian.expand(GaussianForm(storage="float32").condense(features, np.array(counts)))
    assert drawn.dtype == np.float32 and sizes.dtype == np.int32 and sizes.tolist() == counts
    for before, after in zip(by_class(features, counts), by_class(drawn, counts), strict=True):
        (mean, covariance), (drawn_mean, drawn_covariance) = moments(before), moments(after)
        assert np.allclose(drawn_mean, mean, atol=1e-5 * max(np.abs(before).max(), 1))
        assert np.allclose(drawn_covariance, covariance, atol=1e-5 * max(np.abs(before).max() ** 2, 1))


@settings(deadline=None, max_examples=60)
@given(samples=st.integers(1, 20), **SHAPES)
def test_rows_that_are_drawn_have_the_stored_moments_however_few_they_are(
    samples: int, seed: int, counts: list[int], d: int, dead: int | None
) -> None:
    arrays = GaussianForm(samples).condense(rows_of(seed, counts, d, dead), np.array(counts))
    drawn, sizes = gaussian.expand(arrays)
    assert sizes.tolist() == [min(count, max(samples, d + 1)) for count in counts]
    for c, rows in enumerate(by_class(drawn, sizes)):
        (mean, covariance), (drawn_mean, drawn_covariance) = stored_moments(arrays, c), moments(rows)
        scale = max(np.abs(rows).max(), 1)
        assert np.allclose(drawn_mean, mean, atol=1e-5 * scale)
        assert np.allclose(drawn_covariance, covariance, atol=1e-5 * scale**2)


@settings(deadline=None, max_examples=60)
@given(samples=st.integers(1, 20), **SHAPES)
def test_a_diagonal_covariance_keeps_means_and_variances_and_no_correlations(
    samples: int, seed: int, counts: list[int], d: int, dead: int | None
) -> None:
    features = rows_of(seed, counts, d, dead)
    arrays = GaussianForm(samples, "float32", "diagonal").condense(features, np.array(counts))
    assert arrays["factors"].shape == (len(counts), d)
    drawn, sizes = gaussian.expand(arrays)
    assert sizes.tolist() == [min(count, max(samples, d + 1)) for count in counts]
    for before, after in zip(by_class(features, counts), by_class(drawn, sizes), strict=True):
        (mean, covariance), (drawn_mean, drawn_covariance) = moments(before), moments(after)
        scale = max(np.abs(before).max(), np.abs(after).max(), 1)
        assert np.allclose(drawn_mean, mean, atol=1e-5 * scale)
        assert np.allclose(np.diag(drawn_covariance), np.diag(covariance), atol=1e-5 * scale**2)
        if len(after) > d:
            assert np.allclose(drawn_covariance, np.diag(np.diag(covariance)), atol=1e-5 * scale**2)


def test_variances_follow_a_linear_map_exactly_where_a_class_has_more_rows_than_dimensions() -> None:
    random = np.random.default_rng(4)
    features, counts = rows_of(5, [40, 12], 5), np.array([40, 12], dtype=np.int32)
    matrix = random.normal(size=(5, 5))
    form = GaussianForm(20, "float32", "diagonal")
    drawn, sizes = gaussian.expand(form.condense(features, counts))
    carried = form.condense(drawn @ matrix, sizes)
    for c, rows in enumerate(by_class(features, counts)):
        mean, covariance = moments(rows)
        assert np.allclose(carried["means"][c], mean @ matrix, atol=1e-4)
        deviations = carried["factors"][c].astype(float) * float(carried["scales"][c])
        assert np.allclose(deviations**2, np.diag(matrix.T @ np.diag(np.diag(covariance)) @ matrix), rtol=1e-5)


def test_a_gaussian_takes_the_bytes_that_its_documentation_names() -> None:
    d, counts = 16, np.array([40, 40], dtype=np.int32)
    sizes = {
        (storage, covariance): sum(
            GaussianForm(500, storage, covariance).condense(rows_of(0, [40, 40], d), counts)[name].nbytes for name in ("means", "factors")
        )
        for storage in ("float16", "float32")
        for covariance in ("full", "diagonal")
    }
    assert sizes == {
        ("float16", "full"): 2 * (4 * d + d * (d + 1)),
        ("float32", "full"): 2 * (4 * d + 2 * d * (d + 1)),
        ("float16", "diagonal"): 2 * (4 * d + 2 * d),
        ("float32", "diagonal"): 2 * (4 * d + 4 * d),
    }


def test_float16_keeps_directions_of_a_millionth_of_the_largest_variance() -> None:
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.normal(size=(24, 24)))[0]
    features = (random.normal(size=(400, 24)) * np.logspace(0, -3, 24) @ turn).astype(np.float32)
    exact = np.linalg.eigvalsh(moments(features)[1])
    drawn, _ = gaussian.expand(GaussianForm().condense(features, np.array([400])))
    assert exact[0] / exact[-1] < 2e-6
    assert np.allclose(np.linalg.eigvalsh(moments(drawn)[1]), exact, rtol=0.01)
    # What the factor is for: the covariance itself, in the same type, is none any more.
    assert np.linalg.eigvalsh(moments(features)[1].astype(np.float16).astype(float))[0] < 0


@pytest.mark.parametrize("unit", [1e-12, 1e-4, 1e6, 1e12])
def test_units_do_not_matter(unit: float) -> None:
    features = rows_of(1, [30], 4)
    drawn, _ = gaussian.expand(GaussianForm().condense(features * np.float32(unit), np.array([30])))
    (mean, covariance), (drawn_mean, drawn_covariance) = moments(features), moments(drawn / unit)
    assert np.allclose(drawn_mean, mean, atol=1e-4) and np.allclose(drawn_covariance, covariance, rtol=2e-3, atol=2e-3 * covariance.max())


def test_twenty_rounds_of_writing_and_drawing_lose_nothing_more_than_the_first() -> None:
    features = rows_of(2, [60, 9], 8)
    form = GaussianForm()
    first = form.condense(features, np.array([60, 9]))
    arrays = first
    for _ in range(20):
        arrays = form.condense(*gaussian.expand(arrays))
    for c in (0, 1):
        (mean, covariance), (last_mean, last_covariance) = stored_moments(first, c), stored_moments(arrays, c)
        assert np.allclose(last_mean, mean, atol=1e-4) and np.allclose(last_covariance, covariance, atol=2e-3 * covariance.max())


def test_rows_are_normal_and_not_the_same_in_each_class() -> None:
    features = np.tile(np.random.default_rng(3).normal(size=(500, 3)), (2, 1)).astype(np.float32)
    drawn, counts = gaussian.expand(GaussianForm().condense(features, np.array([500, 500])))
    first, second = by_class(drawn, counts)
    assert not np.allclose(first, second, atol=0.1)
    standard = (first - first.mean(axis=0)) / first.std(axis=0)
    assert np.allclose((standard**4).mean(axis=0), 3, atol=0.8) and np.allclose((standard**3).mean(axis=0), 0, atol=0.4)


def test_mean_and_covariance_follow_a_linear_map_exactly(tmp_path: Path) -> None:
    counts = np.array([40, 12, 3, 1], dtype=np.int32)
    random = np.random.default_rng(4)
    previous = random.normal(size=(200, 5)).astype(np.float32)
    current = (previous @ random.normal(size=(5, 5)) + random.normal(size=5) + 0.1 * random.normal(size=(200, 5))).astype(np.float32)
    adapter = GaussianAdapter(carry="linear", ridge=0.01, samples=20, storage="float32")
    linear = LinearAdapter(0.01).fit(previous, current)
    matrix, offset = linear.matrix_.astype(float), linear.offset_.astype(float)

    features = rows_of(5, counts.tolist(), 5)
    assert adapter.form is not None
    Memory(features, counts).condensed(adapter.form).write(tmp_path / "memory")
    memory = Memory.read(tmp_path / "memory")
    carried = memory.carried(adapter.fit(previous, current).transform(memory.features)).condensed(adapter.form)
    for c, rows in enumerate(by_class(features, counts)):
        (mean, covariance), (new_mean, new_covariance) = moments(rows), stored_moments(dict(carried.written), c)
        assert np.allclose(new_mean, mean @ matrix + offset, atol=1e-4)
        assert np.allclose(new_covariance, matrix.T @ covariance @ matrix, atol=1e-5 * max(np.abs(new_covariance).max(), 1))


@pytest.mark.parametrize(
    ("carry", "reference"),
    [("none", None), ("linear", LinearAdapter(0.02)), ("mlp", MLPAdapter(width=2, steps=5, ridge=0.02))],
)
def test_the_gaussian_adapter_carries_as_the_adapter_that_it_names(carry: Any, reference: Adapter | None) -> None:
    previous, current = rows_of(6, [30], 4), rows_of(7, [30], 4)
    adapter = GaussianAdapter(carry=carry, ridge=0.02, width=2, steps=5)
    adapter.device = "cpu"
    adapter.fit(previous, current)
    assert adapter.map_.device == "cpu"
    expected = previous if reference is None else reference.fit(previous, current).transform(previous)
    assert np.array_equal(adapter.transform(previous), expected)
    again = GaussianAdapter(carry=carry, ridge=0.02, width=2, steps=5).restore(adapter.state())
    assert np.array_equal(again.transform(previous), expected)


@pytest.mark.parametrize("carry", ["none", "linear"])
def test_the_generative_adapter_carries_as_the_adapter_that_it_names(carry: Any) -> None:
    previous, current = rows_of(6, [30], 4), rows_of(7, [30], 4)
    adapter = GenerativeAdapter(carry=carry, ridge=0.02).fit(previous, current)
    expected = previous if carry == "none" else LinearAdapter(0.02).fit(previous, current).transform(previous)
    assert np.array_equal(adapter.transform(previous), expected)
    assert np.array_equal(GenerativeAdapter(carry=carry, ridge=0.02).restore(adapter.state()).transform(previous), expected)


@pytest.mark.parametrize("name", ["gaussian", "generative"])
def test_the_configuration_names_every_parameter_and_the_form_has_them(name: str) -> None:
    (section,) = yaml.safe_load((Path(__file__).parents[1] / "conf" / "adapters" / f"{name}.yaml").read_text()).items()
    adapter = registry.build("adapters", *section)
    assert section[0] == name and {key: vars(adapter)[key] for key in vars(adapter) if key != "form"} == section[1]
    assert adapter.form.name == {"gaussian": "gaussian", "generative": "generator"}[name]
    assert vars(adapter.form).items() <= section[1].items()
    with pytest.raises(ConfigurationError, match=f"adapters.{name}.samples is 0"):
        registry.build("adapters", name, {"samples": 0})


FORMS: list[Any] = [
    GaussianForm(),
    GaussianForm(samples=3, storage="float32"),
    GaussianForm(covariance="diagonal"),
    GeneratorForm(**QUICK),
]


@pytest.mark.parametrize("form", FORMS)
def test_a_condensed_memory_is_read_as_it_was_written_and_has_the_same_bytes_each_time(form: Any, tmp_path: Path) -> None:
    memory = Memory(rows_of(8, [20, 1, 7], 4), np.array([20, 1, 7], dtype=np.int32))
    paths = [tmp_path / "first", tmp_path / "second"]
    condensed = [memory.condensed(form) for _ in paths]
    for path, each in zip(paths, condensed, strict=True):
        each.write(path, task="task0")
    assert paths[0].read_bytes() == paths[1].read_bytes() and paths[0].stat().st_size == condensed[0].size(task="task0")
    read = Memory.read(paths[0], task="task0")
    assert read.form == form.name
    assert np.array_equal(read.features, condensed[0].features) and np.array_equal(read.counts, condensed[0].counts)
    assert read.features.dtype == np.float32 and read.counts.dtype == np.int32 and len(read.features) == len(read.labels)


@pytest.mark.parametrize("form", FORMS)
def test_the_size_does_not_depend_on_the_number_of_rows(form: Any) -> None:
    sizes = {Memory(rows_of(9, [n, n], 4), np.array([n, n], dtype=np.int32)).condensed(form).size() for n in (5, 50)}
    assert len(sizes) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("features", "counts"),
    [
        (np.zeros((3, 2)), [1, 1]),
        (np.zeros((3, 2)), [3, 0]),
        (np.zeros((3, 2)), [4, -1]),
        (np.zeros(3), [3]),
        (np.zeros((3, 2)), [[3]]),
        (np.full((3, 2), np.nan), [3]),
    ],
)
def test_rows_that_are_no_memory_are_refused(form: Any, features: np.ndarray, counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^Features"):
        form.condense(features, np.array(counts))


def without(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in arrays.items() if key != name}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_that_are_not_the_form_s_own_are_refused(form: Any, tmp_path: Path) -> None:
    arrays = form.condense(rows_of(10, [6, 5], 3), np.array([6, 5]))
    expand(form.name, arrays)
    wrong: list[dict[str, np.ndarray]] = []
    for name, array in arrays.items():
        with pytest.raises(KeyError, match=name):
            expand(form.name, without(arrays, name))
        wrong += [arrays | {name: changed} for changed in (array[:-1], array[..., None], array.astype(np.float64), np.zeros((), array.dtype))]
    wrong += [arrays | {"counts": np.array(counts, dtype=np.int32)} for counts in ([6, 0], [6, -5], [6, 5, 4])]
    for i, malformed in enumerate(wrong):
        with pytest.raises(ValueError):
            expand(form.name, malformed)
        artefacts.write(tmp_path / str(i), KIND, malformed, form=form.name)
        with pytest.raises(ArtefactError, match="holds no memory of the form"):
            Memory.read(tmp_path / str(i))
    with pytest.raises(ValueError, match="Unknown form"):
        expand("gausian", arrays)


def plain_critic_loss(
    critic: list[torch.Tensor], real: torch.Tensor, made: torch.Tensor, between: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Gulrajani et al., equation 3, its gradient by a second backward pass."""

    def score(x: torch.Tensor) -> torch.Tensor:
        hidden = torch.cat([x, labels], dim=1)
        for i in (0, 2):
            hidden = torch.nn.functional.leaky_relu(hidden @ critic[i].T + critic[i + 1], 0.2)
        return (hidden @ critic[4].T + critic[5])[:, 0]

    point = between.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(point).sum(), point, create_graph=True)
    loss: torch.Tensor = score(made).mean() - score(real).mean() + 7.0 * ((gradient.norm(dim=1) - 1) ** 2).mean()
    return loss


@pytest.mark.parametrize("seed", range(4))
def test_the_critic_s_loss_and_its_derivatives_equal_double_backward(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    shapes = [(9, 5 + 3), (9,), (9, 9), (9,), (1, 9), (1,)]
    critic = [torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_() for shape in shapes]
    real, made, between = (torch.randn(6, 5, generator=random, dtype=torch.float64) for _ in range(3))
    labels = torch.eye(3, dtype=torch.float64)[torch.randint(3, (6,), generator=random)]
    found = generator.critic_loss(critic, real, made, between, labels, 7.0)
    expected = plain_critic_loss(critic, real, made, between, labels)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    ours = torch.autograd.grad(found, critic, allow_unused=True)
    theirs = torch.autograd.grad(expected, critic, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        assert a is not None and b is not None and torch.allclose(a, b, rtol=1e-6, atol=1e-6)


def test_features_are_what_the_written_layers_make_of_noise() -> None:
    arrays = GeneratorForm(**QUICK).condense(rows_of(11, [9, 4], 5), np.array([9, 4]))
    drawn, counts = generator.expand(arrays)
    assert counts.tolist() == [6, 6] and drawn.shape == (12, 5) and drawn.dtype == np.float32
    assert all(arrays[f"{part}/{i}"].dtype == np.float16 for part in ("weight", "bias") for i in range(3))
    assert [arrays[f"weight/{i}"].shape for i in range(3)] == [(8, 3), (8, 8), (5, 8)]
    # Without noise each class has one feature, that of its row of `classes`.
    quiet = arrays | {"weight/0": np.zeros_like(arrays["weight/0"])}
    for c, rows in enumerate(by_class(generator.expand(quiet)[0], counts)):
        hidden = quiet["classes"][c].astype(float) + quiet["bias/0"]
        for i in (1, 2):
            hidden = quiet[f"weight/{i}"].astype(float) @ np.where(hidden > 0, hidden, 0.2 * hidden) + quiet[f"bias/{i}"]
        assert np.allclose(rows, hidden * arrays["spread"] + arrays["centre"], atol=1e-4)
    # With it, rows differ from each other and from class to class.
    assert len(np.unique(drawn.round(4), axis=0)) == 12


def test_a_feature_that_never_varies_is_made_as_it_is_and_equal_rows_are_no_error() -> None:
    features = rows_of(12, [9, 4], 5, dead=2)
    drawn, _ = generator.expand(GeneratorForm(**QUICK).condense(features, np.array([9, 4])))
    assert np.array_equal(drawn[:, 2], np.full(12, np.float32(0.7))) and drawn[:, [0, 1, 3, 4]].std(axis=0).min() > 0
    drawn, _ = generator.expand(GeneratorForm(**QUICK).condense(np.full((3, 2), 4.0), np.array([2, 1])))
    assert np.allclose(drawn, 4.0)


def test_another_seed_is_another_generator() -> None:
    features = rows_of(13, [9, 4], 5)
    first, second = (GeneratorForm(**QUICK, seed=seed).condense(features, np.array([9, 4]))["weight/0"] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_a_generator_that_diverges_is_a_clear_error() -> None:
    with pytest.raises(TrainingError, match="diverged at a learning rate of 1e\\+06"):
        GeneratorForm(**QUICK | {"learning_rate": 1e6}).condense(rows_of(14, [9, 4], 5), np.array([9, 4]))


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features of digits, sorted by label: a random layer with ReLU over 32 principal components; and those held out."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images, labels = np.asarray(data.data) / 16, np.asarray(data.target)
    random = np.random.default_rng(0)
    components = np.linalg.svd(images - images.mean(axis=0), full_matrices=False)[2][:32]
    projected = (images - images.mean(axis=0)) @ components.T
    features = np.maximum(projected @ random.normal(size=(32, 64)) + random.normal(size=64), 0).astype(np.float32)
    rows = random.permutation(len(features))
    train, test = rows[:1200], rows[1200:]
    train = train[np.argsort(labels[train], kind="stable")]
    return features[train], labels[train], features[test], labels[test]


def softmax_accuracy(features: np.ndarray, counts: np.ndarray, fit: Any = fit_softmax) -> float:
    _, _, test, labels = digits()
    scores = fit(features, np.repeat(np.arange(10), counts), 10, 1e-3)
    return float((scores(test).argmax(axis=1) == labels).mean())


def test_a_classifier_learns_from_gaussian_rows_as_from_real_ones() -> None:
    features, labels, _, _ = digits()
    counts = np.bincount(labels)
    drawn = gaussian.expand(GaussianForm().condense(features, counts))
    assert softmax_accuracy(*drawn) > 0.93
    assert softmax_accuracy(*drawn) > softmax_accuracy(features, counts) - 0.03
    # The Gaussian classifier reads nothing but the moments, and these are the same.
    assert softmax_accuracy(*drawn, fit_gaussian) == pytest.approx(softmax_accuracy(features, counts, fit_gaussian), abs=0.005)


def test_a_classifier_learns_from_generated_rows_nearly_as_from_real_ones() -> None:
    features, labels, _, _ = digits()
    counts = np.bincount(labels)
    form = GeneratorForm(width=64, steps=400, batch_size=48)
    untrained = generator.expand(GeneratorForm(width=64, steps=1).condense(features, counts))
    drawn, drawn_counts = generator.expand(form.condense(features, counts))
    assert softmax_accuracy(*untrained) < 0.5
    assert softmax_accuracy(drawn, drawn_counts) > 0.88
    assert softmax_accuracy(drawn, drawn_counts) > softmax_accuracy(features, counts) - 0.08
    # Not the means alone: a class varies about as much as its real rows.
    shares = [
        made.var(axis=0).sum() / real.var(axis=0).sum() for made, real in zip(by_class(drawn, drawn_counts), by_class(features, counts), strict=True)
    ]
    assert min(shares) > 0.5 and max(shares) < 1.5


def test_a_class_of_few_rows_is_learned_beside_one_of_many() -> None:
    random = np.random.default_rng(15)
    features = np.concatenate([random.normal(size=(300, 4)) * 0.3 - 2, random.normal(size=(3, 4)) * 0.3 + 2]).astype(np.float32)
    drawn, counts = generator.expand(GeneratorForm(width=32, steps=150).condense(features, np.array([300, 3])))
    for made, real in zip(by_class(drawn, counts), by_class(features, [300, 3]), strict=True):
        assert np.abs(made.mean(axis=0) - real.mean(axis=0)).max() < 0.5


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.9), (0.5, 0.99)])
def test_adam_with_other_moments_equals_its_formula(first: float, second: float) -> None:
    """Kingma and Ba, "Adam", ICLR 2015, algorithm 1, and the decoupled decay."""
    weights = torch.arange(4.0).requires_grad_()
    optimiser = AdamW([weights], 0.01, first, second)
    expected, mean, square = np.arange(4.0), np.zeros(4), np.zeros(4)
    for step in range(1, 7):
        ((weights - step) ** 3).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step(0.1)
        gradient = 3 * (expected - step) ** 2
        mean, square = first * mean + (1 - first) * gradient, second * square + (1 - second) * gradient**2
        expected = expected * (1 - 0.1 * 0.01) - 0.1 * mean / (1 - first**step) / (np.sqrt(square / (1 - second**step)) + 1e-8)
        assert np.allclose(weights.detach().numpy(), expected, atol=1e-5)
