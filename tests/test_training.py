"""Training: it learns, it repeats itself to the byte, and a killed run resumes as if nothing had happened."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from carryover import augment, machine
from carryover.backbones import Network, initialise, to_arrays
from carryover.errors import TrainingError
from carryover.images import EncodedImages, ImageSet, PackedImages, encode_png
from carryover.inference import extract
from carryover.machine import Machine
from carryover.regimes import Regime, Step
from carryover.regimes.distill import Distill
from carryover.regimes.finetune import Finetune
from carryover.training import Batches, Checkpoint, Epoch, Forward, Training, fingerprint, learning_rate, train

torch.set_num_threads(1)
WHERE = Machine(device="cpu", precision="float32", threads=1)
CPU = torch.device("cpu")


def settings(**changes: Any) -> Training:
    values: dict[str, Any] = {"epochs": 4, "increment_epochs": 3, "learning_rate": 0.05, "increment_learning_rate": 0.02}
    return Training(**(values | {"batch_size": 8, "padding": 1, "flip": False} | changes))


def pictures(count: int = 40, classes: int = 2, seed: int = 0) -> PackedImages:
    """Grey 6 x 6 noise with a bright stripe in the row that is the class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = random.integers(0, 100, (count, 6, 6, 1), dtype=np.uint8)
    images[np.arange(count), labels * 2 + 1] += 120
    return PackedImages(images, labels)


def network(classes: int = 2, seed: int = 0) -> Network:
    made = initialise("small", "linear", 1, seed)
    made.head.grow(classes, torch.Generator().manual_seed(seed))
    return made


def state(trained: Network) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in to_arrays(trained).items()}


def run(
    images: ImageSet | None = None,
    regime: Regime | None = None,
    teacher: Network | None = None,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    **changes: Any,
) -> tuple[Network, list[float]]:
    student = network()
    losses = train(student, teacher, images or pictures(), regime or Finetune(), settings(**changes), WHERE, seed, checkpoint)
    return student, losses


