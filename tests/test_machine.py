"""The machine, and the sentences of errors."""

from __future__ import annotations

import pytest
import torch

from carryover import registry
from carryover.errors import ConfigurationError, unknown
from carryover.machine import Machine


@pytest.fixture(autouse=True)
def restored_threads() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_decides_the_type_of_inputs_and_of_matrix_products(precision: str, dtype: torch.dtype) -> None:
    machine = Machine("cpu", precision, 1)  # type: ignore[arg-type]
    assert machine.device.type == "cpu" and machine.dtype == dtype
    with machine.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_automatic_precision_is_one_of_the_two() -> None:
    assert Machine("auto", "auto", 1).dtype in (torch.float32, torch.bfloat16)


def test_the_number_of_threads_is_set() -> None:
    for threads in (2, 1):
        Machine("cpu", "float32", threads)
        assert torch.get_num_threads() == threads


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match=r"machine\.device is 'cuda'"):
        Machine("cuda")
    assert Machine("auto", threads=1).device.type == "cpu"


def test_an_unknown_name_is_answered_with_the_nearest_and_all() -> None:
    assert unknown("adapter", "mpl", ["sdc", "mlp"]) == "Unknown adapter 'mpl'; did you mean 'mlp'? Accepted: mlp, sdc."
    assert unknown("adapter", "zzz", ["sdc"]) == "Unknown adapter 'zzz'. Accepted: sdc."
    assert unknown("adapter", "zzz", []) == "Unknown adapter 'zzz'. Accepted: none."


@pytest.mark.parametrize("threads", [0, 1025, 2**63])
def test_a_number_of_threads_that_no_machine_has_is_refused(threads: int) -> None:
    with pytest.raises(ConfigurationError, match="threads"):
        registry.checked(Machine, {"threads": threads}, "machine")
