"""The same bytes again: when everything is forced, without a network, in another folder, and with other numbers of threads and processors."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest
from conftest import SOAK, Project, without_network

STAGES = {
    "train": ("distill", "task1", "task0"),
    "extract": ("distill", "task1", "task0"),
    "adapt": ("distill", "linear", "task1"),
    "evaluate": ("distill", "linear", "task1"),
}


@pytest.mark.skipif(not SOAK, reason="runs everything again, one stage after another: make soak; a part of it is in test_running.py")
@pytest.mark.timeout(1500)
def test_forced_again_in_another_folder_and_without_network_every_stage_gives_the_same_bytes(project: Project, copy: Project) -> None:
    prefix = without_network()
    copy.run(*prefix, sys.executable, "-m", "dvc", "repro", "--force", seconds=1400)
    assert copy.lock() == project.lock()
    wanted = project.digests()
    assert copy.digests() == wanted
    network = "without a network" if prefix else "with its network, for this machine does not let it be cut"
    print(f"{len(wanted)} files of {len(copy.lock())} stages have the same bytes when forced again, in another folder, {network}")


@pytest.mark.parametrize("stage", STAGES)
def test_threads_and_processors_of_the_environment_change_no_byte(borrowed: Project, stage: str) -> None:
    before = borrowed.digests()
    few = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    many = {name: "3" for name in few}
    for threads, prefix in ((few, ["taskset", "--cpu-list", "0"]), (many, [])):
        narrowed = Project(borrowed.root, borrowed.environment | threads)
        narrowed.run(*prefix, *borrowed.command(stage, *STAGES[stage]))
        assert borrowed.digests() == before


def test_what_does_change_bytes_is_a_parameter_that_stages_depend_on(project: Project) -> None:
    locked = project.lock()
    for stage in ("train@distill-task1", "extract@distill-task1", "oracle@distill-task1", "joint@task1"):
        assert "machine" in locked[stage]["params"]["params.yaml"]


@pytest.mark.skipif(not SOAK, reason="a matter of minutes, on an idle machine: make soak")
@pytest.mark.timeout(7200)
def test_light_stages_in_lanes_are_faster_and_give_the_same_bytes(fresh: Callable[[str], Project]) -> None:
    seconds, projects = {}, {}
    for name, command in {"serial": ["dvc", "repro"], "lanes": ["stages.repro"]}.items():
        projects[name] = fresh(name)
        settings = ["adapters=[none,sdc,linear]", "joint=never"]
        projects[name].compose(*settings)
        projects[name].run(sys.executable, "-m", *command)
        # Another memory: the trainings stand, and the light stages after them run.
        projects[name].compose(*settings, "memory=per_class", "memory.per_class=7")
        began = time.monotonic()
        projects[name].run(sys.executable, "-m", *command)
        seconds[name] = time.monotonic() - began
    assert projects["serial"].lock() == projects["lanes"].lock()
    assert projects["serial"].digests() == projects["lanes"].digests()
    ratio = seconds["serial"] / seconds["lanes"]
    times = ", ".join(f"{name} {taken:.0f} s" for name, taken in seconds.items())
    print(f"{len(projects['lanes'].lock())} stages: {times}; lanes are {ratio:.2f} times as fast")
    assert ratio > 1
