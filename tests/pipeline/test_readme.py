"""The README: each of its commands is run, in its order, on a small project; its tables are those of the committed results.

Experiments that other tests run too are run here by `make soak` alone; otherwise their parameters are composed and checked.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SOAK, Project
from PIL import Image
from safetensors.numpy import save_file

from carryover import registry
from stages.readme import tables

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Few stages, for the README has many commands: one regime, two adapters, two tasks.
SMALL = """
defaults:
  - config
  - override regimes: [distill]
  - override adapters: [none, mlp]
  - override joint: never
  - override protocol: small
  - _self_
training: {epochs: 1, increment_epochs: 1}
extraction: {views: 1}
evaluation: {classifiers: [softmax], budgets: [1]}
adapters: {mlp: {steps: 2}}
"""
MINE = '''"""`mine`: the adapter of a reader of the README."""

from carryover.adapters.none import NoAdapter

__all__ = ["MyAdapter"]


class MyAdapter(NoAdapter):
    """Stale features under another name."""
'''


# Words of experiments that other tests run too.
ALIKE = ("protocol=digits_long", "memory=per_class", "memory.storage=", "adapters.mlp.start=", "'regimes=[rehearsal]'")


def commands() -> list[str]:
    """Return the commands of the README's shell blocks, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("   #")[0].strip() for line in lines if line.strip()]


@pytest.fixture(scope="module")
def reader(checkout: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in which a reader follows the README, after `make repro`."""
    root = tmp_path_factory.mktemp("reader")
    checkout.run("git", "clone", "--quiet", ".", str(root))
    project = Project(root, checkout.environment)
    (root / "conf/small.yaml").write_text(SMALL, encoding="utf-8")
    (root / "conf/protocol/small.yaml").write_text("defaults: [digits]\nsizes: [2, 1]\n", encoding="utf-8")
    project.dvc("config", "hydra.config_name", "small")
    project.compose(config="small")
    for name, kind in (("cat", 0), ("dog", 1), ("eel", 2)):
        _draw(root / "my-images" / name, kind)
    _give_features(root / "my-features")
    for name, rows in {"old": 30, "new": 30, "index": 90}.items():
        np.save(root / f"{name}.npy", np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32))
    _draw(root / "scans", 0)
    _draw(root / "new-images/gnu", 4)
    (root / "carryover/adapters/mine.py").write_text(MINE, encoding="utf-8")
    (root / "conf/adapters/mine.yaml").write_text("mine: {}\n", encoding="utf-8")
    ignored = ["/my-images/", "/new-images/", "/my-features/", "/scans/", "/*.npy", "/comparison/", "/training/", "/classifier.onnx"]
    (root / ".gitignore").open("a", encoding="utf-8").write("\n".join([*ignored, ""]))
    project.commit()
    yield project


def _draw(folder: Path, kind: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(kind)
    for i in range(8):
        pixels = random.integers(0, 60, size=(20 + i, 24, 3), dtype=np.uint8)
        pixels[..., kind % 3] += 100 + 40 * (kind // 3)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def _give_features(folder: Path) -> None:
    """Write features of three tasks of 4 + 3 + 3 classes, a cluster a class, and a network that turns them in each task."""
    random = np.random.default_rng(0)
    items, labels = random.normal(size=(40, 5)).astype(np.float32), np.arange(40) % 10
    items += 3 * random.normal(size=(10, 5)).astype(np.float32)[labels]
    versions = [items @ random.normal(size=(5, 5)).astype(np.float32) for _ in range(3)]
    for task, (first, last) in enumerate([(0, 4), (4, 7), (7, 10)]):
        own, seen = (first <= labels) & (labels < last), labels < last
        train = {"current": versions[task][own], "labels": labels[own]} | ({"previous": versions[task - 1][own]} if task else {})
        (folder / f"task{task}").mkdir(parents=True)
        save_file(train, folder / f"task{task}/train.safetensors")
        save_file({"test": versions[task][seen], "test_labels": labels[seen]}, folder / f"task{task}/test.safetensors")


def _check(project: Project, words: list[str]) -> None:
    """Assert that the parameters of an experiment make a graph of stages, and every part that they name."""
    project.compose(*words, config="small")
    project.dvc("stage", "list", "--quiet")
    for kind in ("regimes", "adapters"):
        for name, section in project.parameters()[kind].items():
            registry.build(kind, name, section)
    project.run("git", "checkout", "--quiet", "params.yaml")


def _make(project: Project, target: str) -> str:
    # The environment is the one that runs the tests: its file counts as made.
    done = project.run("make", "--assume-old=.venv/.installed", f"BIN={Path(sys.executable).parent}", target)
    return done.stdout


@pytest.mark.timeout(1500)
def test_every_command_of_the_readme_succeeds(reader: Project) -> None:
    special: dict[str, Callable[[], object]] = {
        "make repro": lambda: _make(reader, "repro"),
        # That command is the one that runs this test.
        "make test": lambda: None,
    }
    ran = []
    for command in commands():
        if command.startswith("dvc exp run -S dataset=images") and "protocol.count=3" in command:
            _draw(reader.root / "my-images" / "fox", 3)
        words = shlex.split(command)
        if "experiment=features" in words:
            words += ["-S", "regimes=[]", "-S", "adapters=[none]"]  # which the project's own configuration chooses otherwise
        if command in special:
            special[command]()
        elif not SOAK and any(word in command for word in ALIKE):
            _check(reader, [word for word in words[3:] if word != "-S"])
        else:
            if not SOAK and "--orders" in words:
                words = [*words[: words.index("--orders")], "--orders", "0"]
            modules = {"dvc": ["-m", "dvc"], "carryover": ["-m", "carryover_cli"]}
            reader.run(sys.executable, *modules.get(words[0], []), *words[1:])
        if command.startswith("make repro"):
            reader.commit()
        ran.append(command)
    assert len(ran) >= 10
    register = (reader.root / "data/classes/my-images.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[-1].strip('"') for line in register[1:]] == ["cat", "dog", "eel", "fox"]


def test_the_readme_shows_the_table_of_the_committed_run() -> None:
    # Both as committed: `make repro` writes the table anew, with this machine's seconds.
    shown = _rows(_committed("README.md").split("<!-- table -->")[1].split("<!-- /table -->")[0])
    assert shown and shown == _rows(_committed("metrics/table.md"))


@pytest.mark.parametrize("name", ["orders", "networks", "within"])
def test_the_readme_shows_the_tables_of_the_committed_comparisons(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = _rows(README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0])
    assert len(shown) > 10 and shown == _rows(tables()[name])


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def _committed(path: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), "show", f"HEAD:{path}"], check=True, capture_output=True, text=True, encoding="utf-8").stdout


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]
