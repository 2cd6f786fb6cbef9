"""The machine: on which device, in which precision and with how many threads networks run."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from carryover.errors import ConfigurationError


class Machine:
    """Where and in which precision networks run; making one sets torch's number of threads.

    Args:
        device: "auto" is the GPU where there is one.
        precision: "auto" is bfloat16 where the processor or GPU computes in it, else float32.
        threads: processor threads, 1024 at most; results may differ in their last bits between thread counts, so it is a parameter.
        compile: whether training runs through torch's compiler, which fuses what stands between the convolutions and takes up
            to a minute at the start; "auto" compiles on a GPU alone. On a processor it needs a C++ compiler.

    Raises:
        ConfigurationError: if a GPU is asked for and there is none.
    """

    def __init__(
        self,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        threads: Annotated[int, Field(gt=0, le=1024)] = 2,
        compile: Literal["auto", "always", "never"] = "auto",
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigurationError("Parameter machine.device is 'cuda' but torch finds no GPU: use 'auto' or 'cpu'.")
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        bfloat16 = precision == "bfloat16" or (precision == "auto" and _computes_bfloat16(self.device))
        self.dtype = torch.bfloat16 if bfloat16 else torch.float32
        self.compiles = compile == "always" or (compile == "auto" and self.device.type == "cuda")
        torch.set_num_threads(threads)

    def autocast(self) -> torch.autocast:
        """Return the context in which a network's forward pass runs."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