class Interrupted(Finetune):
    """Finetuning that is killed at its k-th step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def loss(self, step: Step) -> dict[str, Tensor]:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().loss(step)


class Broken(Finetune):
    """Finetuning whose loss is not finite from its k-th step on."""

    def __init__(self, step: int) -> None:
        self.left = step

    def loss(self, step: Step) -> dict[str, Tensor]:
        self.left -= 1
        terms = super().loss(step)
        return terms if self.left > 0 else {name: term * math.nan for name, term in terms.items()}


def test_loss_falls_and_accuracy_rises() -> None:
    images, fresh = pictures(80), pictures(40, seed=1)

    def accuracy(model: Network) -> float:
        features = torch.from_numpy(extract(model, fresh, WHERE))
        return float((model.head(features).argmax(dim=1).numpy() == fresh.labels).mean())

    assert accuracy(network()) < 0.8
    trained, losses = run(images, epochs=8)
    assert len(losses) == 8 and losses[-1] < 0.3 * losses[0]
    assert accuracy(trained) > 0.95
    assert not trained.training


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    first, second, other = run(seed=1), run(seed=1), run(seed=2)
    assert state(first[0]) == state(second[0]) and first[1] == second[1]
    assert state(first[0]) != state(other[0])


def test_training_does_not_depend_on_torch_s_global_generator() -> None:
    torch.manual_seed(1)
    first = state(run(flip=True)[0])
    torch.manual_seed(2)
    assert state(run(flip=True)[0]) == first


@pytest.mark.parametrize("killed_at", [7, 13, 20])
def test_a_killed_run_resumes_to_the_bytes_of_an_undisturbed_one(tmp_path: Path, killed_at: int) -> None:
    """Five steps an epoch: killed within the second, third and last epoch, the one before it is kept."""
    checkpoint = Checkpoint(tmp_path / "checkpoint", "key")
    expected, losses = run(flip=True)
    with pytest.raises(KeyboardInterrupt):
        run(regime=Interrupted(killed_at), checkpoint=checkpoint, flip=True)
    counter = Interrupted(1000)
    resumed, again = run(regime=counter, checkpoint=checkpoint, flip=True)
    assert 1000 - counter.left == 20 - (killed_at - 1) // 5 * 5
    assert state(resumed) == state(expected) and again == losses


def test_dropout_is_drawn_from_the_seed_and_the_epoch_alone(tmp_path: Path) -> None:
    def dropping() -> Network:
        made = network()
        made.backbone.stem.append(nn.Dropout(0.5))  # type: ignore[union-attr,operator]
        return made

    def learn(regime: Regime, checkpoint: Checkpoint | None = None) -> dict[str, bytes]:
        student = dropping()
        train(student, None, pictures(), regime, settings(), WHERE, 0, checkpoint)
        return state(student)

    torch.manual_seed(1)
    before, expected = torch.get_rng_state(), learn(Finetune())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    checkpoint = Checkpoint(tmp_path / "checkpoint", "key")
    with pytest.raises(KeyboardInterrupt):
        learn(Interrupted(13), checkpoint)
    assert learn(Finetune(), checkpoint) == expected != state(run()[0])


def test_a_run_killed_in_its_first_epoch_starts_over(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", "key")
    with pytest.raises(KeyboardInterrupt):
        run(regime=Interrupted(3), checkpoint=checkpoint)
    assert not checkpoint.path.exists()
    assert state(run(checkpoint=checkpoint)[0]) == state(run()[0])


def test_the_checkpoint_of_other_inputs_is_ignored(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(regime=Interrupted(12), checkpoint=Checkpoint(tmp_path / "c", "old"))
    assert (tmp_path / "c").exists()
    assert state(run(seed=1, checkpoint=Checkpoint(tmp_path / "c", "new"))[0]) == state(run(seed=1)[0])


def test_a_damaged_checkpoint_is_ignored(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(regime=Interrupted(12), checkpoint=Checkpoint(tmp_path / "c", "key"))
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:1000])
    assert state(run(checkpoint=Checkpoint(tmp_path / "c", "key"))[0]) == state(run()[0])


def test_a_loss_that_is_not_finite_names_the_step_the_rate_and_the_last_finite_loss() -> None:
    with pytest.raises(TrainingError) as caught:
        run(regime=Broken(8))
    text = str(caught.value)
    assert "the loss is nan at step 8 of 20" in text and "\n" not in text and text.endswith(".")
    assert f"learning rate of {learning_rate(settings(), True, 7 / 20):.3g};" in text
    reference = run_losses_of_steps(7)
    assert f"last finite loss was {reference[6]:.4g}." in text
    assert "Lower training.learning_rate;" in text


def run_losses_of_steps(count: int) -> list[float]:
    class Recorder(Finetune):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def loss(self, step: Step) -> dict[str, Tensor]:
            terms = super().loss(step)
            self.seen.append(float(terms["cross_entropy"].detach()))
            return terms

    recorder = Recorder()
    run(regime=recorder)
    return recorder.seen[:count]


def test_a_loss_not_finite_at_the_start_of_a_later_epoch_names_the_epoch_s_mean_before() -> None:
    _, losses = run()
    with pytest.raises(TrainingError, match=rf"step 6 of 20.*last finite loss was {losses[0]:.4g}\."):
        run(regime=Broken(6))


def test_in_later_tasks_the_increment_s_learning_rate_is_the_one_to_lower() -> None:
    with pytest.raises(TrainingError, match=r"step 1 of 15.*last finite loss was nan\. Lower training\.increment_learning_rate;"):
        run(regime=Broken(1), teacher=network())


def test_running_out_of_memory_is_one_sentence() -> None:
    class Greedy(Finetune):
        def loss(self, step: Step) -> dict[str, Tensor]:
            raise MemoryError

    with pytest.raises(TrainingError, match=r"batch of 8 images.*training\.batch_size to 4 or"):
        run(regime=Greedy())


def test_memory_that_torch_cannot_allocate_is_one_sentence_wherever_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy(Finetune):
        def loss(self, step: Step) -> dict[str, Tensor]:
            return {"all": torch.empty(1 << 50, dtype=torch.uint8).float().sum()}

    with pytest.raises(TrainingError, match=r"batch of 8 images.*training\.batch_size to 4 or"):
        run(regime=Greedy())
    monkeypatch.setattr(Batches, "__post_init__", lambda self: torch.empty(1 << 50, dtype=torch.uint8))
    with pytest.raises(TrainingError, match=r"dataset\.encoding to 'jpeg'"):
        run()


@pytest.mark.parametrize(("count", "words"), [(0, "there is none"), (1, "there is one")])
def test_training_on_fewer_than_two_images_is_refused(count: int, words: str) -> None:
    with pytest.raises(TrainingError, match=f"two images at least; {words}"):
        train(network(), None, pictures(count), Finetune(), settings(), WHERE, 0)


def test_labels_that_cannot_be_written_to_are_no_cause_for_a_warning() -> None:
    images = pictures()
    images.labels.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Batches(images, CPU, 8, 0)


def test_encoded_images_train_to_the_bytes_of_packed_ones() -> None:
    images = pictures()
    encoded = EncodedImages.from_files([encode_png(image) for image in images.images], images.labels, images.shape)
    assert state(run(encoded)[0]) == state(run(images)[0])


def test_each_epoch_s_batches_are_a_permutation_of_pairs_without_the_incomplete_last_batch() -> None:
    images = pictures(21)
    batches = Batches(images, CPU, 4, 3)
    assert len(batches) == 5
    orders = []
    for number in (0, 1):
        seen = []
        for batch, labels, _ in batches.epoch(number):
            assert batch.shape == (4, 6, 6, 1) and batch.dtype == torch.uint8
            for image, label in zip(batch.numpy(), labels.tolist(), strict=True):
                (row,) = (i for i in range(21) if np.array_equal(images.images[i], image))
                assert images.labels[row] == label
                seen.append(row)
        assert len(seen) == len(set(seen)) == 20
        orders.append(seen)
    assert orders[0] != orders[1]


def test_a_batch_is_never_larger_than_the_task() -> None:
    assert len(Batches(pictures(5), CPU, 128, 0)) == 1
    assert len(run(pictures(6), batch_size=128)[1]) == 4


def test_the_first_task_and_later_ones_have_their_own_epochs_and_rates() -> None:
    assert len(run()[1]) == 4
    assert len(run(teacher=network(seed=1))[1]) == 3


def test_the_teacher_s_view_reaches_the_loss_in_evaluation_mode_and_the_teacher_stays_as_it_is() -> None:
    teacher = network(seed=5)
    before = state(teacher)
    views: list[Step] = []

    class Watching(Distill):
        def loss(self, step: Step) -> dict[str, Tensor]:
            views.append(step)
            return super().loss(step)

    run(regime=Watching(), teacher=teacher, padding=0, increment_epochs=1)
    assert state(teacher) == before
    images = pictures()
    features = extract(teacher, images, WHERE)
    view = views[0].teacher
    assert view is not None
    for row in view.features.numpy():
        assert np.abs(features - row).max(axis=1).min() < 1e-4
    assert torch.allclose(view.logits, teacher.head(view.features), atol=1e-5)


def test_a_regime_without_need_of_a_teacher_gets_none() -> None:
    seen: list[Step] = []

    class Watching(Finetune):
        def loss(self, step: Step) -> dict[str, Tensor]:
            seen.append(step)
            return super().loss(step)

    run(regime=Watching(), teacher=network(seed=5), increment_epochs=1)
    assert all(step.teacher is None for step in seen)


def test_distillation_keeps_the_network_nearer_to_its_teacher() -> None:
    images = pictures()

    def distance(weight: float) -> float:
        teacher = network(seed=0)  # the student starts from the same weights
        regime = Distill(distillation=0.0, feature=weight)
        student, _ = run(regime=regime, teacher=teacher, increment_epochs=6)
        old, new = extract(teacher, images, WHERE), extract(student, images, WHERE)
        return float((1 - (old * new).sum(axis=1) / np.linalg.norm(old, axis=1) / np.linalg.norm(new, axis=1)).mean())

    assert distance(10.0) < 0.5 * distance(0.0)


def test_one_cycle_rises_linearly_for_a_fifth_and_falls_to_zero() -> None:
    one = settings(schedule="one_cycle", learning_rate=1.0)
    rates = [learning_rate(one, True, progress) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([1e-4, 0.5 + 1e-4, 1.0 + 1e-4, 0.5 + 1e-4, 1e-4])


def test_cosine_and_step_schedules() -> None:
    cosine, steps = settings(schedule="cosine", learning_rate=2.0), settings(schedule="steps", learning_rate=2.0)
    assert [learning_rate(cosine, True, p) for p in (0.0, 1 / 3, 0.5, 2 / 3)] == pytest.approx([2.0, 1.5, 1.0, 0.5])
    assert [learning_rate(steps, True, p) for p in (0.0, 0.49, 0.5, 0.74, 0.75, 0.99)] == pytest.approx([2.0, 2.0, 0.2, 0.2, 0.02, 0.02])


def test_later_tasks_take_the_increment_s_peak() -> None:
    assert learning_rate(settings(schedule="cosine"), False, 0.0) == pytest.approx(0.02)
    assert learning_rate(settings(schedule="cosine"), True, 0.0) == pytest.approx(0.05)


def test_bfloat16_learns_too() -> None:
    student = network()
    losses = train(student, None, pictures(80), Finetune(), settings(epochs=8), Machine("cpu", "bfloat16", 1), 0)
    assert losses[-1] < 0.4 * losses[0]
    assert all(array.dtype == np.float32 for array in to_arrays(student).values())


def test_long_trainings_are_compiled_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    where = Machine("cpu", "float32", 1)
    monkeypatch.setattr(machine, "has_compiler", lambda: True)
    assert [where.compiles(images) for images in (0, machine.WORTH_COMPILING - 1, machine.WORTH_COMPILING)] == [False, False, True]
    assert Machine("cpu", "float32", 1, "always").compiles(1)
    assert not Machine("cpu", "float32", 1, "never").compiles(10**9)
    monkeypatch.setattr(machine, "has_compiler", lambda: False)
    assert not where.compiles(10**9)


@pytest.mark.parametrize(("compile", "epochs", "compiled"), [("auto", 1, False), ("auto", 7, True), ("never", 7, False), ("always", 1, True)])
def test_what_is_compiled_depends_on_the_images_of_all_epochs(monkeypatch: pytest.MonkeyPatch, compile: Any, epochs: int, compiled: bool) -> None:
    monkeypatch.setattr(machine, "has_compiler", lambda: True)
    monkeypatch.setattr(machine, "WORTH_COMPILING", 7 * len(pictures()))
    seen: list[torch.nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda module: seen.append(module) or module)
    train(network(), None, pictures(), Finetune(), settings(epochs=epochs), Machine("cpu", "float32", 1, compile), seed=0)
    assert bool(seen) == compiled


@pytest.mark.skipif(not machine.has_compiler(), reason="torch compiles with a C++ compiler")
@pytest.mark.timeout(300)
def test_a_compiled_run_learns_what_an_eager_one_does() -> None:
    teacher, _ = run()
    results = []
    for compile in ("never", "always"):
        where = Machine("cpu", "float32", 1, compile)  # type: ignore[arg-type]
        trained = network(3, seed=1)
        losses = train(trained, teacher, pictures(classes=3), Distill(), settings(increment_epochs=1), where, seed=3)
        results.append((losses, to_arrays(trained)))
    (eager, weights), (compiled, others) = results
    assert compiled == pytest.approx(eager, rel=1e-3)
    assert weights.keys() == others.keys()
    assert all(np.allclose(weights[name], others[name], atol=1e-3) for name in weights)


def test_a_network_that_cannot_be_compiled_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # Named as torch's own, whose import takes a second.
    failure = type("TorchDynamoException", (RuntimeError,), {})

    def fail(module: torch.nn.Module) -> Any:
        def call(_: Tensor) -> Tensor:
            raise failure("no C++ compiler\nand a long story")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(TrainingError, match=r"cannot compile the network here \(no C\+\+ compiler\); set machine.compile to 'never'\.$"):
        train(network(), None, pictures(), Finetune(), settings(), Machine("cpu", "float32", 1, "always"), seed=0)


def test_a_fingerprint_names_contents_and_settings_not_paths(tmp_path: Path) -> None:
    for name, content in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    key = fingerprint([tmp_path / "a"], "x", 1)
    assert key == fingerprint([tmp_path / "b"], "x", 1) and len(key) == 24
    others = [fingerprint([tmp_path / "c"], "x", 1), fingerprint([tmp_path / "a"], "x", 2), fingerprint([tmp_path / "a", tmp_path / "b"], "x", 1)]
    assert len({key, *others}) == 4


def test_epochs_are_told_as_they_end_and_nothing_else_changes() -> None:
    told: list[Epoch] = []
    student = network()
    losses = train(student, None, pictures(), Finetune(), settings(), WHERE, 0, follow=told.append)
    plain, plain_losses = run()
    assert state(student) == state(plain) and losses == plain_losses == [epoch.loss for epoch in told]
    assert [epoch.number for epoch in told] == [1, 2, 3, 4]
    steps = 40 // 8
    assert [epoch.rate for epoch in told] == [learning_rate(settings(), True, (steps * number - 1) / (4 * steps)) for number in (1, 2, 3, 4)]


def test_the_accuracy_of_an_epoch_is_that_of_its_steps() -> None:
    told: list[Epoch] = []
    # Without a step that changes anything, every epoch has the accuracy of the network as it is.
    student = network()
    train(student, None, pictures(), Finetune(), settings(learning_rate=1e-12, padding=0, weight_decay=0.0), WHERE, 0, follow=told.append)
    student.train()
    right = []
    for batch, labels, _ in Batches(pictures(), CPU, 8, 0).epoch(0):
        _, logits, _ = Forward(student, WHERE, False)(augment.normalise(batch))
        right.append(float((logits.argmax(dim=1) == labels).float().mean()))
    assert told[0].accuracy == pytest.approx(np.mean(right))
    assert 0 < told[0].accuracy < 1
