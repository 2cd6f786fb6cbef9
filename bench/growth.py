"""What growing costs, one class after another: `python -m bench.growth`, a quarter of a minute a growth on two idle cores."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from bench.pipeline import composed, copied, run

SETTINGS = ("protocol.sizes=[4]", "regimes=[distill]", "adapters=[mlp]", "joint=never", "memory=per_class", "memory.per_class=20")
IMAGES = 60


def main() -> None:
    """Grow a copy of the project, whose protocol is four digits, by one class at a time, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--growths", type=int, default=20, help="how many (default: 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carryover-bench-") as name:
        copy = copied(Path(name))
        composed(copy, SETTINGS)
        run(copy, "dvc", "repro", "--quiet", "bundle")
        print("| growth | classes | stages | seconds | processor seconds | memory bytes |\n|--:|--:|--:|--:|--:|--:|")
        for number, pair in enumerate(itertools.islice(itertools.combinations(range(10), 2), options.growths), 1):
            _draw(copy / "new", pair)
            begin, before = time.perf_counter(), os.times()
            run(copy, sys.executable, "-m", "carryover_cli", "grow", "new")
            seconds, after = time.perf_counter() - begin, os.times()
            processor = after.children_user - before.children_user + after.children_system - before.children_system
            memory = copy / f"data/memories/distill/grown{number}/mlp.safetensors"
            stages = (copy / f"grown/grown{number}/dvc.lock").read_text(encoding="utf-8").count("cmd:")
            print(f"| {number} | {4 + number} | {stages} | {seconds:.1f} | {processor:.1f} | {memory.stat().st_size:,} |", flush=True)


def _draw(folder: Path, pair: tuple[int, int]) -> None:
    """Make the folder hold one class: two digits beside and below each other, [a b; b a]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    a, b = (np.rint(bunch.images[bunch.target == digit][:IMAGES] * (255 / 16)).astype(np.uint8) for digit in pair)
    for old in folder.glob("*/*"):
        old.unlink()
    for old in folder.glob("*"):
        old.rmdir()
    target = folder / f"{pair[0]}{pair[1]}"
    target.mkdir(parents=True)
    for i in range(IMAGES):
        Image.fromarray(np.block([[a[i], b[i]], [b[i], a[i]]])).save(target / f"{i:02d}.png")


if __name__ == "__main__":
    main()
