"""`generator`: a network that makes features of every class, in place of the rows.

Liu et al., "Generative feature replay for class-incremental learning", CVPR workshops 2020: a class-conditional Wasserstein GAN
with gradient penalty (Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017) is trained after each task on the
new classes' features and on what the previous generator makes of the old ones. Its size does not depend on the number of rows,
and hardly on that of classes.

With critic C, generator G, noise z and the class y (one-hot, beside either network's input) a step minimises
E[C(G(z, y), y) - C(x, y) + penalty (|grad_m C(m, y)| - 1)^2] by C, m between x and G(z, y), `critic_steps` times, and then
E[-C(G(z, y), y)] by G. Classes are drawn equally often, whatever number of rows they have.

What is kept is the running mean of G's weights (Yazici et al., "The unusual effectiveness of averaging in GAN training", ICLR 2019):
at a constant learning rate the two networks circle around their equilibrium.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from carryover.errors import TrainingError
from carryover.forms.gaussian import check_rows
from carryover.seeds import derive, generator

if TYPE_CHECKING:
    import torch

__all__ = ["GeneratorForm"]

SLOPE = 0.2  # of LeakyReLU, where its input is negative
AVERAGE = 0.99  # the share of the running mean of weights that remains after a step
MOMENTS = (0.5, 0.9)  # of Adam: the gradients of two networks at odds have no long memory
LAYERS = 3


class GeneratorForm:
    """A class-conditional generator of features, two hidden layers deep, with weights in float16.

    Args:
        latent: numbers of noise that a feature is made from.
        width: hidden units of generator and critic.
        steps: of the generator.
        batch_size: rows a step.
        learning_rate: of Adam, constant.
        critic_steps: of the critic, for each of the generator.
        penalty: weight of the gradient penalty.
        samples: rows of a class that are drawn.
        seed: of the initial weights, of batches and noise.
    """

    name = "generator"
    device = "auto"

    def __init__(
        self,
        latent: Annotated[int, Field(gt=0)] = 16,
        width: Annotated[int, Field(gt=0)] = 128,
        steps: Annotated[int, Field(gt=0)] = 1000,
        batch_size: Annotated[int, Field(gt=0)] = 64,
        learning_rate: Annotated[float, Field(gt=0)] = 2e-3,
        critic_steps: Annotated[int, Field(gt=0)] = 5,
        penalty: Annotated[float, Field(ge=0)] = 10.0,
        samples: Annotated[int, Field(gt=0)] = 200,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.latent = latent
        self.width = width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.critic_steps = critic_steps
        self.penalty = penalty
        self.samples = samples
        self.seed = seed

    def condense(self, features: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Return a generator trained on features [n, d], class by class, counts[c] rows of class c.

        Returns:
            `weight/i` float16 [outputs, inputs] and `bias/i` float16 [outputs] of its three layers; `classes` float16
            [classes, outputs], the columns of the first layer that the one-hot class goes to; `centre` and `spread` float32
            [d], by which its output is shifted and scaled; `counts` int32 [classes], the rows to be drawn.

        Raises:
            ValueError: if features are no matrix or not finite, or counts are not positive or do not add up to its rows.
            TrainingError: if a weight is beyond what float16 holds.
        """
        rows, sizes = check_rows(features, counts)
        if not len(sizes):
            raise ValueError("A generator needs at least one class.")
        centre, spread = rows.mean(axis=0), rows.std(axis=0)
        # A feature that never varies has a spread of zero, and is made as it is. Rounding of the mean counts as none.
        spread[spread <= 1e-6 * np.abs(centre)] = 0
        layers = self._train((rows - centre) / np.where(spread > 0, spread, 1), sizes)
        arrays = {f"weight/{i}": layers[2 * i] for i in range(LAYERS)} | {f"bias/{i}": layers[2 * i + 1] for i in range(LAYERS)}
        arrays["classes"] = layers[0][:, self.latent :].T
        arrays["weight/0"] = layers[0][:, : self.latent]
        if not all((np.abs(array) <= np.finfo(np.float16).max).all() for array in arrays.values()):
            raise TrainingError(f"The generator of features diverged at a learning rate of {self.learning_rate:.3g}: lower it.")
        written = {name: array.astype(np.float16) for name, array in arrays.items()}
        drawn = np.full(len(sizes), self.samples, dtype=np.int32)
        return written | {"centre": centre.astype(np.float32), "spread": spread.astype(np.float32), "counts": drawn}

    def _train(self, rows: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
        import torch

        from carryover.machine import device_of
        from carryover.optimisers import AdamW
        from carryover.sampling import BalancedRows

        device = device_of(self.device)
        # All chance is drawn on the processor, so that the device does not change it.
        random = torch.Generator().manual_seed(derive(self.seed, "generator form"))
        x = torch.from_numpy(rows.astype(np.float32)).to(device)
        balanced = BalancedRows(counts)
        classes, d, batch = len(counts), x.shape[1], self.batch_size
        one_hot = torch.eye(classes, device=device)
        maker = _network(self.latent, classes, self.width, d, random, device)
        critic = _network(d, classes, self.width, 1, random, device)
        optimisers = [AdamW(weights, 0.0, *MOMENTS) for weights in (maker, critic)]
        average = [weight.detach().clone() for weight in maker]

        def noise(n: int) -> torch.Tensor:
            return torch.randn(n, self.latent, generator=random).to(device)

        for step in range(self.steps):
            # The generator rests while the critic learns: what all its steps need is made at once.
            n = batch * self.critic_steps
            drawn, chosen = balanced.draw(n, random)
            labels, real = one_hot[drawn.to(device)], x[chosen.to(device)]
            with torch.no_grad():
                made = _forward(maker, noise(n), labels)
            between = made + torch.rand(n, 1, generator=random).to(device) * (real - made)
            for start in range(0, n, batch):
                part = slice(start, start + batch)
                loss = critic_loss(critic, real[part], made[part], between[part], labels[part], self.penalty)
                loss.backward()  # type: ignore[no-untyped-call]
                optimisers[1].step(self.learning_rate)
            labels = one_hot[torch.randint(classes, (batch,), generator=random).to(device)]
            fixed = [weight.detach() for weight in critic]
            loss = -_forward(fixed, _forward(maker, noise(batch), labels), labels).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimisers[0].step(self.learning_rate)
            # The mean is shorter at first, so that the initial weights are soon out of it.
            remains = min(AVERAGE, (1 + step) / (10 + step))
            with torch.no_grad():
                for mean, weight in zip(average, maker, strict=True):
                    mean.lerp_(weight, 1 - remains)
        return [weight.cpu().numpy() for weight in average]


def critic_loss(
    critic: list[torch.Tensor], real: torch.Tensor, made: torch.Tensor, between: torch.Tensor, labels: torch.Tensor, penalty: float
) -> torch.Tensor:
    """Return the critic's loss on real, made and intermediate rows [b, d] of the same one-hot labels [b, classes].

    The critic is linear between the kinks of its LeakyReLUs. Its gradient by the input is the product of its weights and of the
    slopes at hand, whose own derivative is zero: written out so, the penalty needs no second backward pass.
    """
    import torch

    w1, b1, w2, b2, w3, b3 = critic
    inputs = torch.cat([torch.cat([real, made, between]), labels.repeat(3, 1)], dim=1)
    first = inputs @ w1.T + b1
    second = _leaky(first) @ w2.T + b2
    scores_real, scores_made, _ = (_leaky(second) @ w3.T + b3).chunk(3)
    slopes = [torch.where(values.detach().chunk(3)[2] > 0, 1.0, SLOPE) for values in (first, second)]
    gradient = ((w3 * slopes[1]) @ w2 * slopes[0]) @ w1[:, : real.shape[1]]
    # A length has no derivative at zero.
    lengths = (gradient.square().sum(dim=1) + 1e-12).sqrt()
    return scores_made.mean() - scores_real.mean() + penalty * (lengths - 1).square().mean()


def _network(inputs: int, classes: int, width: int, outputs: int, random: torch.Generator, device: torch.device) -> list[torch.Tensor]:
    """Return weights and biases of [inputs, one-hot class] -> width -> width -> outputs."""
    import torch

    sizes = (inputs + classes, width, width, outputs)
    weights: list[torch.Tensor] = []
    for a, b in itertools.pairwise(sizes):
        weight = torch.randn(b, a, generator=random) * (2 / a) ** 0.5
        if not weights:
            # The inputs have a variance of one, and one of the classes is 1: each part is as large as the other.
            weight[:, :inputs] *= ((inputs + classes) / (2 * inputs)) ** 0.5
            weight[:, inputs:] *= ((inputs + classes) / 2) ** 0.5
        weights += [weight, torch.zeros(b)]
    return [weight.to(device).requires_grad_() for weight in weights]


def _forward(weights: list[torch.Tensor], x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    import torch

    w1, b1, w2, b2, w3, b3 = weights
    return _leaky(_leaky(torch.cat([x, labels], dim=1) @ w1.T + b1) @ w2.T + b2) @ w3.T + b3


def _leaky(x: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional as F

    return F.leaky_relu(x, SLOPE)


def expand(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return features float32 [n, d] and counts int32 [classes] that the generator makes, the same each time.

    Computed in numpy, for what reads a memory need not load a library for training.

    Raises:
        ValueError: if the arrays do not fit together.
        KeyError: if one is missing.
    """
    centre, spread, counts, classes = (arrays[name] for name in ("centre", "spread", "counts", "classes"))
    weights = [arrays[f"weight/{i}"] for i in range(LAYERS)]
    biases = [arrays[f"bias/{i}"] for i in range(LAYERS)]
    if any(array.dtype != np.float16 for array in (*weights, *biases, classes)) or centre.dtype != np.float32 or spread.dtype != np.float32:
        raise ValueError("weights, biases and classes are float16, centre and spread float32")
    if counts.dtype != np.int32 or counts.ndim != 1 or not counts.size or (counts < 1).any():
        raise ValueError(f"counts are {counts.dtype} {counts.shape}: there is at least one class, and each has at least one row")
    if centre.ndim != 1 or any(array.ndim != 2 or not array.size for array in (*weights, classes)):
        raise ValueError("weights and classes are matrices, centre a vector")
    latent, width, second, d = weights[0].shape[1], len(weights[0]), len(weights[1]), len(centre)
    expected = [(width, latent), (second, width), (d, second), (width,), (second,), (d,), (d,), (len(counts), width)]
    shapes = [array.shape for array in (*weights, *biases, spread, classes)]
    if shapes != expected:
        raise ValueError(f"layers, biases, spread and classes of shapes {shapes} do not fit {len(counts)} classes and {d} features")
    noise = np.concatenate([generator(0, "generator form", c).standard_normal((count, latent)) for c, count in enumerate(counts.tolist())])
    w1, w2, w3 = (weight.astype(np.float32) for weight in weights)
    b1, b2, b3 = (bias.astype(np.float32) for bias in biases)
    hidden = noise.astype(np.float32) @ w1.T + (b1 + np.repeat(classes.astype(np.float32), counts, axis=0))
    hidden = np.where(hidden > 0, hidden, np.float32(SLOPE) * hidden) @ w2.T + b2
    features: np.ndarray = (np.where(hidden > 0, hidden, np.float32(SLOPE) * hidden) @ w3.T + b3) * spread + centre
    return features, counts
