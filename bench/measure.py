"""Measuring on a shared machine: contenders take turns in one run, and rates are compared as ratios."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, how much, against what, and how many times better (or nearer) that is.

    `ratio` is the measured speed over the comparator's: above 1 is faster. For a comparison with a floor it is at most
    about 1, the share of what the machine does at best.
    """

    name: str
    measured: str
    comparator: str
    ratio: float
    note: str = ""


@dataclass(frozen=True)
class Rates:
    """What the machine does at best: large matrix products in flop/s by precision, and a large copy in bytes/s."""

    float32: float
    float64: float
    copy: float


def seconds(action: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def fastest(action: Callable[[], object], repeats: int) -> float:
    """Return the least time of `repeats` calls, the one that other processes disturbed least."""
    return min(seconds(action) for _ in range(repeats))


def in_turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each contender in each of `rounds` rounds; in every round each has one turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, action in contenders.items():
            times[name].append(seconds(action))
    return times


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return how many times faster `fast` is than `slow`: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def rates(size: int = 1024, megabytes: int = 256, repeats: int = 7) -> Rates:
    """Measure the machine: products of two square matrices of `size`, and a copy of `megabytes`."""
    random = np.random.default_rng(0)
    flops = {}
    for name in ("float32", "float64"):
        a, b = (random.standard_normal((size, size)).astype(name) for _ in range(2))
        by_torch = fastest(lambda a=a, b=b: torch.from_numpy(a) @ torch.from_numpy(b), repeats)  # type: ignore[misc]
        by_numpy = fastest(lambda a=a, b=b: a @ b, repeats)  # type: ignore[misc]
        flops[name] = 2 * size**3 / min(by_torch, by_numpy)
    source = np.ones(megabytes * 2**20 // 8)
    target = np.empty_like(source)
    copied = 2 * source.nbytes / fastest(lambda: np.copyto(target, source), repeats)
    return Rates(flops["float32"], flops["float64"], copied)


def describe(found: Rates) -> str:
    """Return the machine in a few lines."""
    load = ", ".join(f"{x:.2f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    bfloat16 = "yes" if torch.cpu._is_avx512_bf16_supported() else "no"
    allocator = {name.lower(): os.environ[name] for name in sorted(os.environ) if name.startswith("MALLOC_")}
    return "\n".join(
        [
            f"{date.today()}, {_processor()}, {os.cpu_count()} cores, load {load}, bfloat16 instructions: {bfloat16}",
            f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads, numpy {np.__version__}, "
            f"allocator settings: {allocator or 'none'}",
            f"matrix product {found.float32 / 1e9:.0f} Gflop/s in float32 and {found.float64 / 1e9:.0f} in float64, "
            f"copy {found.copy / 1e9:.1f} GB/s (read and written)",
        ]
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown processor")


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table, its columns aligned."""
    cells = [["what", "measured", "comparator", "ratio", "note"]]
    cells += [[row.name, row.measured, row.comparator, f"{row.ratio:.2f}", row.note] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
