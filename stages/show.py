"""show: print the table of the last run and name the files with its results; the last line says where the report is."""

from __future__ import annotations

from carryover.errors import ArtefactError
from stages import layout, page
from stages.command import run


def main() -> None:
    """Print `metrics/table.md` with its columns aligned."""
    path = layout.METRICS / "table.md"
    if not path.exists():
        raise ArtefactError(f"There is no {path} yet: run `dvc repro` first.")
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in path.read_text(encoding="utf-8").splitlines()]
    header, body = rows[0], rows[2:]
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    for row in [header, *body]:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip())
    if page.stale():
        page.write()
    files = {"every classifier and budget": "results.csv", "all curves": "curves.csv", "summary": "summary.json"}
    print("\nAs files: " + "; ".join(f"{what} in {layout.METRICS / name}" for what, name in files.items()) + ".")
    print(f"The report, with all charts: {page.PAGE}; open it in a browser.")


if __name__ == "__main__":
    run(main)
