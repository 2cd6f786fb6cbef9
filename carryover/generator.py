"""Generated images: a class-conditional GAN, trained after each task on its images and on what the previous generator made.

Deep generative replay (Shin et al., "Continual learning with deep generative replay", NeurIPS 2017) with labels. Both
networks minimise the non-saturating loss (Goodfellow et al., NeurIPS 2014), with s(u) = log(1 + exp(u)): the discriminator
E[s(-D(x, y)) + s(D(G(z, y), y))], the generator E[s(-D(G(z, y), y))]. The discriminator also minimises the R1 gradient penalty
gamma / 2 E |grad_x D(x, y)|^2 (Mescheder et al., "Which training methods for GANs do actually converge?", ICML 2018), at every
eighth step (Karras et al., "StyleGAN2", CVPR 2020). It is a projection discriminator (Miyato and Koyama, ICLR 2018). The
generator's latent vector and class scale and shift its layers (Chen et al., "On self modulation for GANs", ICLR 2019). The
discriminator sees real and generated images shifted alike (differentiable augmentation, Zhao et al., NeurIPS 2020), and what
is kept is the moving average of the generator's weights (Yazici et al., ICLR 2019).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from carryover import artefacts, augment
from carryover.errors import ArtefactError, ConfigurationError, DataError, TrainingError, out_of_memory
from carryover.images import ImageSet, PackedImages, Shape, concatenate
from carryover.machine import Machine
from carryover.optimisers import AdamW
from carryover.rehearsal import KIND, Learned
from carryover.sampling import BalancedRows
from carryover.seeds import derive

STORE = "generator"
_GROUPS = 4
_PENALTY_EVERY = 8
_CHUNK = 256


class ImageGenerator:
    """Keeps no image but a generator of images of every class seen.

    A generator has no part in the next one but the images that it makes: these are the next one's real images of old
    classes, so what one loses the next cannot learn.

    Args:
        per_class: images that are made of each class.
        latent: the latent vector's dimension.
        width: the generator's channels at the images' own resolution, a multiple of 4; lower resolutions have two and four
            times as many. With `latent` it decides the bytes that are kept.
        discriminator_width: the same of the discriminator, which is not kept.
        steps: of both networks, in each task.
        batch_size: real images a step, every class equally often, and as many generated ones.
        learning_rate: of both networks' Adam (beta 0 and 0.99); falls to zero over the second half of the steps.
        penalty: gamma, the weight of the R1 penalty gamma / 2 E |grad D(x)|^2.
        averaging: the decay of the moving average of the generator's weights, less in the first steps.
        flip: whether real and generated images are mirrored at random before the discriminator sees them.
    """

    def __init__(
        self,
        per_class: Annotated[int, Field(gt=0)] = 100,
        latent: Annotated[int, Field(gt=0)] = 16,
        width: Annotated[int, Field(gt=0, multiple_of=_GROUPS)] = 8,
        discriminator_width: Annotated[int, Field(gt=0)] = 16,
        steps: Annotated[int, Field(gt=0)] = 1500,
        batch_size: Annotated[int, Field(gt=1)] = 64,
        learning_rate: Annotated[float, Field(gt=0)] = 2e-3,
        penalty: Annotated[float, Field(ge=0)] = 0.3,
        averaging: Annotated[float, Field(ge=0, lt=1)] = 0.99,
        flip: bool = False,
    ) -> None:
        self.per_class = per_class
        self.latent = latent
        self.width = width
        self.discriminator_width = discriminator_width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.penalty = penalty
        self.averaging = averaging
        self.flip = flip

    def update(self, learned: Learned) -> Generated:
        """Train a new generator on the task's images and the rehearsed ones, labels as they are.

        Raises:
            ConfigurationError: if the images' sides are not multiples of 4 from 8 on.
            DataError: if there is no image.
            TrainingError: if training leaves numbers that are not finite, or the machine's memory is too small.
        """
        images = concatenate([learned.rehearsed, learned.images])
        if not len(images):
            raise DataError("A generator of images needs images to learn from; there are none.")
        check_shape(images.shape)
        classes = tuple(int(label) for label in np.unique(np.asarray(images.labels)))
        generator = Generator(images.shape, len(classes), self.latent, self.width)
        try:
            weights = self._train(generator, images, learned.seed, learned.where)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(
                f"A generator of width {self.width} and a batch of {self.batch_size} images need more memory than there is; lower the "
                "generator's batch_size or width."
            ) from error
        return Generated(
            weights, images.shape, classes, self.latent, self.width, self.per_class, derive(learned.seed, "latents"), learned.features[:0]
        )

    @staticmethod
    def read(path: str | os.PathLike[str], **expected: Any) -> Generated:
        """Read what a `Generated` wrote; it makes the images that it made before.

        Raises:
            ArtefactError: if the file is no such artefact.
        """
        artefact = artefacts.read(path, KIND, **expected)
        fields = artefact.fields
        if fields.get("store") != STORE:
            raise ArtefactError(f"{path} holds no generator of images; it records the store {fields.get('store')!r}.")
        try:
            height, width, channels = fields["shape"]
            described = (height, width, channels), tuple(fields["classes"]), fields["latent"], fields["width"], fields["per_class"], fields["seed"]
            check_shape(described[0])
            wanted = {n: tuple(t.shape) for n, t in Generator(described[0], len(described[1]), *described[2:4]).state_dict().items()}
        except (KeyError, TypeError, ValueError, RuntimeError, ConfigurationError) as error:
            raise ArtefactError(f"{path} describes no generator of images: {str(error).rstrip('.')}.") from error
        if wanted != {name: array.shape for name, array in artefact.tensors.items()}:
            raise ArtefactError(f"{path} does not hold the weights of the generator that its header describes.")
        return Generated(artefact.tensors, *described, np.empty((0, 0), dtype=np.float32))

    def load(self, path: str | os.PathLike[str]) -> ImageSet:
        """Return the images that the generator of an artefact makes.

        Raises:
            ArtefactError: as `read`.
        """
        return self.read(path).images

    def _train(self, generator: Generator, images: ImageSet, seed: int, where: Machine) -> dict[str, np.ndarray]:
        """Return the averaged weights as float16 arrays by name."""
        random = torch.Generator().manual_seed(derive(seed, "generator"))
        discriminator = Discriminator(images.shape, generator.classes, self.discriminator_width)
        _initialise(generator, random)
        _initialise(discriminator, random)
        generator.to(where.device)
        discriminator.to(where.device)
        average = [parameter.detach().clone() for parameter in generator.parameters()]
        optimisers = [AdamW(network.parameters(), 0.0, first_moment=0.0, second_moment=0.99) for network in (generator, discriminator)]
        batches = _Balanced(images, random)
        padding = min(images.shape[:2]) // 8

        def augmented(pixels: Tensor) -> Tensor:
            """Shift [b, c, h, w] in -1..1 by up to an eighth of the side, black beyond the border, and mirror."""
            rows, columns, flips = (t.to(where.device) for t in augment.draw(len(pixels), padding, self.flip, random))
            return augment.crop_and_flip((pixels + 1).permute(0, 2, 3, 1), rows, columns, flips, padding).permute(0, 3, 1, 2) - 1

        def generated() -> tuple[Tensor, Tensor]:
            labels = torch.randint(0, generator.classes, (self.batch_size,), generator=random).to(where.device)
            latents = torch.randn(self.batch_size, self.latent, generator=random).to(where.device)
            with where.autocast():
                return augmented(generator(latents, labels).float()), labels

        with tqdm(total=self.steps, desc="generator", unit="step", disable=None) as bar:
            for step in range(self.steps):
                rate = self.learning_rate * min(1.0, 2 * (1 - step / self.steps))
                pixels, labels = (t.to(where.device) for t in batches.draw(self.batch_size))
                real = augmented(pixels)
                with torch.no_grad():
                    fake, fake_labels = generated()
                discriminator.requires_grad_(True)
                with where.autocast():
                    scores = discriminator(torch.cat([real, fake]), torch.cat([labels, fake_labels])).float()
                loss = F.softplus(-scores[: len(real)]).mean() + F.softplus(scores[len(real) :]).mean()
                if self.penalty and step % _PENALTY_EVERY == 0:
                    loss = loss + _PENALTY_EVERY * self.penalty / 2 * gradient_penalty(discriminator, real, labels)
                loss.backward()  # type: ignore[no-untyped-call]
                optimisers[1].step(rate)

                discriminator.requires_grad_(False)
                fake, fake_labels = generated()
                with where.autocast():
                    scores = discriminator(fake, fake_labels).float()
                F.softplus(-scores).mean().backward()  # type: ignore[no-untyped-call]
                optimisers[0].step(rate)
                with torch.no_grad():
                    decay = min(self.averaging, (1 + step) / (10 + step))
                    torch._foreach_lerp_(average, list(generator.parameters()), 1 - decay)
                bar.update()
        weights = {name: tensor.half().cpu().numpy() for (name, _), tensor in zip(generator.named_parameters(), average, strict=True)}
        if not all(np.isfinite(array).all() for array in weights.values()):
            raise TrainingError("The generator of images has weights that are not finite: lower its learning_rate or raise its penalty.")
        return weights


@dataclass(frozen=True)
class Generated:
    """A generator of images: its float16 `weights` by name, and what else they need to be images.

    Attributes:
        weights: of a `Generator`.
        shape: of the images.
        classes: the label of each of the generator's classes.
        latent: the latent vector's dimension.
        width: the generator's.
        per_class: images of each class.
        seed: of the latent vectors.
        features: no rows.
    """

    weights: dict[str, np.ndarray]
    shape: Shape
    classes: tuple[int, ...]
    latent: int
    width: int
    per_class: int
    seed: int
    features: np.ndarray

    @cached_property
    def images(self) -> ImageSet:
        """The images, `per_class` of each class in the order of `classes`; made on the processor in float32 from the weights as they are stored."""
        generator = Generator(self.shape, len(self.classes), self.latent, self.width)
        generator.load_state_dict({name: torch.from_numpy(array.astype(np.float32)) for name, array in self.weights.items()})
        random = torch.Generator().manual_seed(self.seed)
        labels = torch.arange(len(self.classes)).repeat_interleave(self.per_class)
        pixels = np.empty((len(labels), *self.shape), dtype=np.uint8)
        with torch.no_grad():
            for start in range(0, len(labels), _CHUNK):
                chunk = labels[start : start + _CHUNK]
                made = generator(torch.randn(len(chunk), self.latent, generator=random), chunk)
                pixels[start : start + _CHUNK] = ((made + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return PackedImages(pixels, np.repeat(np.array(self.classes, dtype=np.int64), self.per_class))

    def write(self, path: str | os.PathLike[str], **fields: Any) -> None:
        """Write the weights, and in the header what they need to be images."""
        described = {"shape": list(self.shape), "classes": list(self.classes), "latent": self.latent, "width": self.width}
        count = self.per_class * len(self.classes)
        artefacts.write(path, KIND, self.weights, store=STORE, count=count, per_class=self.per_class, seed=self.seed, **described, **fields)


class _Modulated(nn.Module):
    """Enlarge, convolve, normalise groups of channels, scale and shift by the style [b, s]; [b, c, h, w] -> [b, width, 2h, 2w]."""

    def __init__(self, channels: int, width: int, style: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.style = nn.Linear(style, 2 * width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = F.group_norm(self.convolution(F.interpolate(x, scale_factor=2, mode="nearest")), _GROUPS)
        scale, shift = self.style(style)[:, :, None, None].chunk(2, dim=1)
        return F.leaky_relu(x * (1 + scale) + shift, 0.2)


class Generator(nn.Module):
    """Latent vectors [b, latent] and classes [b] -> images [b, c, h, w] in -1..1.

    Args:
        shape: height, width and channels of the images.
        classes: how many there are.
        latent: the dimension of the latent vectors and of the classes' embeddings.
        width: channels at full resolution.
    """

    def __init__(self, shape: Shape, classes: int, latent: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        doublings, self.height, self.width = _smallest(shape)
        channels = [width * min(4, 2 ** (doublings - i)) for i in range(doublings + 1)]
        self.embedding = nn.Embedding(classes, latent)
        self.base = nn.Linear(2 * latent, channels[0] * self.height * self.width)
        self.blocks = nn.ModuleList(_Modulated(a, b, 2 * latent) for a, b in pairwise(channels))
        self.out = nn.Conv2d(channels[-1], shape[2], 3, 1, 1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        style = torch.cat([latents, self.embedding(classes)], dim=1)
        x = self.base(style).view(len(latents), -1, self.height, self.width)
        x = F.leaky_relu(F.group_norm(x, _GROUPS), 0.2)
        for block in self.blocks:
            x = block(x, style)
        return torch.tanh(self.out(x))


class Discriminator(nn.Module):
    """Images [b, c, h, w] and classes [b] -> scores [b], a linear function of the features plus their product with the class's row."""

    def __init__(self, shape: Shape, classes: int, width: int) -> None:
        super().__init__()
        halvings, _, _ = _smallest(shape)
        channels = [width * min(4, 2**i) for i in range(halvings + 1)]
        layers: list[nn.Module] = [nn.Conv2d(shape[2], width, 3, 1, 1), nn.LeakyReLU(0.2)]
        for a, b in pairwise(channels):
            layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(channels[-1], channels[-1], 3, 1, 1), nn.LeakyReLU(0.2))
        self.score = nn.Linear(channels[-1], 1)
        self.projection = nn.Linear(channels[-1], classes, bias=False)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        features = self.body(images).sum(dim=(2, 3))
        return self.score(features)[:, 0] + self.projection(features).gather(1, classes[:, None])[:, 0]  # type: ignore[no-any-return]


