"""Adapters of class means: SDC and LDC equal plain numpy, ADC equals a plain reference by autograd."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from carryover import registry
from carryover.adapters import Adapter, Chasing
from carryover.adapters.adc import BATCH, ADCAdapter
from carryover.adapters.ldc import LDCAdapter
from carryover.adapters.sdc import SDCAdapter
from carryover.adapters.sdc_means import SDCMeans
from carryover.backbones import BasicBlock, Network, initialise
from carryover.images import PackedImages
from carryover.inference import extract
from carryover.machine import Machine
from carryover.memory import Memory

torch.set_num_threads(1)
WHERE = Machine("cpu", "float32", 1)
CONF = Path(__file__).parents[1] / "conf" / "adapters"


def pairs(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    previous = (random.normal(size=(n, d)) + random.normal(size=d)).astype(np.float32)
    return previous, (previous @ random.normal(size=(d, d)) + random.normal(size=(n, d))).astype(np.float32)


# What the three have in common.


@pytest.mark.parametrize("name", ["sdc_means", "ldc", "adc"])
def test_a_class_is_one_vector_and_the_configured_parameters_are_accepted(name: str) -> None:
    parameters = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    parameters = parameters.get("adapters", parameters)[name]
    adapter: Adapter = registry.build("adapters", name, parameters)
    assert adapter.keeps == "means" and adapter.form is None
    assert {key: getattr(adapter, key) for key in parameters} == parameters


def test_the_configuration_of_adc_names_it_among_those_that_chase() -> None:
    text = (CONF / "adc.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    assert yaml.safe_load(text)["chasing"] == {"adc": True}
    assert issubclass(registry.find("adapters", "adc"), Chasing)
    assert not any(issubclass(registry.find("adapters", name), Chasing) for name in ("sdc_means", "ldc"))


# SDC of class means.


def sdc(previous: np.ndarray, current: np.ndarray, mean: np.ndarray, bandwidth: float) -> np.ndarray:
    """Equations 8 and 9 for one mean, in double precision and with plain weights."""
    x, y = previous.astype(float), current.astype(float)
    sigma = bandwidth * math.sqrt(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())
    weights = np.exp(-((x - mean) ** 2).sum(axis=1) / (2 * sigma**2))
    moved: np.ndarray = mean + weights @ (y - x) / weights.sum()
    return moved


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(6, 40), d=st.integers(2, 8), bandwidth=st.floats(0.2, 2))
def test_sdc_moves_each_class_mean_as_the_plain_formula_does(seed: int, n: int, d: int, bandwidth: float) -> None:
    previous, current = pairs(seed, n, d)
    old = Memory(previous, np.array([n // 3, n - n // 3], dtype=np.int32)).means()
    found = SDCMeans(bandwidth).fit(previous, current).transform(old.features)
    expected = [sdc(previous, current, mean.astype(float), bandwidth) for mean in (previous[: n // 3].mean(axis=0), previous[n // 3 :].mean(axis=0))]
    assert found.shape == (2, d)
    assert np.allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_sdc_of_means_is_sdc_of_the_same_vectors() -> None:
    previous, current = pairs(1, 30, 5)
    means = previous[:4] + np.float32(0.1)
    adapter = SDCMeans(0.4).fit(previous, current)
    assert np.array_equal(adapter.transform(means), SDCAdapter(0.4).fit(previous, current).transform(means))
    assert np.array_equal(SDCMeans(0.4).restore(adapter.state()).transform(means), adapter.transform(means))


def test_sdc_of_means_takes_the_drift_of_images_and_of_blends_only_if_told() -> None:
    previous, current = pairs(2, 30, 5)
    labels = np.where(np.arange(30) < 12, 3, -1)
    means = previous[:4] + np.float32(0.1)
    alone = SDCMeans().fit(previous[:12], current[:12]).transform(means)
    assert np.array_equal(SDCMeans().fit(previous, current, labels).transform(means), alone)
    assert np.array_equal(SDCMeans(views=True).fit(previous, current, labels).transform(means), SDCMeans().fit(previous, current).transform(means))
    assert not np.array_equal(SDCMeans().fit(previous, current).transform(means), alone)
    with pytest.raises(ValueError, match="at least one row"):
        SDCMeans().fit(previous, current, np.full(30, -1))


def test_sdc_takes_the_nearest_drift_where_all_plain_weights_vanish() -> None:
    previous = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=np.float32)
    current = previous + np.array([[0.5, 0.0], [0.0, 2.0], [-1.0, 0.0]], dtype=np.float32)
    mean = np.array([[-3.0, 900.0]], dtype=np.float32)
    with np.errstate(invalid="ignore"):
        assert np.isnan(sdc(previous, current, mean[0].astype(float), 0.1)).all()
    assert np.allclose(SDCMeans(0.1).fit(previous, current).transform(mean), mean + np.array([0.0, 2.0]))


def test_sdc_of_one_image_or_of_equal_features_is_their_mean_drift() -> None:
    one = SDCMeans().fit(np.array([[1.0, 2.0]]), np.array([[3.0, 1.0]]))
    assert np.allclose(one.transform(np.array([[0.0, 0.0], [50.0, 7.0]])), [[2.0, -1.0], [52.0, 6.0]])
    equal = np.full((5, 2), 2.0, dtype=np.float32)
    current = equal + np.arange(5, dtype=np.float32)[:, None]
    assert np.allclose(SDCMeans().fit(equal, current).transform(np.array([[2.0, 2.0], [-1.0, 4.0]])), [[4.0, 4.0], [1.0, 6.0]])


# LDC.


def ldc(previous: np.ndarray, current: np.ndarray, ridge: float) -> np.ndarray:
    """The normal equations of |X A - Y|^2 + alpha |A - I|^2, by the pseudo-inverse."""
    x, y = previous.astype(float), current.astype(float)
    n, d = x.shape
    alpha = ridge * n * float(np.mean(x**2))
    found: np.ndarray = np.eye(d) + np.linalg.pinv(x.T @ x + alpha * np.eye(d)) @ x.T @ (y - x)
    return found


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 6), extra=st.integers(0, 30), ridge=st.sampled_from([0.0, 1e-3, 0.1, 3.0]))
def test_ldc_satisfies_the_normal_equations(seed: int, d: int, extra: int, ridge: float) -> None:
    random = np.random.default_rng(seed)
    previous, current = (random.normal(size=(d + extra, d)).astype(np.float32) for _ in range(2))
    x, y = previous.astype(float), current.astype(float)
    matrix = LDCAdapter(ridge).fit(previous, current).matrix_.astype(float)
    alpha = ridge * (x**2).sum() / d
    gradient = x.T @ (x @ matrix - y) + alpha * (matrix - np.eye(d))
    assert np.abs(gradient).max() < 1e-5 * (1 + np.abs(matrix).max()) * (1 + (x**2).sum())


@pytest.mark.parametrize("ridge", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("shape", [(40, 5), (5, 5), (3, 8), (1, 4)])
def test_ldc_equals_the_pseudo_inverse(shape: tuple[int, int], ridge: float) -> None:
    random = np.random.default_rng(sum(shape))
    previous, current, means = (random.normal(size=(n, shape[1])).astype(np.float32) for n in (shape[0], shape[0], 6))
    found = LDCAdapter(ridge).fit(previous, current).transform(means)
    assert np.allclose(found, means @ ldc(previous, current, ridge), atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 6))
def test_a_linear_map_is_recovered_also_far_from_the_images(seed: int, d: int) -> None:
    random = np.random.default_rng(seed)
    # Orthogonal directions of known lengths: a well-posed problem, whatever the seed.
    previous = np.linalg.qr(random.normal(size=(5 * d, d)))[0] * random.uniform(1, 3, size=d)
    matrix, means = random.normal(size=(d, d)), random.normal(size=(4, d)) * 100
    found = LDCAdapter(0.0).fit(previous, previous @ matrix).transform(means)
    assert np.allclose(found, means @ matrix, rtol=1e-4, atol=1e-3)


def test_ldc_has_no_offset() -> None:
    previous = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    adapter = LDCAdapter(0.0).fit(previous, previous + 1)
    assert np.allclose(adapter.transform(np.zeros((1, 2))), 0)
    # By hand: of a column, minimise (a + 0 - 2)^2 + (b - 1)^2 + (a + b - 2)^2, so a = 5/3 and b = 2/3.
    assert np.allclose(adapter.matrix_, [[5 / 3, 2 / 3], [2 / 3, 5 / 3]], atol=1e-6)


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_directions_that_no_image_has_stay_as_they_are(ridge: float) -> None:
    random = np.random.default_rng(0)
    previous, current = (random.normal(size=(30, 4)).astype(np.float32) for _ in range(2))
    previous[:, 2] = current[:, 2] = 0
    adapter = LDCAdapter(ridge).fit(previous, current)
    assert np.array_equal(adapter.matrix_[2], np.eye(4)[2])
    dead = np.array([[0.0, 0.0, 7.0, 0.0]], dtype=np.float32)
    assert np.allclose(adapter.transform(dead), dead)
    # Of few images, or one: what is orthogonal to them.
    one = LDCAdapter(ridge).fit(np.array([[3.0, 0.0, 0.0]]), np.array([[0.0, 6.0, 0.0]]))
    assert np.allclose(one.matrix_, [[0, 2, 0], [0, 1, 0], [0, 0, 1]], atol=1e-3)


def test_a_feature_that_is_all_but_dead_does_not_blow_up() -> None:
    random = np.random.default_rng(1)
    previous, noise = random.normal(size=(50, 4)), random.normal(size=(50, 4))
    previous[:, 1] = previous[:, 0] * (1 + 1e-8 * random.normal(size=50))  # equal but for what float32 rounds away
    previous[:, 3] *= 1e-10
    adapter = LDCAdapter(0.0).fit(previous, previous + 0.1 * noise)
    assert np.abs(adapter.matrix_ - np.eye(4)).max() < 0.2
    previous[:, 3] *= 1e7
    free, held = (LDCAdapter(ridge).fit(previous, previous + 0.1 * noise) for ridge in (0.0, 1e-2))
    assert np.abs(free.matrix_[3]).max() > 5 > 1.2 > np.abs(held.matrix_[3]).max()


@pytest.mark.parametrize("n", [1, 3, 40])
def test_ldc_without_drift_is_the_identity(n: int) -> None:
    previous, _ = pairs(2, n, 5)
    assert np.array_equal(LDCAdapter().fit(previous, previous.copy()).matrix_, np.eye(5, dtype=np.float32))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), power=st.integers(-10, 10), repeats=st.integers(1, 3))
def test_the_ridge_depends_neither_on_units_nor_on_the_number_of_images(seed: int, power: int, repeats: int) -> None:
    random = np.random.default_rng(seed)
    previous, current = (random.normal(size=(20, 4)).astype(np.float32) for _ in range(2))
    factor = np.float32(2.0**power)
    scaled = LDCAdapter(0.05).fit(np.tile(previous * factor, (repeats, 1)), np.tile(current * factor, (repeats, 1)))
    assert np.allclose(scaled.matrix_, LDCAdapter(0.05).fit(previous, current).matrix_, atol=1e-5)


def test_unlabelled_views_count_only_if_asked_for() -> None:
    previous, current = pairs(3, 30, 4)
    labels = np.arange(30) % 3 - 1
    own = labels >= 0
    assert np.array_equal(LDCAdapter().fit(previous, current, labels).matrix_, LDCAdapter().fit(previous[own], current[own]).matrix_)
    assert np.array_equal(LDCAdapter(views=True).fit(previous, current, labels).matrix_, LDCAdapter().fit(previous, current).matrix_)
    assert not np.array_equal(LDCAdapter().fit(previous, current, labels).matrix_, LDCAdapter().fit(previous, current).matrix_)
    with pytest.raises(ValueError, match="at least one row"):
        LDCAdapter().fit(previous, current, np.full(30, -1))


# ADC.


def networks(seed: int, channels: int = 1) -> tuple[Network, Network]:
    """Return a network with statistics of its own, and a perturbed copy."""
    previous = initialise("small", "linear", channels, seed).eval()
    random = torch.Generator().manual_seed(seed)
    for module in previous.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=random) * 0.2)
            module.running_var.copy_(torch.rand(module.num_features, generator=random) + 0.5)
    current = copy.deepcopy(previous)
    with torch.no_grad():
        for weight in current.backbone.parameters():
            weight.add_(0.1 * weight.abs().mean() * torch.randn(weight.shape, generator=random))
    return previous, current


def shift_last_biases(network: Network, by: float) -> None:
    """Shift what goes into the last ReLU."""
    last = network.backbone.blocks[-1]
    assert isinstance(last, BasicBlock)
    with torch.no_grad():
        last.bn2.bias.add_(by)


def pictures(seed: int, n: int, channels: int = 1) -> PackedImages:
    """Return images of 8 pixels, smooth enough to differ in their features."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, size=(n, 2, 2, channels))
    fine = np.kron(coarse, np.ones((1, 4, 4, 1))) + random.normal(size=(n, 8, 8, channels)) * 20
    return PackedImages(np.clip(fine, 0, 255).astype(np.uint8), np.zeros(n, dtype=np.int64))


