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

# Images over all epochs: a quarter of an hour of a ResNet-32 on two cores, of which compiling takes a minute and saves three.
WORTH_COMPILING = 500_000


class Machine:
    """Where and in which precision networks run; making one sets torch's number of threads.

    Args:
        device: "auto" is the GPU where there is one.
        precision: "auto" is bfloat16 where the processor or GPU computes in it, else float32.
        threads: processor threads, 1024 at most; results may differ in their last bits between thread counts, so it is a parameter.
        compile: whether training runs through torch's compiler, which fuses what stands between the convolutions and takes a
            minute at the start; on a processor it needs a C++ compiler. "auto" compiles on a GPU, and on a processor with a
            compiler where a training sees `WORTH_COMPILING` images.

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
        self.compile = compile
        torch.set_num_threads(threads)

    def compiles(self, images: int) -> bool:
        """Return whether a training that sees `images` images over all its epochs is compiled."""
        if self.compile != "auto":
            return self.compile == "always"
        return self.device.type == "cuda" or (images >= WORTH_COMPILING and has_compiler())

    def autocast(self) -> torch.autocast:
        """Return the context in which a network's forward pass runs."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_compiler() -> bool:
    """Return whether torch's compiler finds what it builds programs for a processor with: a C++ compiler and Python's headers."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return shutil.which(compiler) is not None and Path(sysconfig.get_path("include"), "Python.h").exists()
