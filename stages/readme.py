"""readme: put the tables of the committed results into README.md, between its marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carryover import report, runs
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
        "table": redraw.parts(Path("metrics/table.md"))[1],
        "orders": redraw.parts(clones.RESULTS / "digits" / "table.md")[1],
        "networks": _networks(["classes100_b50", "classes100_b0"], ["head", "softmax", "cosine", "nme"]),
        "within": _within(clones.RESULTS / "classes100_relatives" / "table.csv"),
    }


def _networks(names: Sequence[str], classifiers: Sequence[str]) -> str:
    """Return the average incremental accuracy of each regime and adapter in several comparisons, under several classifiers, with everything kept."""
    columns = [f"{name.partition('_')[2]} {classifier}" for name in names for classifier in classifiers]
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name in names:
        table = redraw.read(clones.RESULTS / name / "table.csv")
        for row in table[(table["budget"] == 0) & (table["setting"] == "") & (table["regime"] != "joint")].to_dict("records"):
            cell = cells.setdefault((row["regime"], row["adapter"]), {})
            cell[f"{name.partition('_')[2]} {row['classifier']}"] = runs.spread(row, "average")
    lines = [f"| network | adapter | {' | '.join(columns)} |", "|:--|:--|" + "--:|" * len(columns)]
    for (regime, adapter), cell in cells.items():
        lines.append(f"| {regime} | {adapter} | {' | '.join(cell.get(column, '') for column in columns)} |")
    return "\n".join(lines)


def _within(path: Path) -> str:
    """Return the methods that have a name of their own, and each regime's best on validation images, within `LIMIT` bytes."""
    rows = runs.within(redraw.read(path), LIMIT)
    named = [cell in report.NAMES for cell in rows[runs.METHOD].itertuples(index=False, name=None)]
    best = rows.groupby("regime")["validation_average_mean"].idxmax()
    return runs.within_markdown(rows[named | rows.index.isin(best)], LIMIT)


if __name__ == "__main__":
    run(main)
