"""A run killed at random moments, again and again: it ends with what an undisturbed run has, entry for entry and byte for byte.

`make soak` kills thirty times, from the first stage on.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import psutil
import pytest
from conftest import SOAK, Project
from safetensors import safe_open

KILLS = 30 if SOAK else 4
TARGET = "evaluate@distill-linear-task1"
LOST = ("train", "extract", "select", "adapt@distill-linear", "transform@distill-linear")
DVC, LANES = [sys.executable, "-m", "dvc", "repro"], [sys.executable, "-m", "stages.repro"]
VICTIMS = ["process group", "dvc alone", "stage alone", *(["lanes"] if SOAK else [])]


def lose_some(project: Project) -> None:
    """Remove some outputs of a finished project, from its cache too, so that they have to be made again."""
    for name, entry in project.lock().items():
        if name.startswith(LOST) and name.endswith("distill-task1" if "adapt" not in name else "task1") and "finetune" not in name:
            for out in entry["outs"]:
                (project.root / out["path"]).unlink()
                (project.root / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).unlink(missing_ok=True)


def stages_of(process: psutil.Popen) -> list[psutil.Process]:
    """Return the stages that run under a process, by what they are called."""
    found: list[psutil.Process] = []
    try:
        children = process.children(recursive=True)
    except psutil.NoSuchProcess:  # it ended meanwhile
        return found
    for child in children:
        with contextlib.suppress(psutil.Error):
            if re.search(r"-m stages\.(?!repro)", " ".join(child.cmdline())):
                found.append(child)
    return found


def whole_files(project: Project) -> int:
    """Assert that every artefact that is there is whole; return how many there are."""
    paths = [project.root / name for name in project.digests()]
    for path in paths:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as handle:
                assert handle.metadata()
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    return len(paths)


@pytest.mark.timeout(7200 if SOAK else 600)
def test_a_run_that_is_killed_and_repeated_ends_as_an_undisturbed_one(project: Project, copy: Project, fresh: Callable[[str], Project]) -> None:
    killed = fresh("killed") if SOAK else copy
    if not SOAK:
        lose_some(killed)
        assert killed.lock() == project.lock() and killed.digests() != project.digests()
    # Printed, so that a failure can be looked for again; the moments differ anyway.
    seed = random.randrange(10**6)
    moments, kills, checked = random.Random(seed), Counter[str](), 0
    for victim in itertools.islice(itertools.cycle(VICTIMS), KILLS):
        command = LANES if victim == "lanes" else [*DVC, *([] if SOAK else [TARGET])]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        process = psutil.Popen(command, cwd=killed.root, env=killed.environment, **pipes)
        while process.poll() is None and not stages_of(process):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 5 if SOAK else 2))
        running = [process] if victim != "stage alone" else stages_of(process)
        while not running and process.poll() is None:
            running = stages_of(process)
        if process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):  # it may end at that moment
                os.killpg(process.pid, signal.SIGKILL) if victim in ("process group", "lanes") else running[-1].kill()
                kills[victim] += 1
        errors = process.communicate()[1]
        if victim == "stage alone" and kills[victim]:
            # As where the kernel ends a stage because memory has run out.
            assert "failed to reproduce" not in errors or re.search(r"failed to run: python -m stages.*exited with -?\d+", errors), errors
        # No stage outlives its run, and so none can write into the next one.
        assert psutil.wait_procs(killed.processes(), timeout=20)[1] == []
        checked += whole_files(killed)
    killed.dvc("repro")
    assert killed.repro() == []
    assert killed.lock() == project.lock()
    assert killed.digests() == project.digests()
    print(f"{sum(kills.values())} kills survived ({', '.join(f'{n} of {v}' for v, n in kills.items())}), seed {seed}")
    print(f"{checked} files whole after them; {len(killed.lock())} entries of dvc.lock and {len(killed.digests())} files equal at the end")
