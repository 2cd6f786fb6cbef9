"""Generated images: of the classes they are labelled with, the same from the file as before, and still so after three tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.svm import SVC

from carryover import artefacts, registry, rehearsal
from carryover.datasets.digits import Digits
from carryover.errors import ArtefactError, ConfigurationError, DataError
from carryover.generator import Discriminator, Generated, Generator, ImageGenerator, gradient_penalty
from carryover.images import EncodedImages, PackedImages, concatenate, encode_png
from carryover.machine import Machine
from carryover.regimes import Step, Teacher
from carryover.regimes.replay import Replay
from carryover.rehearsal import KIND, Learned
from stages.samples import draw_grid

QUICK: dict[str, Any] = {"per_class": 3, "latent": 4, "width": 4, "discriminator_width": 4, "steps": 3, "batch_size": 6}


def digits(*classes: int) -> tuple[PackedImages, PackedImages]:
    """Training and test images of some classes."""
    every = list(Digits().load().classes)
    train, test = (concatenate([getattr(every[c], part).relabelled(c) for c in classes]) for part in ("train", "test"))
    assert isinstance(train, PackedImages) and isinstance(test, PackedImages)
    return train, test


def noise(counts: dict[int, int], shape: tuple[int, int, int] = (8, 8, 1)) -> PackedImages:
    labels = np.repeat(np.array(list(counts), dtype=np.int64), np.array(list(counts.values()), dtype=np.int64))
    return PackedImages(np.random.default_rng(0).integers(0, 256, (len(labels), *shape), dtype=np.uint8), labels)


def update(store: ImageGenerator, images: Any, rehearsed: Any = None, seed: int = 0) -> Generated:
    old = noise({}, images.shape) if rehearsed is None else rehearsed
    features = np.zeros((len(images), 5), dtype=np.float32)
    return store.update(Learned(images, features, old, np.zeros((len(old), 5), dtype=np.float32), seed, Machine("cpu", "float32", 1)))


def flat(images: Any) -> np.ndarray:
    pixels: np.ndarray = images.images.reshape(len(images), -1) / 255
    return pixels


def test_generated_digits_are_of_their_class_as_varied_as_real_ones_and_teach_a_classifier() -> None:
    train, test = digits(0, 1, 2)
    made = update(ImageGenerator(steps=250), train).images
    assert np.unique(made.labels, return_counts=True)[1].tolist() == [100, 100, 100]
    judge = SVC(C=10).fit(flat(train), train.labels)
    assert judge.score(flat(test), test.labels) > 0.95
    assert judge.score(flat(made), made.labels) > 0.9
    assert SVC(C=10).fit(flat(made), made.labels).score(flat(test), test.labels) > 0.85
    for label in (0, 1, 2):
        spread = [flat(images.subset(np.flatnonzero(images.labels == label))).std(axis=0).mean() for images in (made, train)]
        assert spread[0] > 0.4 * spread[1]


def test_generators_that_learn_from_each_other_keep_the_first_classes() -> None:
    every, _ = digits(0, 1, 4, 6)
    judge = SVC(C=10).fit(flat(every), every.labels)
    store = ImageGenerator(per_class=60, steps=400, batch_size=32)
    made = update(store, digits(0, 1)[0]).images
    for task, label in enumerate((4, 6), start=1):
        made = update(store, digits(label)[0], made, seed=task).images
    for label in (0, 1, 4, 6):
        own = flat(made.subset(np.flatnonzero(made.labels == label)))
        assert len(own) == 60
        assert (judge.predict(own) == label).mean() > 0.85
        real = flat(digits(label)[0])
        assert own.std(axis=0).mean() > 0.2 * real.std(axis=0).mean()


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (12, 8, 3), (28, 28, 1)])
def test_the_file_makes_the_same_images_again_and_holds_little_but_float16_weights(shape: tuple[int, int, int], tmp_path: Path) -> None:
    store = ImageGenerator(**QUICK)
    kept = update(store, noise({2: 4, 5: 3, 9: 1}, shape))
    assert kept.images.shape == shape and kept.images.gather(np.arange(9)).dtype == np.uint8
    assert np.asarray(kept.images.labels).tolist() == [2, 2, 2, 5, 5, 5, 9, 9, 9]
    assert kept.features.shape == (0, 5)
    path = tmp_path / "generator.safetensors"
    kept.write(path, regime="replay", task="task0")
    again = ImageGenerator.read(path, regime="replay", task="task0").images
    assert np.array_equal(again.gather(np.arange(9)), kept.images.gather(np.arange(9))) and np.array_equal(again.labels, kept.images.labels)
    assert np.array_equal(rehearsal.read(path, store, task="task0").gather(np.arange(9)), again.gather(np.arange(9)))
    weights = sum(parameter.numel() for parameter in Generator(shape, 3, 4, 4).parameters())
    assert rehearsal.size(path) == path.stat().st_size and 2 * weights < path.stat().st_size < 2 * weights + 3000
    fields = artefacts.read_header(path, KIND)["fields"]
    assert (fields["store"], fields["count"], fields["classes"]) == ("generator", 9, [2, 5, 9])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    images = noise({0: 5, 1: 5})
    once, again, other = (update(ImageGenerator(**QUICK), images, seed=seed).images.gather(np.arange(6)) for seed in (0, 0, 1))
    assert np.array_equal(once, again) and not np.array_equal(once, other)


def test_nothing_but_the_seed_is_drawn_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = update(ImageGenerator(**QUICK), noise({0: 5})).images.gather(np.arange(3))
    torch.manual_seed(1)
    assert np.array_equal(update(ImageGenerator(**QUICK), noise({0: 5})).images.gather(np.arange(3)), first)


def test_encoded_images_are_learned_as_packed_ones_are() -> None:
    packed = noise({0: 3, 1: 4})
    encoded = EncodedImages.from_files([encode_png(image) for image in packed.images], packed.labels, packed.shape)
    old = noise({7: 2})
    made = [update(ImageGenerator(**QUICK, flip=True), images, old).images for images in (packed, encoded)]
    assert np.array_equal(made[0].gather(np.arange(9)), made[1].gather(np.arange(9)))
    assert np.unique(made[0].labels).tolist() == [0, 1, 7]


@pytest.mark.parametrize("shape", [(4, 4, 1), (10, 8, 1), (8, 30, 3), (7, 7, 1)])
def test_sides_that_are_no_multiples_of_four_are_an_error(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigurationError, match=f"Images of {shape[0]} x {shape[1]} pixels cannot be generated: both sides must be multiples of 4"):
        update(ImageGenerator(**QUICK), noise({0: 2}, shape))


def test_no_image_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="there are none"):
        update(ImageGenerator(**QUICK), noise({}))


def test_a_file_of_another_store_or_with_other_weights_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    rehearsal.KeptImages(noise({0: 2}), np.zeros((2, 5))).write(path)
    with pytest.raises(ArtefactError, match="holds no generator of images; it records the store 'images'"):
        ImageGenerator.read(path)
    kept = update(ImageGenerator(**QUICK), noise({0: 2, 1: 2}))
    described = {"store": "generator", "count": 6, "shape": [8, 8, 1], "classes": [0, 1], "latent": 4, "width": 4, "per_class": 3, "seed": 0}
    for change, message in (
        ({"width": 8}, "does not hold the weights"),
        ({"classes": 2}, "describes no generator"),
        ({"shape": [8]}, "describes no"),
    ):
        artefacts.write(path, KIND, kept.weights, **(described | change))
        with pytest.raises(ArtefactError, match=message):
            ImageGenerator.read(path)
    artefacts.write(path, KIND, kept.weights, **{name: value for name, value in described.items() if name != "latent"})
    with pytest.raises(ArtefactError, match="records no latent"):
        ImageGenerator.read(path)


def test_the_gradient_penalty_equals_finite_differences_and_reaches_the_weights() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator((8, 8, 1), 3, 4).double()
    images, classes = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    found = gradient_penalty(discriminator, images, classes)
    squares = np.zeros(2)
    with torch.no_grad():
        for place in np.ndindex(8, 8):
            step = torch.zeros_like(images)
            step[:, 0, place[0], place[1]] = 1e-5
            squares += ((discriminator(images + step, classes) - discriminator(images - step, classes)) / 2e-5).square().numpy()
    assert float(found.detach()) == pytest.approx(squares.mean(), rel=1e-5)
    kernels = [layer.weight for layer in discriminator.body if isinstance(layer, torch.nn.Conv2d)]
    assert len(kernels) == 3 and all(bool((gradient != 0).any()) for gradient in torch.autograd.grad(found, kernels))


def test_the_discriminator_scores_by_a_projection_on_the_class() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator((8, 8, 3), 4, 4)
    images, classes = torch.randn(5, 3, 8, 8), torch.tensor([0, 3, 1, 3, 2])
    with torch.no_grad():
        features = discriminator.body(images).numpy().sum(axis=(2, 3))
        found = discriminator(images, classes).numpy()
    rows = discriminator.projection.weight.detach().numpy()[classes.numpy()]
    expected = features @ discriminator.score.weight.detach().numpy()[0] + float(discriminator.score.bias.detach()) + (features * rows).sum(axis=1)
    assert np.allclose(found, expected, atol=1e-4)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logarithm: np.ndarray = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logarithm


def test_replay_terms_equal_their_formulas() -> None:
    random = np.random.default_rng(0)
    logits, old, labels = random.normal(size=(6, 5)), random.normal(size=(6, 3)), np.array([0, 1, 2, 3, 4, 4])
    features, maps, head = torch.zeros(6, 2), torch.zeros(6, 2, 1, 1), torch.nn.Linear(2, 5)
    teacher = Teacher(features, torch.from_numpy(old), maps, head)  # type: ignore[arg-type]
    regime = Replay({"steps": 1}, distillation=1.5, temperature=3.0)
    step = Step(torch.from_numpy(labels), features, torch.from_numpy(logits), maps, head, teacher)  # type: ignore[arg-type]
    cross_entropy = -log_softmax(logits)[np.arange(6), labels].mean()
    distillation = -(np.exp(log_softmax(old / 3)) * log_softmax(logits[:, :3] / 3)).sum(axis=1).mean()
    assert {name: float(term) for name, term in regime.loss(step).items()} == pytest.approx(
        {"cross_entropy": cross_entropy, "distillation": 1.5 * distillation}, rel=1e-5
    )
    first = Step(torch.from_numpy(labels), features, torch.from_numpy(logits), maps, head, None)  # type: ignore[arg-type]
    assert {name: float(term) for name, term in regime.loss(first).items()} == pytest.approx({"cross_entropy": cross_entropy}, rel=1e-5)


@pytest.mark.parametrize(
    ("section", "message"),
    [({"step": 1}, r"parameter regimes\.replay\.generator 'step'"), ({"width": 6}, r"regimes\.replay\.generator\.width is 6: .*multiple of 4")],
)
def test_a_wrong_parameter_of_the_generator_is_named_by_its_path(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        registry.build("regimes", "replay", {"generator": section})


def test_a_grid_has_a_row_a_class_of_enlarged_images(tmp_path: Path) -> None:
    images = noise({label: 2 + label for label in range(20)}, (8, 8, 3))
    draw_grid(images, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (10 * 66 - 2, 12 * 66 - 2, 3)
    chosen = np.linspace(0, 19, 10).round()
    for row, label in enumerate(chosen):
        own = images.images[images.labels == label]
        for column in (0, 1):
            cell = pixels[row * 66 : row * 66 + 64, column * 66 : column * 66 + 64]
            assert np.array_equal(cell, np.kron(own[column], np.ones((8, 8, 1), dtype=np.uint8)))
    # The first class has two images only.
    assert (pixels[:64, 2 * 66 :] == 128).all()


def test_a_grid_of_grey_images_is_grey_and_large_images_keep_their_size(tmp_path: Path) -> None:
    draw_grid(noise({3: 1}, (100, 80, 1)), tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.mode == "L" and picture.size == (80, 100)
    with pytest.raises(DataError, match="no images to draw"):
        draw_grid(noise({}), tmp_path / "none.png")
