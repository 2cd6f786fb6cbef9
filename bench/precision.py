"""Whether bfloat16 costs accuracy: the same training in float32 and in bfloat16, several seeds, on images held out.

python -m bench.precision --images FOLDER      # a folder with a folder a class, as of Tiny-ImageNet
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bench import pictures
from carryover import backbones
from carryover.images import PackedImages
from carryover.inference import extract
from carryover.machine import Machine
from carryover.regimes.finetune import Finetune
from carryover.training import Training, train

PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")


def accuracies(
    images: PackedImages, epochs: int, seeds: int, threads: int = 2, architecture: str = "resnet32", batch: int = 128
) -> dict[str, list[float]]:
    """Return the accuracy in percent on a fifth of the images, held out, of each precision and seed."""
    order = np.random.default_rng(0).permutation(len(images))
    held = len(images) // 5
    learnt, tested = images.subset(order[held:]), images.subset(order[:held])
    settings = Training(epochs, epochs, learning_rate=0.1, increment_learning_rate=0.1, batch_size=batch)
    found: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for seed in range(seeds):
        for precision in PRECISIONS:
            where = Machine("auto", precision, threads)
            network = backbones.initialise(architecture, "linear", 3, seed)
            network.head.grow(int(images.labels.max()) + 1, torch.Generator().manual_seed(seed))
            train(network, None, learnt, Finetune(), settings, where, seed, title=f"{precision} seed {seed}")
            features = torch.from_numpy(extract(network, tested, where))
            with torch.inference_mode():
                predicted = network.head(features.to(where.device)).argmax(dim=1).cpu().numpy()
            found[precision].append(100 * float((predicted == tested.labels).mean()))
            print(f"seed {seed}, {precision}: {found[precision][-1]:.2f} %", flush=True)
    return found


def summary(found: dict[str, list[float]]) -> str:
    """Return the mean and deviation of each precision, and of the paired differences."""
    differences = [b - a for a, b in zip(*(found[name] for name in PRECISIONS), strict=True)]
    rows = found | {"bfloat16 - float32": differences}
    return "\n".join(
        f"{name}: {statistics.mean(values):.2f} +- {statistics.stdev(values) if len(values) > 1 else 0.0:.2f} ({len(values)} seeds)"
        for name, values in rows.items()
    )


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.precision", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder with a folder a class")
    parser.add_argument("--classes", type=int, default=20, help="how many of its classes")
    parser.add_argument("--count", type=int, default=5000, help="how many images at most")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    images = pictures.from_folder(options.images, options.count, options.classes)
    print(summary(accuracies(images, options.epochs, options.seeds)))


if __name__ == "__main__":
    main()
