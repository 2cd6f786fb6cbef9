"""The machine: on which device, in which precision and with how many threads networks run."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from carryover.errors import ConfigurationError

# Images over all epochs: a quarter of an hour of a ResNet-32 on two cores, of which compiling takes a minute and saves two.
WORTH_COMPILING = 500_000


class Machine:
    """Where and in which precision networks run; making one sets torch's number of threads.

    Args:
        device: "auto" is the GPU where there is one.
        precision: "auto" is bfloat16 where the processor or GPU computes in it, else float32.
        threads: processor threads, 1024 at most; results may differ in their last bits between thread counts, so it is a parameter.
        compile: whether training runs through torch's compiler, which fuses what stands between the convolutions, takes a
            minute at the start and needs a C++ compiler. "auto" compiles where there is one and a training sees
            `WORTH_COMPILING` images.

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
        self.device = device_of(device)
        bfloat16 = precision == "bfloat16" or (precision == "auto" and _computes_bfloat16(self.device))
        self.dtype = torch.bfloat16 if bfloat16 else torch.float32
        if self.device.type == "cuda":
            # Else convolutions in float32 would keep ten bits of the mantissa.
            torch.backends.cudnn.allow_tf32 = bfloat16
        self.compile = compile
        torch.set_num_threads(threads)

    def compiles(self, images: int) -> bool:
        """Return whether a training that sees `images` images over all its epochs is compiled."""
        if self.compile != "auto":
            return self.compile == "always"
        return images >= WORTH_COMPILING and has_compiler()

    def autocast(self) -> torch.autocast:
        """Return the context in which a network's forward pass runs."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


def device_of(name: str) -> torch.device:
    """Return the device that machine.device names: "auto" is the GPU where there is one.

    Raises:
        ConfigurationError: if it names something else, or a GPU and there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"Parameter machine.device is {name!r}; accepted: auto, cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("Parameter machine.device is 'cuda' but torch finds no GPU: use 'auto' or 'cpu'.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_compiler() -> bool:
    """Return whether torch's compiler finds what it builds programs with: a C++ compiler and Python's headers."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return shutil.which(compiler) is not None and Path(sysconfig.get_path("include"), "Python.h").exists()
