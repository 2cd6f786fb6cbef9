"""repro: `dvc repro` with independent lanes side by side: each regime, and the joint bound, is a lane of its own.

DVC runs one stage at a time. Its lock is free while a stage's command runs, so several `dvc repro --single-item` of
stages that do not depend on each other's lane can share the machine. The last step is a plain `dvc repro`: whatever
the lanes did or left undone, the result is DVC's own. Stages use a fixed number of threads each, so the bytes are the
same as in one lane.
"""

from __future__ import annotations

import os
import subprocess
import sys

from stages.command import parameters


def main() -> int:
    """Run what is out of date; return DVC's exit code."""
    if not _anything_to_do():
        return 0
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lanes = [lane for lane in _lanes() if lane]
    print(f"{sum(map(len, lanes)) + 3} stages to look at, in {len(lanes)} lanes.", file=sys.stderr, flush=True)
    if processors > 1 and len(lanes) > 1:
        if _dvc("repro", "--quiet", "split").wait():
            return 1
        running = [_dvc("--wait-for-lock", "repro", "--quiet", "--single-item", *lane) for lane in lanes]
        if any([process.wait() for process in running]):
            return 1
    return _dvc("repro", "--quiet").wait()


def _anything_to_do() -> bool:
    """Return whether any stage is out of date, as far as DVC can tell without running one."""
    status = subprocess.run(["dvc", "repro", "--dry"], capture_output=True, text=True, check=False)
    # A dry run fails where the output of a stage that never ran is needed; a real fault is reported by the real run.
    return status.returncode != 0 or any(line.startswith("Running stage ") for line in status.stdout.splitlines())


def _lanes() -> list[list[str]]:
    """Return the stages of each regime, and those of the joint bound, in an order in which they can run."""
    tasks = [task["id"] for task in parameters("tasks")]
    lanes = []
    for regime in parameters("regimes"):
        lane = [f"initialise@{regime}"]
        for task in tasks:
            lane += [f"{verb}@{regime}-{task}" for verb in ("train", "extract", "select", "oracle")]
            lane += [f"{verb}@{regime}-{adapter}-{task}" for adapter in parameters("adapters") for verb in ("adapt", "transform")]
            lane += [f"evaluate@{regime}-{column}-{task}" for column in parameters("columns")]
        lanes.append(lane)
    lanes.append([f"{verb}@{task['id']}" for task in parameters("joint_tasks") for verb in ("joint", "evaluate_joint")])
    return lanes


def _dvc(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["dvc", *arguments])


if __name__ == "__main__":
    sys.exit(main())
