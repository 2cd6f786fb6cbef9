"""Thousands of broken inputs: each is read or refused in one sentence, soon, in bounded memory, and nothing lands outside the project.

`make soak` tries twenty thousand.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = bool(os.environ.get("SOAK"))
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.timeout(7200 if SOAK else 300)
def test_broken_input_is_read_or_refused() -> None:
    targets, count = ["artefacts", "images", "archives", "parameters", "commands"], 4200 if SOAK else 80
    # Other inputs every time; the message of a failure names them.
    seed = random.randrange(10**6)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests/fuzz.py"), ",".join(targets), str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    tallies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [tally["target"] for tally in tallies] == targets
    for tally in tallies:
        read, refused = tally.get("read", 0), tally.get("refused", 0)
        assert read + refused == count
        print(f"{tally['target']}: {count} broken inputs, {read} read, {refused} refused (seed {seed})")
