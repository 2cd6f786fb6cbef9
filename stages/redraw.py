"""redraw: draw the pictures in the folders of docs/results/ again, and the rows of their tables of methods, from the numbers beside them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from carryover import runs
from carryover.errors import ArtefactError
from stages import clones, picture
from stages.command import guard

CLASSIFIERS = ("softmax", "cosine", "nme")


def main() -> None:
    """Draw the pictures of the named folders, or of all."""
    parser = argparse.ArgumentParser(prog="python -m stages.redraw", description=__doc__)
    parser.add_argument("names", nargs="*", help="folders below docs/results/ (default: all)")
    parser.add_argument("--classifiers", nargs="+", metavar="NAME", help="show these in table.md (default: leave table.md as it is)")
    options = parser.parse_args()
    for folder in [clones.RESULTS / name for name in options.names] or sorted(path.parent for path in clones.RESULTS.glob("*/table.csv")):
        draw(folder)
        if options.classifiers:
            show(folder, options.classifiers)
        print(folder)


def show(folder: Path, classifiers: Sequence[str]) -> None:
    """Write the table of methods in a comparison's table.md again, with the rows of other classifiers."""
    heading, _, rest = parts(folder / "table.md")
    rows = runs.markdown(read(folder / "table.csv"), classifiers).rstrip("\n")
    clones.write(f"{folder.name}/table.md", "\n\n".join([*heading, rows, *rest]))


def parts(path: Path) -> tuple[list[str], str, list[str]]:
    """Return the paragraphs before the first table of a Markdown file, the table ("" where there is none), and the paragraphs behind it."""
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    first = next((i for i, block in enumerate(blocks) if block.startswith("|")), len(blocks))
    return blocks[:first], "".join(blocks[first : first + 1]), blocks[first + 1 :]


def read(path: Path) -> pd.DataFrame:
    """Return a comparison's table; what was run as it stands has the setting ""."""
    table = pd.read_csv(path, dtype={"setting": str})
    # Tables of older versions lack the column.
    return table.assign(setting=table["setting"].fillna("") if "setting" in table else "")


def draw(folder: Path) -> None:
    """Draw the pictures of a comparison: curves, accuracy against bytes, storages and drift, where the folder has their tables.

    Raises:
        ArtefactError: if it has no table.
    """
    if not (folder / "table.csv").exists():
        raise ArtefactError(f"{folder} has no table.csv: `python -m stages.compare {folder.name}` makes it.")
    table = read(folder / "table.csv")
    picture.memory(table).draw(folder / "memory.png")
    if (storages := runs.storages(table)).size:
        picture.storage(storages).draw(folder / "storage.png")
    if (folder / "drift.csv").exists():
        picture.drift(runs.mean_drift(pd.read_csv(folder / "drift.csv"))).draw(folder / "drift.png")
    least, most = table["runs"].min(), table["runs"].max()
    count = f"{least} to {most}" if least < most else str(most)
    title = "Accuracy over all classes seen" + (f", mean of {count} runs" if most > 1 else "")
    picture.curves(runs.mean_curves(pd.read_csv(folder / "curves.csv")).to_dict("records"), title).draw(folder / "curves.png")


if __name__ == "__main__":
    guard(main)
