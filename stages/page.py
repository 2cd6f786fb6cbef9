"""page: write metrics/report.html, all results as one page that opens offline, from the files of metrics/."""

from __future__ import annotations

import base64
import html
import itertools
import json
import platform
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from carryover import registry, report, runs
from carryover.artefacts import replacing
from carryover.evaluation import Evaluation
from carryover.images import processors
from carryover.protocol import Protocol
from stages import layout, picture
from stages.command import PARAMETERS, parameters, run

PAGE = layout.METRICS / "report.html"
TEMPLATE = Path("stages/page.html")
# The whole memory, as a budget that sorts last.
EVERYTHING = 10**9
# What a number means, by the column that shows it.
DEFINITIONS = {
    "average": ("average incremental %", "mean over tasks of the accuracy on all classes seen so far, the first task included"),
    "last": ("last %", "accuracy on all classes after the last task; a mean over classes, free among all of them"),
    "forgetting": ("forgetting %", "mean over earlier tasks of the best accuracy a task's classes ever had, less what they have after the last task"),
    "backward_transfer": ("backward transfer %", "mean over earlier tasks of the accuracy after the last task, less that when the task was learned"),
    "gap_closed_average": (
        "gap closed %",
        "(method - none) / (oracle - none) of the average: the share of the loss to drift that the adapter recovers",
    ),
    "bytes": ("memory bytes", "what is kept between tasks on disk: vectors, labels, exemplar images or a generator; the ledger has each item"),
    "seconds": ("adapter s", "time to fit the adapters of all tasks, loading of libraries included"),
    "budget": ("kept", "vectors a class; a smaller budget is the beginning of the same memory"),
    "cosine": ("cosine", "mean cosine between predicted and actual drift of a test image's feature, 1 is perfect"),
    "relative_error": (
        "relative error",
        "|predicted - actual drift| / |actual drift| over a class's test images: 0 is perfect, 1 is what doing nothing scores",
    ),
    "age": ("age", "tasks since a class was learned; errors that compound grow with it"),
}


def main() -> None:
    """Write the page, and say where."""
    write()
    print(PAGE)


def stale() -> bool:
    """Return whether a file of metrics/ is newer than the page, or there is no page."""
    others = [path for path in layout.METRICS.glob("*") if path != PAGE]
    return not PAGE.exists() or any(path.stat().st_mtime > PAGE.stat().st_mtime for path in others)


def write() -> None:
    """Write the page. What is missing in metrics/, or was written by an older version, is named in its place."""
    charts: dict[str, Any] = {}
    sections = [
        _section("Results", "results.csv", _results),
        _section("Accuracy curves", "curves.csv", lambda: _chart(charts, "curves", picture.curves(_read("curves.csv").to_dict("records")))),
        _section("Accuracy matrices", "matrix.csv", lambda: _chart(charts, "matrix", picture.matrix(_read("matrix.csv")))),
        _section("Accuracy against memory", "results.csv", lambda: _memory(charts)),
        _section("What is kept between tasks", "ledger.csv", _ledger),
        _section("Drift: predicted against actual", "drift.csv", lambda: _drift(charts)),
        _section("Feature space", "projection.csv", lambda: _projection(charts)),
        _section("Confusion after the last task", "confusion.json", lambda: _confusion(charts)),
        _samples(),
        _section("What was run", "", _run),
    ]
    data = json.dumps(charts, separators=(",", ":"), default=float).replace("<", "\\u003c")
    rest, parts = TEMPLATE.read_text(encoding="utf-8"), []
    # What is put in may itself hold a mark.
    for mark, text in (("<!--content-->", "\n".join(sections)), ("/*vega*/", _vega()), ("/*data*/", data)):
        before, _, rest = rest.partition(mark)
        parts += [before, text]
    with replacing(PAGE) as temporary:
        temporary.write_text("".join([*parts, rest]), encoding="utf-8")


def _vega() -> str:
    """Return the scripts that draw the charts; the making of them takes seconds, and is done once a version."""
    import vl_convert

    path = layout.SCRATCH / f"vega-{version('vl-convert-python')}.js"
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"), encoding="utf-8")
    return path.read_text(encoding="utf-8")


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(layout.METRICS / name)


