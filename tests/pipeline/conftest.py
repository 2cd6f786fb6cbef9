"""Projects to run the pipeline in: copies of the working tree with a tiny protocol, each with a cache of its own."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SOAK = bool(os.environ.get("SOAK"))
"""Whether tests of reliability run in their long version, `make soak`."""

# The primary configuration of all projects here. Two tasks of 2 + 1 digits; what is learned in two epochs suffices to see
# an adapter work.
TINY = """
defaults:
  - config
  - override regimes: [finetune, distill]
  - override adapters: [none, linear]
  - override joint: last
  - _self_
protocol: {sizes: [2, 1]}
training: {epochs: 2, increment_epochs: 2}
extraction: {views: 1}
evaluation: {classifiers: [nme, softmax], budgets: [1, 5]}
"""
RAN = re.compile(r"^(?:Running stage '(?P<ran>[^']+)':|Stage '(?P<cached>[^']+)' is cached)", re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """A project in the folder `root`; commands run there as a user would type them."""

    root: Path
    environment: dict[str, str]

    def run(self, *command: str, check: bool = True, seconds: float = 500) -> subprocess.CompletedProcess[str]:
        """Run a command, for so many seconds at most; `check` demands that it succeeds."""
        pipes: dict[str, Any] = {"capture_output": True, "text": True, "preexec_fn": _hear_interrupts}
        done = subprocess.run(command, cwd=self.root, env=self.environment, timeout=seconds, check=False, **pipes)
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command, which hears interrupts even where this process ignores them, as in the background of a script."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.root, env=self.environment, preexec_fn=_hear_interrupts, **pipes)

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `dvc`."""
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check)

    def stage(self, name: str, *values: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a stage's command without DVC."""
        return self.run(*self.command(name, *values), check=check)

    @staticmethod
    def command(name: str, *values: str) -> list[str]:
        """Return a stage's command as dvc.yaml has it; `values` follow the names below."""
        names = {
            "initialise": ["regime", "first", "state"],
            "train": ["regime", "task", "previous"],
            "extract": ["regime", "task", "previous"],
            "select": ["regime", "task"],
            "keep": ["regime", "task", "previous"],
            "adapt": ["regime", "adapter", "task"],
            "chase": ["regime", "adapter", "task", "previous"],
            "transform": ["regime", "adapter", "task", "previous"],
            "oracle": ["regime", "task"],
            "drift": ["regime", "adapter", "task", "previous"],
            "joint": ["task"],
            "evaluate": ["regime", "adapter", "task"],
            "bundle": ["regime", "adapter", "classifier", "task"],
        }.get(name, [])
        options = [word for option, value in zip(names, values, strict=True) for word in (f"--{option}", value)]
        return [sys.executable, "-m", f"stages.{name}", *options]

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; return the stages that ran or came out of the run cache, in order."""
        return ran(self.dvc("repro", *arguments).stdout)

    def parameters(self) -> dict[str, Any]:
        """Return the content of params.yaml."""
        content: dict[str, Any] = yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))
        return content

    def set(self, **values: Any) -> None:
        """Change params.yaml by hand: `training__epochs=3` sets `training.epochs`."""
        content = self.parameters()
        for path, value in values.items():
            *sections, name = path.split("__")
            place = content
            for section in sections:
                place = place[section]
            place[name] = value
        (self.root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def compose(self, *overrides: str, config: str = "tiny") -> None:
        """Compose params.yaml from conf/, as `dvc exp run -S` does before it runs."""
        code = "import sys; from pathlib import Path; from dvc.utils.hydra import compose_and_dump as c; f = str(Path('conf').resolve())\n"
        code += "c(Path('params.yaml'), f, None, sys.argv[1], f, sys.argv[2:])"
        self.run(sys.executable, "-c", code, config, *overrides)

    def lock(self) -> dict[str, Any]:
        """Return the stages in dvc.lock."""
        content: dict[str, Any] = yaml.safe_load((self.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        return content

    def digests(self, folder: str = "data") -> dict[str, str]:
        """Return the md5 of every file in a folder but the hidden ones, by path."""
        paths = [path for path in (self.root / folder).rglob("*") if path.is_file()]
        names = {path: path.relative_to(self.root) for path in paths}
        return {
            str(name): hashlib.md5(path.read_bytes()).hexdigest()
            for path, name in names.items()
            if not any(part.startswith(".") for part in name.parts) and "__pycache__" not in name.parts
        }

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text that must occur in a file."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")

    def replace(self, path: str, content: bytes) -> None:
        """Give a file other content without writing into it: it may be a hard link into the cache, or into another project."""
        (self.root / path).unlink()
        (self.root / path).write_bytes(content)

    def processes(self) -> list[psutil.Process]:
        """Return the processes that run in the project's folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.root) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def commit(self) -> None:
        """Commit everything to git."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "test")


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def ran(output: str) -> list[str]:
    """Return the stages that DVC's output says were run or restored."""
    return list(dict.fromkeys(match["ran"] or match["cached"] for match in RAN.finditer(output)))


def without_network() -> list[str]:
    """Return what a command is put behind so that it has no network, not even a loopback; nothing where that is not allowed."""
    prefix = ["unshare", "--map-root-user", "--net"]
    allowed = shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    return prefix if allowed else []


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return the error of a stage that must have failed as users are promised: exit code 1, one line, no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return lines[0]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that commands see: this interpreter first on the path, and nothing of the user's own settings."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_", "HYDRA_", "PYTHON"))}
    who = {f"GIT_{role}_{part}": "test@example.com" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    folders = {f"DVC_{name}": str(home / name) for name in ("SITE_CACHE_DIR", "GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return kept | who | folders | {"PATH": path, "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull, "SHELL": "/bin/sh"}


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Project:
    """A fresh clone of the working tree, committed, in which nothing has run; its primary configuration is the tiny one."""
    root = tmp_path_factory.mktemp("checkout")
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "bench/")) and name != "dvc.lock":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    project = Project(root, environment)
    (root / "conf/tiny.yaml").write_text(TINY, encoding="utf-8")
    project.run("git", "init", "--quiet")
    project.dvc("config", "hydra.config_name", "tiny")
    project.compose()
    project.commit()
    return project


@pytest.fixture(scope="session")
def project(checkout: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its first run, committed. Tests look at it; those that change anything take a `copy`.

    Where several processes run tests, the first that comes makes it and the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    place = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    finished, done = Project(place / "project", checkout.environment), place / "project.done"
    with (place / "project.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _copied(checkout, finished.root)
            finished.run(sys.executable, "-m", "stages.repro")
            finished.commit()
            done.touch()
    return finished


@pytest.fixture
def copy(project: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished project, to change."""
    changed = _copied(project, tmp_path / "copy")
    yield changed
    for process in changed.processes():
        process.kill()  # what a failed test may have left running
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)


@pytest.fixture(scope="module")
def shared_copy(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the finished project for all tests of a module."""
    return _copied(project, tmp_path_factory.mktemp("shared") / "copy")


@pytest.fixture
def borrowed(project: Project, shared_copy: Project) -> Iterator[Project]:
    """The module's copy, put back in order after the test; for stages run without DVC, which is quicker than a copy for each."""
    yield shared_copy
    wanted, found = project.digests("."), shared_copy.digests(".")
    for name in found.keys() - wanted.keys():
        (shared_copy.root / name).unlink()
    for name, digest in wanted.items():
        if found.get(name) != digest:
            target = shared_copy.root / name
            target.unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project.root / name, target)
    shutil.rmtree(shared_copy.root / "data/raw", ignore_errors=True)


@pytest.fixture
def fresh(checkout: Project, tmp_path: Path) -> Callable[[str], Project]:
    """Makes copies of the fresh clone, by name."""
    return lambda name: _copied(checkout, tmp_path / name)


def _copied(project: Project, target: Path) -> Project:
    def duplicate(source: str, destination: str) -> None:
        # Artefacts and cached files are replaced, never written into, so links are as good as copies.
        link = source.endswith(".safetensors") or "/.dvc/cache/" in source
        (os.link if link else shutil.copyfile)(source, destination)

    shutil.copytree(project.root, target, copy_function=duplicate, dirs_exist_ok=True)
    return Project(target, project.environment)
