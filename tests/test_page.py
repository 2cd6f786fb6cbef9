"""The report as one page, in a real browser without a screen: it opens offline, fits a phone, and says what is missing."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from carryover import report
from carryover.errors import CarryoverError
from stages import page, screenshot

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = {"results.csv", "curves.csv", "matrix.csv", "ledger.csv", "drift.csv", "projection.csv", "confusion.json"}


def record(random: np.random.Generator, classifier: str, sizes: Sequence[int], level: float, size: int, budget: int | None = None) -> dict[str, Any]:
    """Return what `evaluate` writes of a classifier that is right in about the share `level` of 20 test images a class."""
    classes, images = sum(sizes), 20
    taken = np.where(random.random((classes, images)) < level, np.arange(classes)[:, None], random.integers(0, classes, (classes, images)))
    counts = [np.unique(row, return_counts=True) for row in taken]
    shares = (taken == np.arange(classes)[:, None]).mean(axis=1)
    tasks = [float(part.mean()) for part in np.split(shares, np.cumsum(sizes)[:-1])]
    scores = {"tasks": tasks, "accuracy": float(shares.mean())}
    confusion = [{str(label): int(count) for label, count in zip(*row, strict=True)} for row in counts]
    return {"classifier": classifier, "budget": budget, "bytes": size, "validation": scores, "test": scores, "confusion": confusion}


def cells(sizes: Sequence[int], regimes: Sequence[str], adapters: Sequence[str]) -> list[dict[str, Any]]:
    """Return what `evaluate` writes of such a run; accuracies and names are made up."""
    random, found = np.random.default_rng(0), []
    for regime in regimes:
        for level, adapter in enumerate(adapters):
            for task in range(len(sizes)):
                seen = list(sizes[: task + 1])
                share = (0.9 - 0.1 * task / len(sizes)) * (0.4 + 0.5 * (level + 1) / len(adapters))
                records = [record(random, "head", seen, 0.3, 0)]
                records += [record(random, "softmax", seen, share * (0.8 if b else 1), 256 * (b or 20) * sum(seen), b) for b in (5, None)]
                entry = {
                    "part": "memory",
                    "item": "features",
                    "type": "float32",
                    "shape": [20 * sum(seen), 64],
                    "images": 0,
                    "bytes": 5120 * sum(seen),
                }
                found.append(
                    {"regime": regime, "adapter": adapter, "task": f"task{task}", "sizes": seen, "network_bytes": 300_000, "records": records}
                )
                found[-1] |= {"classes": [f"class <{i}>" for i in range(sum(seen))], "adapter_parameters": 4160 * level, "ledger": [entry]}
    return found


def run(
    folder: Path, sizes: Sequence[int], regimes: Sequence[str] = ("finetune", "distill"), adapters: Sequence[str] = ("none", "mlp", "oracle")
) -> None:
    """Write the files of metrics/ that a run leaves, with the library's own functions, into a project in `folder`."""
    for name in ("params.yaml", ".dvc/plots/curves.json", "stages/page.html"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    metrics = folder / "metrics"
    metrics.mkdir()
    made = cells(sizes, regimes, adapters)
    table = report.records(made)
    report.results(table).round(4).to_csv(metrics / "results.csv", index=False)
    report.curves(table, "softmax").to_csv(metrics / "curves.csv", index=False)
    report.matrices(table, "softmax").to_csv(metrics / "matrix.csv", index=False)
    report.ledger(made).to_csv(metrics / "ledger.csv", index=False)
    (metrics / "confusion.json").write_text(json.dumps(report.confusions(made, "softmax")), encoding="utf-8")
    random = np.random.default_rng(0)
    carried = [adapter for adapter in adapters if adapter != "oracle"]
    drift = [
        {"regime": regime, "adapter": adapter, "task": f"task{t}", "learned": f"task{t - age}", "age": age, "class": 0, "images": 20}
        | {"cosine": random.random(), "relative_error": random.random(), "explained": random.random()}
        for regime in regimes for adapter in carried for t in range(len(sizes)) for age in range(1, t + 1)
    ]  # fmt: skip
    columns = ["regime", "adapter", "task", "learned", "age", "class", "images", "cosine", "relative_error", "explained"]
    pd.DataFrame(drift, columns=columns).to_csv(metrics / "drift.csv", index=False)
    plane = [
        {"regime": regime, "adapter": adapter, "kind": kind, "class": c, "image": i, "x": random.normal(), "y": random.normal()}
        for regime in regimes for adapter in carried if len(sizes) > 1
        for kind in ("stored", "carried", "current") for c in range(3) for i in range(20)
    ]  # fmt: skip
    pd.DataFrame(plane, columns=["regime", "adapter", "kind", "class", "image", "x", "y"]).to_csv(metrics / "projection.csv", index=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project; the script of the charts, which takes seconds to make, is made once for all tests."""
    shared = tmp_path.parent / "scratch"
    monkeypatch.setattr(page.layout, "SCRATCH", shared)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(folder: Path) -> str:
    """Write the page; return what it says above its scripts."""
    page.write()
    return (folder / "metrics/report.html").read_text(encoding="utf-8").split("</main>")[0]


def test_the_table_shows_the_results_and_what_they_mean(project: Path) -> None:
    run(project, (2, 1))
    text = words(project)
    for row in report.shown(pd.read_csv(project / "metrics/results.csv"), "softmax").to_dict("records"):
        line = next(line for line in text.split("<tr>") if f">{row['method']}</th>" in line)
        assert f'<td data-value="{row["average"]}">{row["average"]:.1f}</td>' in line and f">{row['bytes']:,}</td>" in line
    assert all(f"<dd>{html.escape(page.DEFINITIONS[name][1])}</dd>" in text for name in ("average", "forgetting", "bytes", "relative_error"))
    assert 'class="notice"' not in text.split("<main>")[1]


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_a_missing_file_is_named_and_the_rest_is_shown(project: Path, name: str) -> None:
    run(project, (2, 1))
    (project / "metrics" / name).unlink()
    text = words(project).split("<main>")[1]
    notices = [part for part in text.split('<p class="notice">')[1:] if part.startswith(f"There is no metrics/{name} yet: dvc repro writes it.")]
    assert len(notices) == text.count('class="notice"') == (2 if name == "results.csv" else 1)
    assert text.count("<section") == 9


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_a_file_of_an_older_version_is_named_and_the_rest_is_shown(project: Path, name: str) -> None:
    run(project, (2, 1))
    (project / "metrics" / name).write_text("{}" if name.endswith("json") else "old\n1\n", encoding="utf-8")
    text = words(project).split("<main>")[1]
    assert f'<p class="notice">metrics/{name} cannot be shown' in text and "Traceback" not in text
    assert text.count("<section") == 9


def test_what_was_run_is_shown_of_equal_tasks_too(project: Path) -> None:
    run(project, (50, 10, 10))
    parameters = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    parameters["protocol"] |= {"sizes": None, "base": 50, "increment": 10, "count": 3}
    (project / "params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
    assert "<dt>classes of each task</dt><dd>50, 10, 10</dd>" in words(project)


def test_what_earlier_runs_left_is_not_shown_as_of_this_one(project: Path) -> None:
    run(project, (4, 3, 3))
    Image.new("RGB", (8, 8)).save(project / "metrics/samples-replay.png")
    (project / "data/.seconds").mkdir(parents=True)
    for name, seconds in {
        "train-distill-task0": 1.5,
        "adapt-distill-mlp-task1": 2.5,
        "joint-task2": 3.5,
        "train-replay-task0": 4.5,
        "train-distill-task7": 5.5,
    }.items():
        (project / f"data/.seconds/{name}.json").write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
    text = words(project)
    assert "Generated images" not in text and '<section id="samples">' not in text
    assert all(
        f'<th scope="row">{step}</th><td>{seconds}</td>' in text
        for step, seconds in {"train-distill": 1.5, "adapt-distill-mlp": 2.5, "joint": 3.5}.items()
    )
    assert "train-replay" not in text


def test_the_page_is_stale_when_a_result_is_newer(project: Path) -> None:
    run(project, (2, 1))
    assert page.stale()
    page.write()
    assert not page.stale()
    later = (project / "metrics/report.html").stat().st_mtime + 5
    os.utime(project / "metrics/curves.csv", (later, later))
    assert page.stale()


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a screen."""
    try:
        with screenshot.browser() as opened:
            yield opened
    except screenshot.NoBrowserError as error:
        pytest.skip(str(error))


def look(browser: Any, folder: Path, width: int, scheme: str = "light") -> None:
    """Open the page with empty notes, and wait until all charts are drawn."""
    browser.get_log("browser"), browser.get_log("performance")
    screenshot.look(browser, folder / "metrics/report.html", width, scheme)


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def requests(browser: Any, folder: Path) -> list[str]:
    """Return what the browser asked for beside the page."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if url != (folder / "metrics/report.html").as_uri() and not url.startswith("data:")]


MARKS = """return Object.fromEntries([...document.querySelectorAll("[data-chart]")].map(place => [place.dataset.chart,
    [...place.querySelectorAll(".role-mark path, .role-mark text")].filter(mark => mark.getBoundingClientRect().width > 0).length]))"""
SIX = ("none", "sdc", "linear", "mlp", "oracle")
RUNS: dict[str, tuple[Any, ...]] = {
    "digits": ((4, 3, 3),),
    "hundred classes": ((50, 10, 10, 10, 10, 10), ("finetune", "lwf", "attention", "distill", "rehearsal", "hybrid", "lucir"), SIX),
    "one method": ((2, 1), ("distill",), ("mlp",)),
    "one task": ((3,),),
    "one class": ((1,), ("distill",), ("none",)),
    "no adapter": ((2, 1), ("finetune",), ("oracle",)),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_chart_is_drawn_offline_and_fits_a_phone_and_a_desk(project: Path, browser: Any, name: str) -> None:
    run(project, *RUNS[name])
    text = words(project)
    expected = {"curves", "matrix", "memory", "drift", "projection", "confusion"}
    if name in ("one task", "one class", "no adapter"):
        expected -= {"drift", "projection"}
        assert text.count("Nothing to draw") == 2
    for width in (375, 1440):
        look(browser, project, width)
        charts = browser.execute_script(MARKS)
        assert set(charts) == expected and all(marks > 0 for marks in charts.values()), charts
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert complaints(browser) == [] and requests(browser, project) == []


def test_the_confusion_of_another_method_is_drawn_when_it_is_chosen(project: Path, browser: Any) -> None:
    from selenium.webdriver.support.ui import Select, WebDriverWait

    run(project, (4, 3, 3))
    page.write()
    look(browser, project, 1440)
    listed = "return document.getElementById('confusions').innerText"
    first = browser.execute_script(listed)
    Select(browser.find_element("id", "confused")).select_by_visible_text("Finetuning (finetune x head)")
    WebDriverWait(browser, 20).until(lambda browser: browser.execute_script(listed) != first)
    (method,) = [m for m in json.loads((project / "metrics/confusion.json").read_text())["methods"] if m["method"].startswith("Finetuning")]
    most = max(count for label, row in enumerate(method["taken"]) for taken, count in row.items() if int(taken) != label)
    assert browser.execute_script(listed).splitlines()[0].endswith(f"{most} of 20 ({5 * most} %)")
    assert complaints(browser) == []


def test_a_click_sorts_the_table_and_another_turns_it(project: Path, browser: Any) -> None:
    run(project, (2, 1))
    page.write()
    look(browser, project, 1440)
    averages = "return [...document.querySelector('.sortable').tBodies[0].rows].map(row => row.cells[1].dataset.value)"
    button = browser.find_elements("css selector", ".sortable th button")[1]
    unsorted = [float(value) for value in browser.execute_script(averages)]
    for down in (True, False):
        button.click()
        assert [float(value) for value in browser.execute_script(averages)] == sorted(unsorted, reverse=down) != unsorted


def test_a_mark_says_its_value_on_hover(project: Path, browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    run(project, (2, 1))
    page.write()
    look(browser, project, 1440)
    point = browser.find_element("css selector", "[data-chart=curves] .mark-symbol.role-mark path")
    ActionChains(browser).scroll_to_element(point).move_to_element(point).perform()
    tip = WebDriverWait(browser, 20).until(lambda browser: browser.find_element("css selector", "#vg-tooltip-element.visible"))
    curve = pd.read_csv(project / "metrics/curves.csv")
    assert any(row["method"] in tip.text and f"{row['accuracy']:.1f}" in tip.text for row in curve.to_dict("records")), tip.text


def test_text_has_the_schemes_colour_in_page_and_charts(project: Path, browser: Any) -> None:
    run(project, (2, 1))
    page.write()
    colours = {}
    for scheme in ("light", "dark"):
        look(browser, project, 1440, scheme)
        colours[scheme] = browser.execute_script(
            "return ['body', '[data-chart=curves] .role-axis-label text', '[data-chart=confusion] .role-axis-title text'].map(name => {"
            "  const style = getComputedStyle(document.querySelector(name)); return name === 'body' ? style.color : style.fill; })"
        )
    symbols = "return [...document.querySelectorAll('.role-legend-symbol path')].flatMap(m => [getComputedStyle(m).fill, getComputedStyle(m).stroke])"
    assert "rgb(0, 0, 0)" not in browser.execute_script(symbols), "black on a dark page"
    assert set(colours["light"]) == {"rgb(27, 27, 27)"} and set(colours["dark"]) == {"rgb(232, 232, 232)"}


def test_the_printed_report_begins_with_its_table_and_leaves_no_page_empty(project: Path, browser: Any) -> None:
    run(project, (4, 3, 3))
    page.write()
    look(browser, project, 1200, "dark")
    paper = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
    whole, first = (browser.execute_cdp_cmd("Page.printToPDF", paper | pages)["data"] for pages in ({}, {"pageRanges": "1"}))
    assert len(re.findall(rb"/Type /Page\b", base64.b64decode(whole))) <= 5
    assert len(first) > len(whole) / 10, "a heading alone"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.execute_script("return getComputedStyle(document.body).color") == "rgb(27, 27, 27)"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_picture_of_the_readme_is_of_the_report(project: Path, browser: Any) -> None:
    run(project, (2, 1))
    page.write()
    screenshot.main()
    picture = Image.open(project / "docs/report.png").convert("RGB")
    assert picture.size == (screenshot.WIDTH, screenshot.HEIGHT)
    # Charts are in it: the colour of a curve is.
    assert (np.asarray(picture) == (0xD5, 0x5E, 0x00)).all(axis=2).any()


def test_without_a_browser_the_picture_is_refused_in_one_sentence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CarryoverError, match="No chromium with chromedriver is installed"):
        screenshot.main()
