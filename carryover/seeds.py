"""Random seeds: every use of chance has a seed of its own, made from the run's seed and what the chance is used for."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: object) -> int:
    """Return a 63-bit seed for the use of chance called `names`, a function of its arguments alone.

    Two stages never share a stream of random numbers, and neither their order nor their number changes any stream.
    """
    text = "\x1f".join(str(name) for name in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return a numpy generator seeded by `derive(seed, *names)`."""
    return np.random.default_rng(derive(seed, *names))
