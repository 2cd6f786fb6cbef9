"""The benchmarks run, on sizes too small to measure anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import features, learning, measure, pictures, pipeline, precision

RATES = measure.Rates(float32=1e11, float64=5e10, copy=1e10)


def test_rows_become_an_aligned_table() -> None:
    lines = measure.table([measure.Row("a", "1 s", "2 s floor", 0.5, "note"), measure.Row("longer", "1 s", "1 s", 1.0)]).splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert "| 0.50 " in lines[2]


def test_the_machine_is_measured_and_described() -> None:
    rates = measure.rates(size=16, megabytes=1, repeats=1)
    assert min(rates.float32, rates.float64, rates.copy) > 0
    assert "cores" in measure.describe(rates)


def test_crops_are_deterministic_pictures_with_a_hundred_labels() -> None:
    first, second = pictures.crops(16), pictures.crops(16)
    assert first.images.tobytes() == second.images.tobytes() and first.shape == (32, 32, 3)
    assert first.labels.min() >= 0 and first.labels.max() < pictures.CLASSES


def test_images_of_a_folder_are_resized(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((40, 50, 3), dtype=np.uint8)).save(tmp_path / name / "0.png")
    images = pictures.from_folder(tmp_path, 10)
    assert images.shape == (32, 32, 3) and sorted(images.labels.tolist()) == [0, 1]


@pytest.mark.parametrize("compiler", [False, True])
def test_all_training_loops_run(monkeypatch: pytest.MonkeyPatch, compiler: bool) -> None:
    asked: list[torch.nn.Module] = []
    monkeypatch.setattr(learning, "has_compiler", lambda: compiler)
    monkeypatch.setattr(torch, "compile", lambda module: asked.append(module) or module)
    rows = learning.rows(pictures.crops(8), rounds=1, batch=4, threads=1, workers=(0,), blocks=1)
    assert len(rows) == (4 if compiler else 2) and all(row.ratio > 0 for row in rows)
    assert [row.name.endswith(", compiled") for row in rows] == ([False, True] * 2 if compiler else [False] * 2)
    assert bool(asked) == compiler


def test_herding_and_adapters_are_measured_against_their_floors() -> None:
    rows = [features.herding_row(RATES, images=10, d=4, measured=1, classes=2, repeats=1)]
    rows += features.adapter_rows(RATES, pairs=20, stored=100, d=4, run=10, repeats=1)
    assert len(rows) == 7 and all(row.ratio > 0 for row in rows)


def test_precisions_are_compared_on_held_out_images() -> None:
    found = precision.accuracies(pictures.crops(20), epochs=1, seeds=1, threads=1, architecture="small", batch=8)
    assert set(found) == {"float32", "bfloat16"} and "bfloat16 - float32" in precision.summary(found)


def test_runs_in_the_copy_whose_overhead_is_measured_have_its_parameters(tmp_path: Path) -> None:
    copy = pipeline.copied(tmp_path)
    pipeline.composed(copy, pipeline.SETTINGS)
    pipeline.run(copy, "python", "-m", "dvc", "repro", "sources")
    assert "epochs: 1\n" in (copy / "params.yaml").read_text(encoding="utf-8")
