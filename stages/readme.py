"""readme: put the tables of the committed results into README.md, between its marks."""

from __future__ import annotations

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
        table = next((block for block in path.read_text(encoding="utf-8").split("\n\n") if block.startswith("|")), "")
        text = before + mark + table.rstrip("\n") + "\n" + end + after
    with replacing(README) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
