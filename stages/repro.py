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

from carryover.errors import ConfigurationError, DataError
from carryover.images import processors
from stages import end_with_parent
from stages.command import guard, natural, parameters

# DVC waits for its lock no longer than a lane waits between two looks, unless it is told to.
DVC = [sys.executable, "-m", "stages.lane", "--wait-for-lock"]
GRACE_SECONDS = 10.0


def main() -> None:
    """Run what is out of date.

    Raises:
        CarryoverError: if it cannot begin: see `_graph`.
        SystemExit: if a stage failed, or DVC did, whose own sentence stands above.
    """
    # Stages are started as `python`, which is to be this one, whether or not its environment is active.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    workers = processors() // max(natural(parameters("machine", "threads"), "machine.threads"), 1)
    # Lanes wait for DVC's lock now and then: one more of them keeps the processors busy. Not where one fills them alone.
    workers += workers > 1
    with ThreadPoolExecutor(1) as beside:
        status = beside.submit(_outdated)
        graph = _graph()
        outdated = status.result()
    if outdated is not None and not outdated:
        print("Nothing has changed: no stage has to run.", file=sys.stderr)
        return
    if _nothing_cached():
        # The committed lock cannot save any work here, and DVC would rewrite all of it after each stage. The run makes
        # it anew.
        Path("dvc.lock").unlink(missing_ok=True)
        outdated = None
    lanes = _lanes(graph)
    several = min(workers, len(lanes)) > 1
    how = f", in {len(lanes)} lanes, {workers} at a time" if several else ""
    print(f"At most {_affected(graph, outdated)} of {len(graph)} stages will run{how}.", file=sys.stderr, flush=True)
    if several:
        if _is_outdated("split", graph, outdated):
            _run([["repro", "--quiet", "split"]], 1)
        _run([["repro", "--quiet", "--single-item", *lane] for lane in lanes], workers)
    _run([["repro", "--quiet"]], 1)


def _outdated() -> set[str] | None:
    """Return the stages that are out of date, as far as DVC can tell without running one; None if it cannot."""
    status = subprocess.run([*DVC, "repro", "--dry"], capture_output=True, text=True, check=False)
    # A dry run fails where the output of a stage that never ran is needed; real faults are found by `_graph` and by the real run.
    return None if status.returncode else set(re.findall(r"^Running stage '([^']+)'", status.stdout, re.MULTILINE))


def _nothing_cached() -> bool:
    """Return whether no output can come from DVC's cache or from a remote: this is the first run in a fresh clone."""
    from dvc.repo import Repo

    with Repo() as repo:
        return not Path(repo.cache.local.path).exists() and not repo.config["remote"]


def _graph() -> networkx.DiGraph:
    """Return the stages of dvc.yaml as DVC's graph, whose edges lead from a stage to what it needs.

    The commands of DVC are run quietly, for the stages speak for themselves; so what DVC would complain of is found here.

    Raises:
        ConfigurationError: if DVC cannot read its files.
        DataError: if there is no such file as a stage needs and no stage makes.
    """
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            every = repo.index.graph
            made = [f"{out.fs_path}/" for stage in every for out in stage.outs]
            # Other files may have stages of the same names; `dvc repro` does not run them.
            own = every.subgraph([stage for stage in every if stage.path_in_repo == "dvc.yaml"])
            missing = [
                (dependency.def_path, stage.name)
                for stage in own
                for dependency in stage.deps
                if not dependency.exists and not _among(f"{dependency.fs_path}/", made)
            ]
    except Exception as error:
        # DVC has an exception of its own for some faults, and passes on whatever it meets for others.
        raise ConfigurationError(f"DVC cannot make stages of dvc.yaml and params.yaml: {' '.join(str(error).split()).rstrip('.')}.") from error
    if missing:
        path, name = missing[0]
        raise DataError(f"There is no {path}, which stage {name!r} needs; put it there, or set the parameter that names it.")
    return networkx.relabel_nodes(own, lambda stage: stage.name)


def _among(path: str, made: list[str]) -> bool:
    """Return whether a path is, is in, or has in it one of those that stages make; all end with a slash."""
    return any(path.startswith(other) or other.startswith(path) for other in made)


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


def _run(commands: list[list[str]], workers: int) -> None:
    """Run commands of DVC, `workers` at a time.

    Raises:
        SystemExit: as soon as one fails, when the others have been ended.
    """
    waiting = list(commands)
    running: list[subprocess.Popen[bytes]] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                # A process group of its own, with which its stage can be ended.
                running.append(subprocess.Popen([*DVC, *waiting.pop(0)], process_group=0, preexec_fn=end_with_parent))
            time.sleep(0.05)
            if any(process.poll() for process in running):
                sys.exit(1)
            running = [process for process in running if process.returncode is None]
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
    guard(main)
