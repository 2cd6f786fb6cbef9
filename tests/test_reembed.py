"""The worked example of a carried index: its recall is what it says, and its command runs on anybody's images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from examples.reembed import markdown, measure, nearest

ROOT = Path(__file__).resolve().parents[1]


def _brute(queries: np.ndarray, index: np.ndarray, k: int) -> list[list[int]]:
    cosines = queries @ index.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(index, axis=1)
    return [sorted(range(len(index)), key=lambda i, row=row: -row[i])[:k] for row in cosines]


def test_nearest_is_by_cosine() -> None:
    random = np.random.default_rng(0)
    queries, index = random.normal(size=(7, 5)), random.normal(size=(40, 5)) * random.uniform(0.1, 9, size=(40, 1))
    assert nearest(queries, index, 10).tolist() == _brute(queries, index, 10)


def test_recall_is_the_share_of_true_neighbours_that_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    turn = random.normal(size=(6, 6))
    old = {part: random.normal(size=(n, 6)) for part, n in {"pairs": 60, "index": 80, "queries": 30}.items()}
    for part, vectors in old.items():
        np.save(tmp_path / f"old-{part}.npy", vectors)
        np.save(tmp_path / f"new-{part}.npy", vectors @ turn)
    classes = {part: random.integers(0, 4, len(old[part])) for part in ("index", "queries")}
    np.savez(tmp_path / "classes.npz", **classes)
    table = measure(tmp_path, "new", [50, 1000]).set_index(["adapter", "pairs"])
    assert table.index.get_level_values("pairs").unique().tolist() == [0, 50, 60], "no more pairs than there are"
    assert table.loc[("embedded again", 0), ["recall@1", "recall@10"]].tolist() == [1, 1]
    queries, index = old["queries"] @ turn, old["index"]
    truth, found = _brute(queries, index @ turn, 10), _brute(queries, index, 10)
    expected = np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, truth, strict=True)])
    assert table.loc[("none", 0), "recall@10"] == pytest.approx(expected) and expected < 0.6
    assert table.loc[("none", 0), "same_class"] == np.mean([classes["index"][row[0]] == c for row, c in zip(found, classes["queries"], strict=True)])
    assert table.loc[("linear", 60), "recall@10"] > 0.95, "the new space is the old one turned"
    assert table.loc[("auto", 60), "chosen"] in ("linear", "mlp")
    assert markdown(table.reset_index()).splitlines()[2] == "| new | embedded again |  | 100.0 | 100.0 | " + (
        f"{100 * table.loc[('embedded again', 0), 'same_class']:.1f} |"
    )


def test_the_example_runs_on_a_folder_of_images(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for kind in range(4):
        (tmp_path / "images" / str(kind)).mkdir(parents=True)
        for i in range(16):
            pixels = random.integers(0, 90, size=(8, 8, 3)) + 50 * np.array([kind & 1, kind >> 1, 1])
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / str(kind) / f"{i}.png")
    options = [
        "--work",
        str(tmp_path / "work"),
        "--out",
        str(tmp_path / "out"),
        "--size",
        "8",
        "--epochs",
        "1",
        "--threads",
        "1",
        "--pairs",
        "4",
        "8",
    ]
    command = [sys.executable, "-m", "examples.reembed", str(tmp_path / "images"), *options]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/table.md").read_text(encoding="utf-8").strip() == done.stdout.strip()
    table = pd.read_csv(tmp_path / "out/recall.csv")
    assert len(table) == 2 * (2 + 2 * 4) and set(table["model"]) == {"fine-tuned", "from scratch"}
    assert table[["recall@1", "recall@10", "same_class"]].stack().between(0, 1).all()
    assert Image.open(tmp_path / "out/recall.png").width > 500

    def refused(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        assert done.returncode and "Traceback" not in done.stderr
        return done.stderr

    assert "holds vectors of other data or settings: name another folder with --work" in refused("--epochs", "2")
    assert "--threads is 0; it takes 1 or more" in refused("--threads", "0")
    assert "--pairs has 2; adapters are chosen from 3 pairs or more" in refused("--pairs", "2", "8")
    done = subprocess.run(
        [*command[:3], str(tmp_path / "nothing"), "--work", str(tmp_path / "w2")],
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.startswith("Error: ") and "Traceback" not in done.stderr