def gradient_penalty(discriminator: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return the mean over images [b, c, h, w] of the squared length of the score's gradient by the image (R1, without its gamma / 2)."""
    images = images.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(discriminator(images, classes).sum(), images, create_graph=True)
    return gradients.square().sum(dim=(1, 2, 3)).mean()


def check_shape(shape: Shape) -> None:
    """Raise a ConfigurationError if images of this height, width and channels cannot be generated."""
    if any(side < 8 or side % 4 for side in shape[:2]):
        raise ConfigurationError(
            f"Images of {shape[0]} x {shape[1]} pixels cannot be generated: both sides must be multiples of 4, and 8 at least. "
            "Choose a regime without a generator, or scale the images when they are prepared."
        )


class _Balanced:
    """Draws images so that every class comes equally often, whatever its size."""

    def __init__(self, images: ImageSet, random: torch.Generator) -> None:
        self.images, self.random = images, random
        self.order = np.argsort(np.asarray(images.labels), kind="stable")
        self.rows = BalancedRows(np.unique(np.asarray(images.labels), return_counts=True)[1])

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Return images [size, c, h, w] in -1..1 and their classes [size], numbered in the order of the labels."""
        classes, rows = self.rows.draw(size, self.random)
        pixels = self.images.gather(self.order[rows.numpy()])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, classes


def _smallest(shape: Shape) -> tuple[int, int, int]:
    """Return how often height and width are halved until one is at most 4 or odd, and what they are then."""
    height, width, _ = shape
    halvings = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) > 4:
        height, width, halvings = height // 2, width // 2, halvings + 1
    return halvings, height, width


def _initialise(network: nn.Module, random: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=0.2, generator=random)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, generator=random)
    for module in network.modules():
        if isinstance(module, _Modulated):
            # Scales begin near one, so that the first images are not noise.
            module.style.weight.data *= 0.3
