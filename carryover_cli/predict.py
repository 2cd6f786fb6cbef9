"""Name the classes of images with a bundle

BUNDLE is the file data/bundle.safetensors that the pipeline leaves, here or fetched from elsewhere. Images may have any size and format that
the pipeline reads: the centre square is resized. Folders are searched through. Files that are no images are named on standard error and passed
over; the exit code is then 1.

examples:
  carryover predict data/bundle.safetensors cat.jpg dog.png
  carryover predict data/bundle.safetensors photos --top 1 --csv > answers.csv
  carryover predict data/bundle.safetensors photos --json | jq '.[] | select(.classes[0].probability < 0.5) | .image'
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import shtab
from tqdm import tqdm

from carryover.errors import ConfigurationError, DataError

Answer = tuple[str, list[tuple[str, float]]]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle").complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", help="image files, and folders of them").complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument("--top", type=int, default=3, metavar="N", help="classes to print of each image, likeliest first (default: 3)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print a JSON array, an image a line")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="print the columns image,rank,class,probability")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute (default: the GPU where there is one)")


def run(options: argparse.Namespace) -> None:
    """Print the likeliest classes of each image.

    Raises:
        DataError: after everything is printed, if some files were no images.
    """
    if options.top < 1:
        raise ConfigurationError(f"--top is {options.top}; it takes 1 or more.")
    # Imported here, for networks come with it.
    from carryover.bundle import BadImageError, find_images, load
    from carryover.images import processors
    from carryover.machine import Machine

    bundle = load(options.bundle, Machine(options.device, "float32", processors()))
    paths = find_images(options.images)
    bad = 0

    def answers() -> Iterator[Answer]:
        nonlocal bad
        for path, row in tqdm(bundle.stream(paths), total=len(paths), desc="predict", unit="img", unit_scale=True, disable=None):
            if isinstance(row, BadImageError):
                bad += 1
                tqdm.write(f"warning: {_shown(str(path))} {row}; it is passed over.", file=sys.stderr)
            else:
                best = row.argsort()[::-1][: options.top]
                yield str(path), [(bundle.classes[label], float(row[label])) for label in best]

    _FORMS[options.form](answers(), paths, bundle.classes)
    if bad:
        raise DataError(f"{bad} of {len(paths)} files are no images that can be read; the others are answered above.")


def _table(answers: Iterator[Answer], paths: list[str], classes: list[str]) -> None:
    widths = [max((len(_shown(text)) for text in texts), default=0) for texts in (paths, classes)]
    for path, best in answers:
        cells = [f"{_shown(name).ljust(widths[1])} {share:6.1%}" for name, share in best]
        print("  ".join([_shown(path).ljust(widths[0]), *cells]))


def _json(answers: Iterator[Answer], paths: list[str], classes: list[str]) -> None:
    print("[", end="")
    for i, (path, best) in enumerate(answers):
        item: dict[str, Any] = {"image": path, "classes": [{"class": name, "probability": round(share, 6)} for name, share in best]}
        print(",\n " if i else "", json.dumps(item, ensure_ascii=False), sep="", end="")
    print("]")


def _csv(answers: Iterator[Answer], paths: list[str], classes: list[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "rank", "class", "probability"])
    for path, best in answers:
        writer.writerows((path, rank, name, f"{share:.6f}") for rank, (name, share) in enumerate(best, 1))


_FORMS: dict[str | None, Callable[[Iterator[Answer], list[str], list[str]], None]] = {None: _table, "json": _json, "csv": _csv}


def _shown(text: str) -> str:
    """Return a text as it may be printed: names from a stranger's file could steer the terminal."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
