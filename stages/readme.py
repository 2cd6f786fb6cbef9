"""readme: put the tables of the committed results into README.md, between its marks."""

from __future__ import annotations

from pathlib import Path

from carryover import runs
from carryover.artefacts import replacing
from carryover.errors import ArtefactError
from stages import clones, redraw
from stages.command import run

README = Path("README.md")
# What "Within so many bytes" shows of the relatives at 100 classes.
LIMIT = 2_000_000


def main() -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->` by the table of that name."""
    text = README.read_text(encoding="utf-8")
    for name, table in tables().items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not mark or not end:
            raise ArtefactError(f"{README} has no pair of marks <!-- {name} --> and <!-- /{name} -->.")
        text = before + mark + table.rstrip("\n") + "\n" + end + after
    with replacing(README) as path:
        path.write_text(text, encoding="utf-8")


def tables() -> dict[str, str]:
    """Return each table of README.md by the name of its marks."""
    return {
        "table": _first(Path("metrics/table.md")),
        "orders": _first(clones.RESULTS / "digits" / "table.md"),
        "within": _within(clones.RESULTS / "classes100_relatives" / "table.csv"),
    }


def _first(path: Path) -> str:
    """Return the first table of a file: a comparison's has others behind it."""
    return next((block for block in path.read_text(encoding="utf-8").split("\n\n") if block.startswith("|")), "")


def _within(path: Path) -> str:
    """Return the methods that have a name of their own, and each regime's best on validation images, within `LIMIT` bytes."""
    rows = runs.within(redraw.read(path), LIMIT)
    cells = rows[runs.METHOD].replace("-", None).apply(lambda row: " x ".join(row.dropna()), axis=1)
    best = rows.groupby("regime")["validation_average_mean"].idxmax()
    return runs.within_markdown(rows[(rows["method"] != cells) | rows.index.isin(best)], LIMIT)


if __name__ == "__main__":
    run(main)