def setting(seed: int, n: int = 40, classes: int = 3, channels: int = 1) -> tuple[np.ndarray, PackedImages, np.ndarray, Network, Network]:
    """Return the arguments of `chase` but for the machine and the seed: the means are those of other images."""
    previous, current = networks(seed, channels)
    images, old = pictures(seed, n, channels), pictures(seed + 100, 6 * classes, channels)
    means = extract(previous, old, WHERE).reshape(classes, 6, -1).mean(axis=1)
    return means, images, extract(previous, images, WHERE), previous, current


def plain_features(network: Network, x: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = network.eval().backbone((x - 0.5) / 0.25).mean(dim=(2, 3))
    return features


def adversarial(means: np.ndarray, images: PackedImages, network: Network, c: int, m: int, step: float, iterations: int) -> torch.Tensor:
    """Move the m images nearest to mean c, one at a time; pixels are in [0, 1] here, and stay there."""
    x = torch.from_numpy(images.images).permute(0, 3, 1, 2).double() / 255
    network = copy.deepcopy(network).double()
    target = torch.from_numpy(means[c]).double()
    with torch.no_grad():
        distances = (plain_features(network, x) - target).square().sum(dim=1)
    moved = []
    for i in sorted(range(len(x)), key=lambda i: float(distances[i]))[:m]:
        image = x[i : i + 1]
        for _ in range(iterations):
            image = image.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad((plain_features(network, image) - target).square().sum(), image)
            image = (image - step * gradient / gradient.square().mean().sqrt()).clamp(0, 1)
        moved.append(image.detach())
    return torch.cat(moved)


def reference(
    means: np.ndarray, images: PackedImages, previous: Network, current: Network, m: int, step: float, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the drift of each mean, [classes, d], and the share of the images that arrived, in double precision."""
    drifts, shares = [], []
    for c in range(len(means)):
        x = adversarial(means, images, previous, c, m, step, iterations)
        with torch.no_grad():
            before, after = (plain_features(copy.deepcopy(network).double(), x).numpy() for network in (previous, current))
        nearest = [min(range(len(means)), key=lambda k: float(((row - means[k]) ** 2).sum())) for row in before]
        kept = [i for i, k in enumerate(nearest) if k == c]
        rows = kept or list(range(len(x)))
        drifts.append((after - before)[rows].mean(axis=0))
        shares.append(len(kept) / len(x))
    return np.stack(drifts), np.array(shares)


@pytest.mark.parametrize(
    ("seed", "m", "step", "iterations", "channels"),
    [(0, 6, 0.02, 3, 1), (1, 20, 0.05, 2, 3), (2, 12, 0.1, 3, 1), (3, 40, 0.02, 0, 1), (4, 5, 0.5, 1, 1)],
)
def test_adc_equals_a_plain_reference(seed: int, m: int, step: float, iterations: int, channels: int) -> None:
    means, images, features, previous, current = setting(seed, channels=channels)
    adapter = ADCAdapter(m, step, iterations).chase(means, images, features, previous, current, WHERE, seed)
    drift, shares = reference(means, images, previous, current, m, step, iterations)
    assert np.abs(drift).max() > 0.1
    assert np.allclose(adapter.reached_, shares)
    assert np.allclose(adapter.drift_, drift, atol=1e-5, rtol=1e-5)
    assert np.allclose(adapter.transform(means), means + drift, atol=1e-5, rtol=1e-5)


def test_moved_images_come_nearer_to_their_mean_and_more_of_them_arrive() -> None:
    means, images, features, previous, current = setting(4, n=40)
    shares = [ADCAdapter(10, 0.02, k).chase(means, images, features, previous, current, WHERE, 0).reached_ for k in (0, 3)]
    assert shares[1].mean() > shares[0].mean() + 0.1
    for c in range(3):
        still, moved = (adversarial(means, images, previous, c, 10, 0.02, k).float() for k in (0, 3))
        distances = [((plain_features(previous, x).detach().numpy() - means[c]) ** 2).sum(axis=1) for x in (still, moved)]
        assert (distances[1] < distances[0]).mean() > 0.9 and distances[1].mean() < 0.8 * distances[0].mean()


def test_without_steps_it_is_the_mean_drift_of_the_nearest_images_on_the_mean_s_side() -> None:
    means, images, features, previous, current = setting(5)
    adapter = ADCAdapter(10, 0.02, 0).chase(means, images, features, previous, current, WHERE, 0)
    drift = extract(current, images, WHERE) - features
    for c in range(3):
        distances = ((features[:, None] - means[None]) ** 2).sum(axis=2)
        nearest = np.argsort(distances[:, c])[:10]
        own = nearest[distances[nearest].argmin(axis=1) == c]
        assert np.allclose(adapter.drift_[c], drift[own if len(own) else nearest].mean(axis=0), atol=1e-5)


def test_a_class_that_no_image_reaches_takes_the_drift_of_its_nearest_images() -> None:
    means, images, features, previous, current = setting(6)
    # A mean behind another one, as seen from all images: nothing arrives there.
    behind = np.vstack([means, means[:1] + 50 * (means[0] - features.mean(axis=0)), means[:1] + 49 * (means[0] - features.mean(axis=0))])
    adapter = ADCAdapter(6, 1e-4, 2).chase(behind, images, features, previous, current, WHERE, 0)
    assert adapter.reached_[3] == 0
    drift, _ = reference(behind, images, previous, current, 6, 1e-4, 2)
    assert np.allclose(adapter.drift_[3], drift[3], atol=1e-5) and np.abs(drift[3]).max() > 1e-3


def test_equal_networks_have_no_drift_however_far_images_move() -> None:
    means, images, features, previous, _ = setting(7)
    adapter = ADCAdapter(12, 0.3, 2).chase(means, images, features, previous, copy.deepcopy(previous), WHERE, 0)
    assert np.array_equal(adapter.drift_, np.zeros_like(means))
    assert np.array_equal(adapter.transform(means), means)


def test_a_network_whose_features_are_shifted_moves_every_mean_by_the_shift() -> None:
    means, images, _, previous, _ = setting(8)
    shift_last_biases(previous, 20)  # so that every feature is positive
    shifted = copy.deepcopy(previous)
    shift_last_biases(shifted, 2)
    adapter = ADCAdapter(9).chase(means + 20, images, extract(previous, images, WHERE), previous, shifted, WHERE, 0)
    assert np.allclose(adapter.drift_, 2, atol=1e-4)


def test_images_of_one_grey_or_at_the_limits_stay_finite() -> None:
    previous, current = networks(9)
    images = PackedImages(np.concatenate([np.full((3, 8, 8, 1), value, dtype=np.uint8) for value in (0, 128, 255)]), np.zeros(9, dtype=np.int64))
    features = extract(previous, images, WHERE)
    # A mean on an image: the gradient there is zero.
    adapter = ADCAdapter(5, 0.1, 3).chase(features[[0, 3, 8]], images, features, previous, current, WHERE, 0)
    assert np.isfinite(adapter.drift_).all() and np.abs(adapter.drift_).max() > 0
    dead = copy.deepcopy(previous)
    shift_last_biases(dead, -1e4)
    features = extract(dead, images, WHERE)
    assert not features.any()
    gone = ADCAdapter(5).chase(np.ones((2, features.shape[1])), images, features, dead, current, WHERE, 0)
    expected = extract(current, images, WHERE)[:5].mean(axis=0)
    assert np.allclose(gone.drift_, expected, atol=1e-5)


def test_one_image_and_one_class() -> None:
    means, images, _, previous, current = setting(10)
    one = images.subset(np.array([4]))
    features = extract(previous, one, WHERE)
    adapter = ADCAdapter().chase(means[:1], one, features, previous, current, WHERE, 0)
    drift, shares = reference(means[:1], one, previous, current, 1, adapter.step, adapter.iterations)
    assert np.allclose(adapter.drift_, drift, atol=1e-5) and shares[0] == adapter.reached_[0] == 1


def test_more_images_than_a_batch_give_the_mean_over_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    means, images, features, previous, current = setting(11, n=30)
    whole = ADCAdapter(30, 0.03, 2).chase(means, images, features, previous, current, WHERE, 0)
    assert BATCH >= 30
    monkeypatch.setattr("carryover.adapters.adc.BATCH", 7)
    parts = ADCAdapter(30, 0.03, 2).chase(means, images, features, previous, current, WHERE, 0)
    assert np.allclose(parts.drift_, whole.drift_, atol=1e-5) and np.array_equal(parts.reached_, whole.reached_)


def test_chasing_changes_neither_network_nor_inputs_and_gives_the_same_bytes_again() -> None:
    means, images, features, previous, current = setting(12)
    untouched = [copy.deepcopy(item) for item in (means, images.images, features)]
    weights = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in (previous, current)]
    previous.train()
    first, second = (ADCAdapter(10).chase(means, images, features, previous, current, WHERE, seed).state() for seed in (0, 1))
    assert first["drift"].dtype == np.float32 and first["drift"].tobytes() == second["drift"].tobytes()
    assert all(np.array_equal(a, b) for a, b in zip(untouched, (means, images.images, features), strict=True))
    for network, before in zip((previous, current), weights, strict=True):
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
        assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())
    assert previous.training


def test_adc_round_trips_and_refuses_what_does_not_fit() -> None:
    means, images, features, previous, current = setting(13)
    adapter = ADCAdapter(4).chase(means, images, features, previous, current, WHERE, 0)
    again = ADCAdapter(4).restore(adapter.state())
    assert again.transform(means.astype(np.float64)).dtype == np.float32
    assert np.array_equal(again.transform(means), adapter.transform(means))
    with pytest.raises(ValueError, match="Drifts of 3 class means cannot be added to 4 rows"):
        again.transform(np.vstack([means, means[:1]]))
    with pytest.raises(ValueError, match=r"^Features must be a matrix of 64 columns"):
        again.transform(means[:, 1:])
    with pytest.raises(ValueError, match="a row for each of 40 images"):
        ADCAdapter().chase(means, images, features[1:], previous, current, WHERE, 0)
    with pytest.raises(ValueError, match="a row for each of 0 images"):
        ADCAdapter().chase(means, images.subset(np.arange(0)), features[:0], previous, current, WHERE, 0)
    with pytest.raises(ValueError, match=r"^Features must be a matrix of 64 columns"):
        ADCAdapter().chase(means[:, 1:], images, features, previous, current, WHERE, 0)
    with pytest.raises(TypeError, match="ADCAdapter learns from images and networks"):
        adapter.fit(features, features)
