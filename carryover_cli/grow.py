"""Learn new classes from a folder, without the images of old ones

FOLDER has a folder of images for each new class (or train/ and test/ with such folders in each). They become the next task: only that is run, from
the network and the memory as they are. Earlier labels, artefacts and results stay; no earlier image is read, and the new ones may be deleted
afterwards. A fifth of each class is held out to measure; old classes cannot be measured again, for that would need their images.

Run it in the project's folder, after `dvc repro bundle` or an earlier growth.

examples:
  carryover grow new-animals
  carryover predict grown/grown1/bundle.safetensors cat.jpg
"""

from __future__ import annotations

import argparse
import json
import sys

import shtab


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder with a folder of images for each new class").complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def run(options: argparse.Namespace) -> None:
    """Grow, and say what was learned and how to go on; the exit code is 1 if the stage failed, which has said why."""
    # Imported here, for networks come with it.
    from stages import growth, layout

    task, code = growth.grow(options.folder)
    if code:
        sys.exit(1)
    scores = json.loads((layout.growth(task) / "scores.json").read_text(encoding="utf-8"))
    print(
        f"{task}: {scores['new']} new classes, {scores['classes']} in all; {scores['accuracy_of_new']:.1%} of {scores['test_images']} held-out "
        f"images of the new ones are told from all others; the memory has {scores['memory_bytes']:,} bytes."
    )
    print(f"Predict with it: carryover predict {layout.bundle(task)} IMAGE|FOLDER")
    print(f"Keep it: git add {layout.growth(task)} && git commit; the images are not needed any more.")
