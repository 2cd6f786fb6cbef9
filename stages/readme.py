"""readme: put the tables of the committed results into README.md, between its marks."""

from __future__ import annotations

from collections.abc import Sequence
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
        "networks": _networks(["classes100_b50", "classes100_b0"], ["head", "softmax", "cosine", "nme"]),
        "within": _within(clones.RESULTS / "classes100_relatives" / "table.csv"),
    }


def _first(path: Path) -> str:
    """Return the first table of a file: a comparison's has others behind it."""
    return next((block for block in path.read_text(encoding="utf-8").split("\n\n") if block.startswith("|")), "")


def _networks(names: Sequence[str], classifiers: Sequence[str]) -> str:
    """Return the average incremental accuracy of each regime and adapter in several comparisons, under several classifiers, with everything kept."""
    columns: dict[str, dict[tuple[str, str], str]] = {}
    for name in names:
        table = redraw.read(clones.RESULTS / name / "table.csv")
        for row in table[(table["budget"] == 0) & (table["setting"] == "") & (table["regime"] != "joint")].to_dict("records"):
            if row["classifier"] in classifiers:
                column = columns.setdefault(f"{name.partition('_')[2]} {row['classifier']}", {})
                column[row["regime"], row["adapter"]] = runs.spread(row, "average")
    shown = [f"{name.partition('_')[2]} {classifier}" for name in names for classifier in classifiers]
    cells = list(dict.fromkeys(cell for title in shown for cell in columns[title]))
    regimes = [regime for regime, _ in cells]
    lines = [f"| network | adapter | {' | '.join(shown)} |", "|:--|:--|" + "--:|" * len(shown)]
    for regime, adapter in sorted(cells, key=lambda cell: regimes.index(cell[0])):
        lines.append(f"| {regime} | {adapter} | {' | '.join(columns[title].get((regime, adapter), '') for title in shown)} |")
    return "\n".join(lines)


def _within(path: Path) -> str:
    """Return the methods that have a name of their own, and each regime's best on validation images, within `LIMIT` bytes."""
    rows = runs.within(redraw.read(path), LIMIT)
    cells = rows[runs.METHOD].replace("-", None).apply(lambda row: " x ".join(row.dropna()), axis=1)
    best = rows.groupby("regime")["validation_average_mean"].idxmax()
    return runs.within_markdown(rows[(rows["method"] != cells) | rows.index.isin(best)], LIMIT)


if __name__ == "__main__":
    run(main)
