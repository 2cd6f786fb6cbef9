"""What a finished run leaves: artefacts with the right headers, a memory of the reported size, and results that agree."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project, error_of
from safetensors.numpy import load_file

from carryover import artefacts

# The kind of each artefact, and the fields that its path tells.
KINDS: dict[str, tuple[str, list[str]]] = {
    "tasks": ("task-images", ["task", "part"]),
    "backbones": ("backbone", ["regime", "task"]),
    "exemplars": ("exemplars", ["regime", "task"]),
    "features": ("features", ["regime", "task"]),
    "selections": ("selection", ["regime", "task"]),
    "adapters": ("adapter", ["regime", "adapter", "task"]),
    "memories": ("memory", ["regime", "task", "adapter"]),
    "observations": ("observations", ["regime", "task"]),
    "drifts": ("drift", ["regime", "task", "adapter"]),
}


@pytest.mark.parametrize("folder", KINDS)
def test_every_artefact_says_what_it_is(project: Project, folder: str) -> None:
    kind, names = KINDS[folder]
    paths = sorted((project.root / "data" / folder).rglob("*.safetensors"))
    assert paths
    for path in paths:
        words = path.relative_to(project.root / "data" / folder).with_suffix("").parts
        header = artefacts.read_header(path, kind, **dict(zip(names, words, strict=True)))
        assert (header["format"], header["version"]) == ("carryover", 1)
        artefacts.read(path, kind)


def test_the_data_set_has_a_shard_for_each_class_and_part(project: Project) -> None:
    for label in range(10):
        for part in ("train", "test"):
            artefacts.read_header(
                project.root / f"data/dataset/{label:05d}-{part}.safetensors", "class-shard", label=label, name=str(label), part=part
            )


def test_the_memory_holds_features_and_no_images(project: Project) -> None:
    for path in (project.root / "data/memories").rglob("*.safetensors"):
        tensors = load_file(path)
        assert {name: array.dtype.name for name, array in tensors.items()} == {"features": "float32", "counts": "int32"}, path
    for path in (project.root / "data/exemplars").rglob("*.safetensors"):
        assert len(artefacts.read(path, "exemplars")["labels"]) == 0, "these regimes keep no images"


def _rows(project: Project, name: str) -> list[dict[str, str]]:
    with (project.root / "metrics" / name).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _summary(project: Project) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((project.root / "metrics/summary.json").read_text(encoding="utf-8"))
    return summary


def test_reported_bytes_are_the_bytes_of_the_memory_file(project: Project) -> None:
    for row in _rows(project, "results.csv"):
        if row["adapter"] == "-":
            assert int(row["bytes"]) == 0
        elif int(row["budget"]) == 0:
            path = project.root / f"data/memories/{row['regime']}/task1/{row['adapter']}.safetensors"
            assert int(row["bytes"]) == path.stat().st_size


def test_bytes_of_a_budget_are_those_of_a_memory_of_that_size(project: Project, tmp_path: Path) -> None:
    rows = [row for row in _rows(project, "results.csv") if (row["regime"], row["adapter"]) == ("distill", "linear") and row["budget"] == "5"]
    memory = artefacts.read(project.root / "data/memories/distill/task1/linear.safetensors", "memory")
    starts = np.cumsum(memory["counts"]) - memory["counts"]
    features = np.concatenate([memory["features"][start : start + 5] for start in starts])
    artefacts.write(tmp_path / "five", "memory", {"features": features, "counts": np.full(3, 5, dtype=np.int32)}, **memory.fields)
    assert rows
    assert {int(row["bytes"]) for row in rows} == {(tmp_path / "five").stat().st_size}


def test_the_ledger_adds_up_to_the_reported_bytes(project: Project) -> None:
    kept: dict[tuple[str, str], int] = {}
    for row in _rows(project, "ledger.csv"):
        cell = (row["regime"], row["adapter"])
        kept[cell] = kept.get(cell, 0) + (int(row["bytes"]) if row["part"] in ("memory", "rehearsal") else 0)
        assert int(row["images"]) == 0, "these regimes keep no images"
        if row["part"] == "network":
            assert int(row["bytes"]) == (project.root / f"data/backbones/{row['regime']}/task1.safetensors").stat().st_size
    methods = [row for row in _rows(project, "results.csv") if row["budget"] == "0" and row["adapter"] != "oracle" and row["regime"] != "joint"]
    assert {(row["regime"], row["adapter"]): int(row["bytes"]) for row in methods} == kept


def test_no_byte_of_an_image_is_in_what_is_kept(project: Project) -> None:
    images = artefacts.read(project.root / "data/tasks/task0/train.safetensors", "task-images")["images"]
    for folder in ("memories", "exemplars"):
        for path in (project.root / "data" / folder).rglob("*.safetensors"):
            content = path.read_bytes()
            assert not any(image.tobytes() in content for image in images[:50]), path


def test_an_image_that_slipped_into_a_memory_is_refused(borrowed: Project) -> None:
    path = borrowed.root / "data/exemplars/distill/task1.safetensors"
    fields = artefacts.read_header(path, "exemplars")["fields"]
    images = artefacts.read(borrowed.root / "data/tasks/task0/train.safetensors", "task-images")
    path.unlink()
    artefacts.write(path, "exemplars", {"images": images["images"][:2], "labels": images["labels"][:2]}, **fields)
    done = borrowed.stage("evaluate", "distill", "linear", "task1", check=False)
    assert error_of(done) == ("Error: The rehearsal of distill x linear holds 2 images in 'images', and the method promises to keep none there.")


def test_matrix_and_confusion_agree_with_the_accuracies(project: Project) -> None:
    last = {
        (row["regime"], row["adapter"]): float(row["last"])
        for row in _rows(project, "results.csv")
        if row["budget"] == "0" and row["classifier"] in ("softmax", "head")
    }
    matrix: dict[tuple[str, str], dict[tuple[int, int], float]] = {}
    for row in _rows(project, "matrix.csv"):
        matrix.setdefault((row["regime"], row["adapter"]), {})[int(row["task"]), int(row["of"])] = float(row["accuracy"])
    confusion = json.loads((project.root / "metrics/confusion.json").read_text(encoding="utf-8"))
    assert confusion["sizes"] == [2, 1] and len(confusion["classes"]) == 3
    assert len(confusion["methods"]) == len(last) == len(matrix)
    for (regime, adapter), method in zip(matrix, confusion["methods"], strict=True):
        cells = matrix[regime, adapter]
        # The joint bound is trained after the last task alone.
        assert set(cells) == ({(1, 0), (1, 1)} if regime == "joint" else {(0, 0), (1, 0), (1, 1)})
        assert (2 * cells[1, 0] + cells[1, 1]) / 3 == pytest.approx(last[regime, adapter], abs=1e-3)
        shares = [taken.get(str(label), 0) / sum(taken.values()) for label, taken in enumerate(method["taken"])]
        assert 100 * np.mean(shares) == pytest.approx(last[regime, adapter], abs=1e-3)


def test_adapted_memories_beat_stale_ones(project: Project) -> None:
    summary = _summary(project)
    for regime in ("finetune", "distill"):
        scores = {column: summary[regime][column]["last"] for column in ("none", "linear", "oracle", "head")}
        assert scores["oracle"] > 90
        assert scores["oracle"] > scores["none"] + 5
        assert scores["linear"] > scores["none"] + 5
    assert summary["joint"]["oracle"]["last"] > 90


def test_summary_curves_results_and_table_agree(project: Project) -> None:
    summary = _summary(project)
    results = [row for row in _rows(project, "results.csv") if row["budget"] == "0" and (row["classifier"] == "softmax" or row["adapter"] == "-")]
    table = (project.root / "metrics/table.md").read_text(encoding="utf-8")
    curves = _rows(project, "curves.csv")
    assert len(results) == sum(len(cells) for cells in summary.values())
    for row in results:
        column = "head" if row["adapter"] == "-" else row["adapter"]
        cell = summary[row["regime"]][column]
        # The joint bound is trained after the last task alone, and has no average over tasks.
        assert ("average" in cell, row["average"] == "") == ((False, True) if row["regime"] == "joint" else (True, False))
        for metric in {"average", "last"} & set(cell):
            assert cell[metric] == pytest.approx(float(row[metric]), abs=1e-3)
        assert cell["bytes"] == int(row["bytes"])
        lines = [line for line in table.splitlines() if line.startswith(f"| {row['method']} |")]
        assert len(lines) == 1
        average = f"{float(row['average']):.1f}" if row["average"] else ""
        assert f"| {average} | {float(row['last']):.1f} |" in lines[0]
        if row["regime"] != "joint":
            curve = [float(point["accuracy"]) for point in curves if (point["regime"], point["adapter"]) == (row["regime"], column)]
            assert np.mean(curve) == pytest.approx(float(row["average"]), abs=1e-2)
            assert curve[-1] == pytest.approx(float(row["last"]), abs=1e-2)
    assert (project.root / "metrics/curves.png").read_bytes().startswith(b"\x89PNG")


def test_drift_is_measured_on_test_images_carried_as_the_memory_is(project: Project) -> None:
    before = artefacts.read(project.root / "data/observations/distill/task0.safetensors", "observations")["test_features"]
    after = artefacts.read(project.root / "data/observations/distill/task1.safetensors", "observations")["test_features"]
    still = artefacts.read(project.root / "data/drifts/distill/task1/none.safetensors", "drift")
    assert np.array_equal(still["stored"], still["carried"]) and np.array_equal(still["stored"][: len(before)], before)
    assert np.array_equal(still["current"], after) and np.array_equal(still["stored"][len(before) :], after[len(before) :])
    rows = {(row["regime"], row["adapter"], row["class"]): row for row in _rows(project, "drift.csv")}
    assert set(rows) == {(regime, adapter, label) for regime in ("finetune", "distill") for adapter in ("none", "linear") for label in "01"}
    assert all(row["age"] == "1" and row["learned"] == "task0" and row["task"] == "task1" for row in rows.values())
    for regime in ("finetune", "distill"):
        for label in "01":
            assert float(rows[regime, "none", label]["relative_error"]) == 1 and rows[regime, "none", label]["cosine"] == ""
            assert float(rows[regime, "linear", label]["relative_error"]) < 0.9


def test_the_pictures_of_drift_are_drawn(project: Project) -> None:
    assert {row["kind"] for row in _rows(project, "projection.csv")} == {"stored", "carried", "current"}
    assert all((project.root / f"metrics/{name}.png").read_bytes().startswith(b"\x89PNG") for name in ("drift", "projection", "memory"))


def test_seconds_are_told_of_the_adapters_that_they_were_taken_of_alone(borrowed: Project) -> None:
    def times() -> dict[str, str]:
        borrowed.stage("report")
        rows = csv.DictReader((borrowed.root / "metrics/seconds.csv").open(encoding="utf-8"))
        return {f"{row['regime']} {row['adapter']}": row["seconds"] for row in rows}

    complete = times()
    assert "distill linear" in complete
    # As if the adapter had come from the cache, in the place of one that was fitted with other parameters.
    note = borrowed.root / "data/.seconds/adapt-distill-linear-task1.json"
    note.write_text(json.dumps(json.loads(note.read_text(encoding="utf-8")) | {"sha256": "0" * 64}), encoding="utf-8")
    assert times() == {key: seconds for key, seconds in complete.items() if key != "distill linear"}
    note.unlink()
    assert "distill linear" not in times()


def test_the_table_is_shown(project: Project) -> None:
    shown = project.run("python", "-m", "stages.show").stdout
    assert "distill x linear x softmax" in shown
    assert "metrics/results.csv" in shown
    assert shown.splitlines()[-1] == "The report, with all charts: metrics/report.html; open it in a browser."


def test_the_report_is_written_with_every_part_and_no_notice(project: Project) -> None:
    page = (project.root / "metrics/report.html").read_text(encoding="utf-8").split("<main>")[1].split("</main>")[0]
    assert page.count("<section") == 9 and 'class="notice"' not in page
    assert "<dd>digits</dd>" in page and "train-distill</th>" in page and "none ✓" in page
    # That of the run, after which its results were committed.
    commits = project.run("git", "log", "--format=%h").stdout.split()
    assert any(f"<dt>commit</dt><dd>{commit}</dd>" in page for commit in commits[1:])


def test_the_report_is_written_anew_where_it_is_missing(borrowed: Project) -> None:
    (borrowed.root / "metrics/report.html").unlink()
    borrowed.run("python", "-m", "stages.show")
    assert (borrowed.root / "metrics/report.html").exists()


def test_a_reader_that_goes_away_sees_no_traceback(project: Project) -> None:
    assert project.run("sh", "-c", "python -m stages.show | true").stderr == ""
