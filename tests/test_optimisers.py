"""The optimisers do what the classes of torch.optim do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from carryover.optimisers import SGD, AdamW

torch.set_num_threads(1)


def tensors() -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random).requires_grad_() for shape in ((3, 4), (5,), ())]


def losses(parameters: list[Tensor]) -> Iterator[Tensor]:
    random = torch.Generator().manual_seed(1)
    while True:
        yield torch.stack([((p - torch.randn(p.shape, generator=random)) ** 2).sum() + p.sin().sum() for p in parameters]).sum()


def compare(ours: SGD | AdamW, own: list[Tensor], reference: torch.optim.Optimizer, theirs: list[Tensor]) -> None:
    start = [p.detach().clone() for p in own]
    for loss, expected, rate in zip(losses(own), losses(theirs), (0.1, 0.05, 0.2, 0.01, 0.03, 0.1), strict=False):
        loss.backward()  # type: ignore[no-untyped-call]
        ours.step(rate)
        assert all(p.grad is None for p in own)
        reference.zero_grad()
        expected.backward()  # type: ignore[no-untyped-call]
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        for a, b in zip(own, theirs, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in zip(own, start, strict=True))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_sgd_equals_torch_s(momentum: float, weight_decay: float) -> None:
    own, theirs = tensors(), tensors()
    reference = torch.optim.SGD(theirs, lr=0.1, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0)
    compare(SGD(own, momentum, weight_decay), own, reference, theirs)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_equals_torch_s(weight_decay: float) -> None:
    own, theirs = tensors(), tensors()
    compare(AdamW(own, weight_decay), own, torch.optim.AdamW(theirs, lr=0.1, weight_decay=weight_decay), theirs)


def test_momentum_buffers_are_the_whole_state() -> None:
    """A copy of parameters and buffers goes on exactly as the original: what a checkpoint relies on."""
    own, copied = tensors(), tensors()
    first, second = SGD(own, 0.9, 0.01), SGD(copied, 0.9, 0.01)
    for loss, _ in zip(losses(own), range(3), strict=False):
        loss.backward()  # type: ignore[no-untyped-call]
        first.step(0.1)
    with torch.no_grad():
        for source, target in zip([*own, *first.buffers], [*copied, *second.buffers], strict=True):
            target.copy_(source)
    for parameters, optimiser in ((own, first), (copied, second)):
        next(losses(parameters)).backward()  # type: ignore[no-untyped-call]
        optimiser.step(0.1)
    assert all(torch.equal(a, b) for a, b in zip(own, copied, strict=True))


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.9, 0.0), lambda p: AdamW(p, 0.0)])
def test_a_parameter_outside_the_loss_is_an_error_not_a_silence(make: Callable[[list[Tensor]], SGD | AdamW]) -> None:
    with pytest.raises(AssertionError, match="every parameter"):
        make(tensors()).step(0.1)
