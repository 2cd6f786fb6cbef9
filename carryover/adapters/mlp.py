"""`mlp`: the paper's feature adaptation, a multi-layer perceptron from previous to current features.

Iscen et al., "Memory-efficient incremental learning through feature adaptation", ECCV 2020, section 3.2: two hidden
layers of 16 d units with ReLU, trained on the current task's pairs with
L_fa = alpha (1 - cos(phi(h_{t-1}(x)), h_t(x))) + CE(g_W(phi(h_{t-1}(x))), y), the classifier g_W held fixed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field

from carryover.adapters import Adapter, Head, check_features, check_pairs
from carryover.adapters.linear import LinearAdapter

if TYPE_CHECKING:
    import torch

__all__ = ["MLPAdapter"]

CHUNK = 2048


class MLPAdapter(Adapter):
    """A perceptron with two hidden layers, alone (the paper's form) or added to the identity or to the ridge solution.

    Args:
        width: hidden units as a multiple of the feature dimension d.
        start: "none" is the paper's phi(x) = MLP(x); "identity" is x + MLP(x) and "linear" is x A + b + MLP(x) with the
            ridge solution A, b held fixed, both with the MLP's last layer at zero, so that training begins there.
        ridge: of the linear start, as in `LinearAdapter`.
        similarity: "cosine" is the paper's 1 - cos, which leaves a vector's length open; "squared" is the squared error
            over the square of the current features' mean deviation, so that its size is comparable.
        similarity_weight: alpha, the weight of the similarity loss.
        classification_weight: the weight of the cross-entropy through the fixed classifier.
        steps: of Adam, with a cosine schedule.
        batch_size: pairs a step.
        learning_rate: the first of the schedule.
        weight_decay: decoupled.
        noise: Gaussian noise added to both sides of a pair, as a share of each feature's deviation: the map stays tame
            between and around the pairs.
        seed: of the initial weights and of the order of pairs.
    """

    def __init__(
        self,
        width: Annotated[float, Field(gt=0)] = 16,
        start: Literal["none", "identity", "linear"] = "linear",
        ridge: Annotated[float, Field(ge=0)] = 0.01,
        similarity: Literal["cosine", "squared"] = "squared",
        similarity_weight: Annotated[float, Field(ge=0)] = 1.0,
        classification_weight: Annotated[float, Field(ge=0)] = 0.0,
        steps: Annotated[int, Field(gt=0)] = 500,
        batch_size: Annotated[int, Field(gt=0)] = 128,
        learning_rate: Annotated[float, Field(gt=0)] = 1e-3,
        weight_decay: Annotated[float, Field(ge=0)] = 1e-2,
        noise: Annotated[float, Field(ge=0)] = 0.0,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.width = width
        self.start = start
        self.ridge = ridge
        self.similarity = similarity
        self.similarity_weight = similarity_weight
        self.classification_weight = classification_weight
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.noise = noise
        self.seed = seed

    def fit(self, previous: np.ndarray, current: np.ndarray, labels: np.ndarray | None = None, head: Head | None = None) -> Self:
        """Train on pairs [n, d] and [n, e], e = d for the start "identity"; cross-entropy takes part where both `labels` [n] and `head` are given.

        Inputs and outputs are standardised by the pairs' statistics within the perceptron, so that one learning rate
        serves every network.
        """
        import torch

        from carryover.machine import device_of

        before, after = check_pairs(previous, current, same_width=self.start == "identity")
        if labels is not None and np.shape(labels) != (len(before),):
            raise ValueError(f"{len(before)} pairs need as many labels; got {np.shape(labels)}.")
        d, e = before.shape[1], after.shape[1]
        self._linear_part(before, after)
        self.centre_ = before.mean(axis=0)
        self.spread_ = np.float32(max(float(before.std(axis=0).mean()), 1e-6))
        self.target_spread_ = np.float32(max(float(after.std(axis=0).mean()), 1e-6))
        random = torch.Generator().manual_seed(self.seed)
        hidden = max(round(self.width * d), 1)
        weights = [self._layer(a, b, random) for a, b in ((d, hidden), (hidden, hidden), (hidden, e))]
        if self.start != "none":
            weights[2] = (torch.zeros(e, hidden), torch.zeros(e))
        device = device_of(self.device)
        self._place(device)
        self.weights_ = [tensor.to(device).requires_grad_() for layer in weights for tensor in layer]
        if self.start == "none":
            with torch.no_grad():
                self.weights_[5].copy_(torch.from_numpy(after.mean(axis=0) / self.target_spread_))
        self._optimise(before, after, labels, head, random, device)
        self.weights_ = [tensor.detach() for tensor in self.weights_]
        return self

    def _linear_part(self, before: np.ndarray, after: np.ndarray) -> None:
        d, e = before.shape[1], after.shape[1]
        self.matrix_ = np.zeros((d, e), dtype=np.float32) if self.start == "none" else np.eye(d, e, dtype=np.float32)
        self.offset_ = np.zeros(e, dtype=np.float32)
        if self.start == "linear":
            linear = LinearAdapter(self.ridge).fit(before, after)
            self.matrix_, self.offset_ = linear.matrix_, linear.offset_

    @staticmethod
    def _layer(inputs: int, outputs: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        return torch.randn(outputs, inputs, generator=random) * (2 / inputs) ** 0.5, torch.zeros(outputs)

    def _optimise(
        self,
        before: np.ndarray,
        after: np.ndarray,
        labels: np.ndarray | None,
        head: Head | None,
        random: torch.Generator,
        device: torch.device,
    ) -> None:
        import torch

        from carryover.optimisers import AdamW

        x, y = torch.from_numpy(before).to(device), torch.from_numpy(after).to(device)
        deviation_x, deviation_y = x.std(dim=0, unbiased=False), y.std(dim=0, unbiased=False)
        targets = None if labels is None else torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(device)
        optimiser = AdamW(self.weights_, self.weight_decay)
        size = min(self.batch_size, len(x))
        order = torch.empty(0, dtype=torch.int64)
        for step in range(self.steps):
            if len(order) < size:
                order = torch.randperm(len(x), generator=random)
            rows, order = order[:size].to(device), order[size:]
            inputs, outputs = x[rows], y[rows]
            if self.noise:
                inputs = inputs + self.noise * deviation_x * torch.randn(inputs.shape, generator=random).to(device)
                outputs = outputs + self.noise * deviation_y * torch.randn(outputs.shape, generator=random).to(device)
            carried = self._forward(inputs)
            loss = self.similarity_weight * self._similarity_loss(carried, outputs)
            if targets is not None and head is not None and self.classification_weight:
                loss = loss + self.classification_weight * _cross_entropy(carried, targets[rows], head)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step(self.learning_rate * (1 + math.cos(math.pi * step / self.steps)) / 2)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional as F

        w1, b1, w2, b2, w3, b3 = self.weights_
        centre, matrix, offset = self._fixed
        standard = (x - centre) / float(self.spread_)
        hidden = F.linear(F.linear(standard, w1, b1).relu_(), w2, b2).relu_()
        nonlinear: torch.Tensor = float(self.target_spread_) * F.linear(hidden, w3, b3)
        if self.start == "none":
            return nonlinear
        linear: torch.Tensor = x @ matrix + offset
        return linear + nonlinear

    def _place(self, device: torch.device) -> None:
        """Put on the device what every step needs and none changes."""
        import torch

        self._fixed = [torch.from_numpy(array).to(device) for array in (self.centre_, self.matrix_, self.offset_)]

    def _similarity_loss(self, carried: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional as F

        if self.similarity == "cosine":
            return (1 - F.cosine_similarity(carried, target, dim=1)).mean()
        return ((carried - target) ** 2).mean() / float(self.target_spread_) ** 2

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Carry features [m, d], a chunk at a time."""
        import torch

        stored = check_features(features, len(self.matrix_))
        carried = np.empty((len(stored), len(self.offset_)), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(stored), CHUNK):
                chunk = torch.from_numpy(stored[start : start + CHUNK]).to(self.weights_[0].device)
                carried[start : start + CHUNK] = self._forward(chunk).cpu().numpy()
        return carried

    def state(self) -> dict[str, np.ndarray]:
        """Return the weights, the linear part and the standardisation."""
        arrays = {f"weights/{i}": tensor.cpu().numpy() for i, tensor in enumerate(self.weights_)}
        scales = np.array([self.spread_, self.target_spread_], dtype=np.float32)
        return arrays | {"matrix": self.matrix_, "offset": self.offset_, "centre": self.centre_, "scales": scales}

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take back what `state` returned."""
        import torch

        from carryover.machine import device_of

        device = device_of(self.device)
        self.weights_ = [torch.from_numpy(arrays[f"weights/{i}"]).to(device) for i in range(6)]
        self.matrix_, self.offset_, self.centre_ = arrays["matrix"], arrays["offset"], arrays["centre"]
        self.spread_, self.target_spread_ = arrays["scales"]
        self._place(device)
        return self


def _cross_entropy(carried: torch.Tensor, labels: torch.Tensor, head: Head) -> torch.Tensor:
    """Return the mean over the batch of -log softmax(head(carried))_label, where rows without a class (label -1) count zero."""
    import torch
    from torch.nn import functional as F

    weight, bias = torch.from_numpy(head.weight).to(carried.device), torch.from_numpy(head.bias).to(carried.device)
    if head.scale is not None:
        logits = head.scale * F.linear(F.normalize(carried, dim=1), F.normalize(weight, dim=1))
    else:
        logits = F.linear(carried, weight, bias)
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / len(labels)
