"""Measure the hot paths and print a table: `python -m bench`, about three minutes on two idle cores, and `pipeline`, which runs ten tasks first."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import date
from pathlib import Path

PARTS = ("training", "herding", "adapters", "pipeline")


def main() -> None:
    """Parse the command line, measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--images", type=Path, help="a folder with a folder a class to train on; by default crops of two photographs")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each training loop")
    parser.add_argument("--steps", type=int, default=4, help="batches a turn")
    parser.add_argument("--threads", type=int, default=2, help="1 measures truly where others use the cores: two threads wait for each other")
    parser.add_argument("--copy", type=Path, help="the folder of a `pipeline` that was stopped, to go on with; it stays")
    parser.add_argument("--write", action="store_true", help="write the table to bench/results.md, or to bench/PART.md where one part is named")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"{part!r} is no part; parts are {', '.join(PARTS)}")
    if options.copy and not (options.copy / "dvc.yaml").is_file():
        parser.error(f"--copy {options.copy}: there is no dvc.yaml, so it is not a copy of the project; leave --copy out to begin one")
    # Set before numpy and torch load. Waiting threads sleep: a shared machine needs their cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(options.threads))

    import torch

    from bench import features, learning, measure, pictures
    from bench import pipeline as overhead

    torch.set_num_threads(options.threads)
    found = measure.rates()
    heading = measure.describe(found)
    print(heading, flush=True)
    parts = options.parts or PARTS
    rows: list[measure.Row] = []
    if "training" in parts:
        count = options.steps * 128
        images = pictures.from_folder(options.images, count) if options.images else pictures.crops(count)
        rows += learning.rows(images, options.rounds, threads=options.threads)
    if "herding" in parts:
        rows.append(features.herding_row(found))
    if "adapters" in parts:
        rows += features.adapter_rows(found)
    if "pipeline" in parts:
        rows.append(overhead.row(begun=options.copy))
    table = measure.table(rows)
    print(table)
    if options.write:
        command = " ".join(["python -m bench", *sys.argv[1:]])
        text = f"# Measured speed\n\n`{command}`, {date.today()}.\n\n```\n{heading}\n```\n\n{table}\n"
        name = options.parts[0] if len(options.parts) == 1 else "results"
        Path(__file__).with_name(f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
