"""readme: put the tables of the committed results into README.md, between its marks."""

from __future__ import annotations

import itertools
from pathlib import Path

from carryover.artefacts import replacing
from carryover.errors import ArtefactError
from stages.command import run

README = Path("README.md")
TABLES = {"table": Path("metrics/table.md"), "orders": Path("docs/results/digits/table.md")}


def main() -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->` by the rows of each file's first table."""
    text = README.read_text(encoding="utf-8")
    for name, path in TABLES.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not mark or not end:
            raise ArtefactError(f"{README} has no pair of marks <!-- {name} --> and <!-- /{name} -->.")
        # The first table: a comparison's file has others behind it.
        rows = itertools.takewhile(_is_row, itertools.dropwhile(lambda line: not _is_row(line), path.read_text(encoding="utf-8").splitlines()))
        text = before + mark + "\n".join(rows) + "\n" + end + after
    with replacing(README) as path:
        path.write_text(text, encoding="utf-8")


def _is_row(line: str) -> bool:
    return line.startswith("|")


if __name__ == "__main__":
    run(main)
