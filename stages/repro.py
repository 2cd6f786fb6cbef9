"""repro: `dvc repro` with independent lanes side by side: each regime, and the joint bound after each task, is a lane of its own.

DVC runs one stage at a time. Its lock is free while a stage's command runs, so several `dvc repro --single-item` of
stages that do not depend on each other's lane can share the machine. The last step is a plain `dvc repro`: whatever
the lanes did or left undone, the result is DVC's own. Stages use a fixed number of threads each, so the bytes are the
same as in one lane.

A lane that fails ends the others, as it would end a plain `dvc repro`; so does Ctrl-C. Unfinished training goes on from
its checkpoint the next time.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import networkx

from carryover.errors import CarryoverError
from carryover.images import processors
from stages import end_with_parent
from stages.command import natural, parameters

DVC = [sys.executable, "-m", "dvc"]
# DVC holds its lock for some hundredths of a second and looks twice a second whether it is free; a lane looks more often.
LANE = [sys.executable, "-c", "import sys, dvc.lock; dvc.lock.DEFAULT_TIMEOUT = 0.06; from dvc.cli import main; sys.exit(main())"]
GRACE_SECONDS = 10.0


def main() -> int:
    """Run what is out of date; return an exit code."""
    # Stages are started as `python`, which is to be this one, whether or not its environment is active.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with ThreadPoolExecutor(1) as beside:
            status = beside.submit(_outdated)
            graph = _graph()
            outdated = status.result()
        if outdated is not None and not outdated:
            print("Nothing has changed: no stage has to run.", file=sys.stderr)
            return 0
        if _nothing_cached():
            # The committed lock cannot save any work here, and DVC would rewrite all of it after each stage. The run makes
            # it anew.
            Path("dvc.lock").unlink(missing_ok=True)
            outdated = None
        lanes = _lanes(graph)
        workers = processors() // max(natural(parameters("machine", "threads"), "machine.threads"), 1)
        # Lanes wait for DVC's lock now and then: one more of them keeps the processors busy. Not where one fills them alone.
        workers += workers > 1
        several = min(workers, len(lanes)) > 1
        how = f", in {len(lanes)} lanes, {workers} at a time" if several else ""
        print(f"At most {_affected(graph, outdated)} of {len(graph)} stages will run{how}.", file=sys.stderr, flush=True)
        waiting = [["--wait-for-lock", "repro", "--quiet", "--single-item", *lane] for lane in lanes]
        if several and ((_is_outdated("split", graph, outdated) and _run([["repro", "--quiet", "split"]], 1)) or _run(waiting, workers, LANE)):
            return 1
        return _run([["repro", "--quiet"]], 1)
    except CarryoverError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _outdated() -> set[str] | None:
    """Return the stages that are out of date, as far as DVC can tell without running one; None if it cannot."""
    status = subprocess.run([*DVC, "repro", "--dry"], capture_output=True, text=True, check=False)
    # A dry run fails where the output of a stage that never ran is needed; a real fault is reported by the real run.
    return None if status.returncode else set(re.findall(r"^Running stage '([^']+)'", status.stdout, re.MULTILINE))


def _nothing_cached() -> bool:
    """Return whether no output can come from DVC's cache or from a remote: this is the first run in a fresh clone."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            return not Path(repo.cache.local.path).exists() and not repo.config["remote"]
    except DvcException:
        return False


def _graph() -> networkx.DiGraph:
    """Return the stages of dvc.yaml as DVC's graph, whose edges lead from a stage to what it needs; an empty one if DVC cannot read its files."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph = repo.index.graph
            # Other files may have stages of the same names; `dvc repro` does not run them.
            own = graph.subgraph([stage for stage in graph if stage.path_in_repo == "dvc.yaml"])
            return networkx.relabel_nodes(own, lambda stage: stage.name)
    except DvcException:
        return networkx.DiGraph()


def _is_outdated(name: str, graph: networkx.DiGraph, outdated: set[str] | None) -> bool:
    """Return whether a stage, or one that it needs, is out of date or may be."""
    return outdated is None or not outdated.isdisjoint({name, *networkx.descendants(graph, name)})


def _affected(graph: networkx.DiGraph, outdated: set[str] | None) -> int:
    """Return how many stages are out of date or need one that is."""
    return len(graph) if outdated is None else len(outdated.union(*(networkx.ancestors(graph, name) for name in outdated & set(graph))))


def _lanes(graph: networkx.DiGraph) -> list[list[str]]:
    """Return the stages of each lane in an order in which they can run.

    What a matrix makes belongs to a lane; the other stages are common to all. Lanes are what then still hangs together.
    """
    own = graph.subgraph([name for name in graph if "@" in name])
    parts = [own.subgraph(part).reverse() for part in networkx.weakly_connected_components(own)]
    return sorted((list(networkx.topological_sort(part)) for part in parts), key=len, reverse=True)


def _run(commands: list[list[str]], workers: int, program: list[str] = DVC) -> int:
    """Run commands of DVC, `workers` at a time; return 0, or 1 as soon as one fails, when the others have been ended."""
    waiting = list(commands)
    running: list[subprocess.Popen[bytes]] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                # A process group of its own, with which its stage can be ended.
                running.append(subprocess.Popen([*program, *waiting.pop(0)], process_group=0, preexec_fn=end_with_parent))
            time.sleep(0.05)
            if any(process.poll() for process in running):
                return 1
            running = [process for process in running if process.returncode is None]
        return 0
    finally:
        _end(running)


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    """End processes and their groups: by an interrupt, which leaves DVC's files in order, and harder if that is not heard."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        for process in running:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