def _section(title: str, name: str, content: Callable[[], str]) -> str:
    """Return a section of the page, or in its place a word on the file that it cannot be made of."""
    path = layout.METRICS / name
    try:
        inner = content()
    except FileNotFoundError:
        inner = _notice(f"There is no {path} yet: dvc repro writes it.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        inner = _notice(f"{path} cannot be shown ({type(error).__name__}: {error}): it may be of an older version; dvc repro writes it anew.")
    return f'<section id="{title.split(":")[0].lower().replace(" ", "-")}"><h2>{html.escape(title)}</h2>{inner}</section>'


def _notice(text: str) -> str:
    return f'<p class="notice">{html.escape(text)}</p>'


def _chart(charts: dict[str, Any], name: str, chart: picture.Chart, note: str = "") -> str:
    """Add a chart, its panels one after the other for the page to wrap; return the place where it is drawn."""
    if not chart.rows:
        return _notice("Nothing to draw: the run has too few tasks, or no such method.")
    rows = [{**row, "panel": ", ".join(str(row[field]) for field in chart.panels)} for row in chart.rows]
    spec = picture.Chart(chart.title, rows, ["panel"], chart.unit, chart.scales).spec()
    columns = chart.columns if len(chart.panels) == 1 else len({row[chart.panels[1]] for row in chart.rows})
    charts[name] = {key: spec[key] for key in ("data", "facet", "spec", "resolve")} | {"description": chart.title, "columns": columns}
    caption = " ".join(part for part in (f"{chart.subtitle}." if chart.subtitle else "", note) if part)
    return f'<figure><div class="chart" data-chart="{name}"></div><figcaption>{html.escape(caption)}</figcaption></figure>'


def _memory(charts: dict[str, Any]) -> str:
    return _chart(charts, "memory", picture.memory(runs.aggregate(_read("results.csv").assign(order=0, seed=0))), "The axis of bytes is logarithmic.")


def _drift(charts: dict[str, Any]) -> str:
    chart = _chart(charts, "drift", picture.drift(report.drift_by_age(_read("drift.csv"))), "Means over classes and tasks.")
    return chart + _definitions(["cosine", "relative_error", "age"])


def _projection(charts: dict[str, Any]) -> str:
    note = "Test features of the first classes after the last task, in the plane of the two principal components of all. "
    return _chart(charts, "projection", picture.projection(_read("projection.csv")), note + "An adapter is good where crosses lie on circles.")


def _results() -> str:
    settings = Evaluation(**registry.checked(Evaluation, parameters("evaluation"), "evaluation"))
    results = _read("results.csv")
    if (layout.METRICS / "seconds.csv").exists():
        results = results.merge(_read("seconds.csv"), how="left", on=["regime", "adapter"])
    else:
        results["seconds"] = float("nan")
    results["gap_closed_average"] *= 100
    formats = {
        "average": ".1f",
        "last": ".1f",
        "forgetting": ".1f",
        "backward_transfer": ".1f",
        "gap_closed_average": ".0f",
        "bytes": ",d",
        "seconds": ".2f",
    }
    everything = results.assign(budget=results["budget"].replace(0, EVERYTHING))
    return (
        _table(report.shown(results, settings.primary), formats)
        + _definitions(list(formats))
        + f"<details><summary>Every classifier and budget ({len(results)} rows)</summary>{_table(everything, {'budget': 'budget', **formats})}"
        + _definitions(["budget"])
        + "</details>"
    )


def _table(frame: pd.DataFrame, formats: dict[str, str]) -> str:
    """Return a table of methods that can be sorted by each column; an empty cell sorts last."""
    head = "".join(
        f'<th aria-sort="none"><button title="{html.escape(DEFINITIONS[name][1])}">{DEFINITIONS[name][0]}</button></th>' for name in formats
    )
    lines = []
    for row in frame.to_dict("records"):
        cells = [f'<th scope="row" data-value="{html.escape(row["method"].lower())}">{html.escape(row["method"])}</th>']
        for name, spec in formats.items():
            value = row[name]
            cells.append('<td data-value=""></td>' if pd.isna(value) else f'<td data-value="{value}">{_shown(value, spec)}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    first = '<th aria-sort="none"><button>method</button></th>'
    return f'<div class="wide"><table class="sortable"><thead><tr>{first}{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _shown(value: float, spec: str) -> str:
    if spec == "budget":
        return "all" if value == EVERYTHING else str(value)
    return format(int(value) if spec == ",d" else value, spec)


def _definitions(names: Sequence[str]) -> str:
    rows = "".join(f"<dt>{DEFINITIONS[name][0]}</dt><dd>{html.escape(DEFINITIONS[name][1])}</dd>" for name in names)
    return f"<details><summary>What the numbers mean</summary><dl>{rows}</dl></details>"


def _ledger() -> str:
    table = _read("ledger.csv")
    lines = []
    for (regime, adapter), rows in table.groupby(["regime", "adapter"], sort=False):
        parts = rows.groupby("part")["bytes"].sum()
        kept = rows[rows["part"].isin(["memory", "rehearsal"])]
        items = "<br>".join(
            html.escape(" ".join(str(value) for value in (r["part"], r["item"], r["shape"], r["type"]) if not pd.isna(value)) + f": {r['bytes']:,}")
            for r in kept.to_dict("records")
        )
        images = int(kept["images"].sum())
        name = f"{regime} x {'head' if adapter == '-' else adapter}"
        inner = f"<details><summary>{len(kept)} {'item' if len(kept) == 1 else 'items'}</summary>{items}</details>" if len(kept) else "nothing"
        cells = [f"{kept['bytes'].sum():,}", f"{images:,}" if images else "none ✓"] + [f"{parts.get(part, 0):,}" for part in ("network", "adapter")]
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th><td class="text">{inner}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    names = ("method", "what is kept", "memory bytes", "images in it", "network bytes", "adapter bytes")
    head = "".join(f"<th>{name}</th>" for name in names)
    note = (
        "After the last task. The memory is what counts. The network is needed by every method, and stays whatever is kept; an adapter is gone once "
        "the memory is carried. Every evaluation checks that no image is kept where the method promises none (✓)."
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div><p class="note">{note}</p>'


def _confusion(charts: dict[str, Any]) -> str:
    content = json.loads((layout.METRICS / "confusion.json").read_text(encoding="utf-8"))
    charts["confusion"] = {key: content[key] for key in ("classes", "sizes", "methods")}
    names = [method["method"] for method in content["methods"]]
    # The last method that is no bound is shown first.
    first = next((i for i in reversed(range(len(names))) if "oracle" not in names[i] and "joint" not in names[i]), 0)
    options = "".join(f'<option value="{i}"{" selected" if i == first else ""}>{html.escape(name)}</option>' for i, name in enumerate(names))
    note = (
        "Test images of each class (rows) by the class they are taken for (columns), in order of arrival; lines part tasks. Blue is right, red is "
        "wrong; the share of the class is the strength."
    )
    return (
        f'<label>Method <select id="confused">{options}</select></label>'
        f'<figure><div class="chart" data-chart="confusion"></div><figcaption>{note}</figcaption></figure>'
        '<details open><summary>Most frequent confusions</summary><ol id="confusions"></ol></details>'
    )


def _samples() -> str:
    pictures = {layout.samples(regime): f"Images made by the generator of {regime}" for regime in parameters("regimes")}
    cells = itertools.product(parameters("regimes"), parameters("adapters"))
    pictures |= {layout.samples(*cell): f"Features drawn from the memory of {' x '.join(cell)}, beside those of test images" for cell in cells}
    figures = "".join(
        f'<figure><img alt="{text}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        f"<figcaption>{text}</figcaption></figure>"
        for path, text in pictures.items()
        if path.exists()
    )
    return f'<section id="samples"><h2>Generated images and features</h2>{figures}</section>' if figures else ""


def _run() -> str:
    text = PARAMETERS.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    protocol = Protocol(**content["protocol"])
    facts = {
        "commit": _commit(),
        "data set": content["dataset"]["name"],
        "classes of each task": ", ".join(map(str, protocol.sizes)),
        "class order": f"{protocol.order} {protocol.seed}",
        "initialisation seed": str(content["seed"]),
        "machine": f"{platform.system()} {platform.machine()}, {processors()} processors, Python {platform.python_version()}",
    }
    items = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    seconds: dict[str, float] = {}
    tasks = {task["id"] for task in content["tasks"]}
    parts = {"joint", *content["regimes"], *content["adapters"]}
    for path in sorted(layout.SECONDS.glob("*.json")):
        step, _, task = path.stem.rpartition("-")
        # Notes of earlier runs lie there too.
        if task not in tasks or not parts.issuperset(step.split("-")[1:]):
            continue
        seconds[step] = seconds.get(step, 0) + json.loads(path.read_text(encoding="utf-8"))["seconds"]
    rows = "".join(f'<tr><th scope="row">{html.escape(step)}</th><td>{value:,.1f}</td></tr>' for step, value in seconds.items())
    times = f"<details><summary>Seconds of each step, over all tasks</summary><table><tbody>{rows}</tbody></table></details>" if rows else ""
    return f"<dl>{items}</dl>{times}<details><summary>All parameters</summary><pre>{html.escape(text)}</pre></details>"


def _commit() -> str:
    """Return the commit that the code and the parameters are of, or which files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    try:
        commit = git("rev-parse", "--short", "HEAD")
        changed = git("diff", "--name-only", "HEAD", "--", ".", ":!metrics", ":!dvc.lock").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "not under git"
    return commit + (f", with changes in {', '.join(changed)}" if changed else "")


if __name__ == "__main__":
    run(main)
