"""Runs that meet, are killed, fail or are interrupted: nothing half is left, and nothing is lost."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import zc.lockfile
from conftest import Project

from carryover import artefacts


def _wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_two_runs_of_one_stage_do_not_race(copy: Project) -> None:
    # Long enough that the second comes while the first still trains.
    copy.set(training__increment_epochs=60)
    running = [copy.start(*copy.command("train", "distill", "task1", "task0")) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted("Waiting for another run" in error for error in errors) == [False, True]
    artefacts.read(copy.root / "data/backbones/distill/task1.safetensors", "backbone", regime="distill", task="task1")


def test_killed_training_goes_on_and_ends_with_the_same_bytes(copy: Project) -> None:
    copy.set(training__increment_epochs=100)
    target, checkpoint = copy.root / "data/backbones/distill/task1.safetensors", copy.root / "data/.scratch/train-distill-task1.safetensors"
    copy.stage("train", "distill", "task1", "task0")
    whole = target.read_bytes()
    assert not checkpoint.exists()
    target.unlink()

    copy.set(training__increment_epochs=100)
    process = copy.start(*copy.command("train", "distill", "task1", "task0"))
    _wait_for(checkpoint.exists)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not target.exists()

    # A mark in the losses so far shows that the next run took them over.
    saved = artefacts.read(checkpoint, "checkpoint")
    fields = saved.fields | {"losses": [-1.0, *saved.fields["losses"][1:]]}
    artefacts.write(checkpoint, "checkpoint", saved.tensors, **fields)
    copy.stage("train", "distill", "task1", "task0")
    resumed = artefacts.read(target, "backbone")
    assert resumed.fields["losses"][0] == -1.0
    losses = artefacts.read_header(_kept(copy, whole), "backbone")["fields"]["losses"]
    artefacts.write(target, "backbone", resumed.tensors, **(resumed.fields | {"losses": [losses[0], *resumed.fields["losses"][1:]]}))
    assert target.read_bytes() == whole


def test_killed_joint_training_goes_on_and_ends_with_the_same_bytes(copy: Project) -> None:
    copy.set(training__epochs=60)
    target, checkpoint = copy.root / "data/backbones/joint/task1.safetensors", copy.root / "data/.scratch/joint-task1.safetensors"
    copy.stage("joint", "task1")
    whole = target.read_bytes()
    assert not checkpoint.exists()
    target.unlink()
    process = copy.start(*copy.command("joint", "task1"))
    _wait_for(checkpoint.exists)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not target.exists()
    done = artefacts.read_header(checkpoint, "checkpoint")["fields"]["epoch"]
    copy.stage("joint", "task1")
    assert 0 < done < 60 and target.read_bytes() == whole and not checkpoint.exists()


def _kept(project: Project, content: bytes) -> Path:
    path = project.root / "whole.safetensors"
    path.write_bytes(content)
    return path


def test_a_checkpoint_of_other_settings_is_not_used(copy: Project) -> None:
    checkpoint = copy.root / "data/.scratch/train-finetune-task1.safetensors"
    copy.set(training__increment_epochs=100)
    process = copy.start(*copy.command("train", "finetune", "task1", "task0"))
    _wait_for(checkpoint.exists)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    before = copy.digests()
    copy.set(training__increment_epochs=2)
    copy.stage("train", "finetune", "task1", "task0")
    assert copy.digests() == before


def test_a_run_waits_for_the_lock_of_another_dvc(copy: Project) -> None:
    copy.set(evaluation__budgets=[1, 4])
    with contextlib.closing(zc.lockfile.LockFile(str(copy.root / ".dvc/tmp/lock"))):
        process = copy.start(sys.executable, "-m", "stages.repro")
        time.sleep(6)
        assert process.poll() is None
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "Error" not in errors


def test_a_lane_that_fails_ends_the_others(copy: Project) -> None:
    copy.set(training__epochs=5000, regimes__distill__temperature=-1.0)
    done = copy.run(sys.executable, "-m", "stages.repro", check=False)
    assert done.returncode == 1
    assert "Error: Parameter regimes.distill.temperature is -1.0" in done.stderr
    assert done.stderr.count("Error:") == 1 and "Traceback" not in done.stderr
    assert copy.processes() == []


def test_a_lane_whose_stage_is_killed_says_so(copy: Project) -> None:
    copy.set(training__epochs=5000)
    process = copy.start(sys.executable, "-m", "stages.repro")
    _wait_for(lambda: any((copy.root / "data/.scratch").glob("train-*-task0.safetensors")))
    next(found for found in copy.processes() if "stages.train" in found.cmdline()).kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    told = r"Error: DVC failed to reproduce 'train@\w+-task0': failed to run: python -m stages\.train .*, exited with (-9|137)\."
    assert re.search(told, errors)
    assert errors.count("Error:") == 1 and "Traceback" not in errors
    assert copy.processes() == []


def test_an_interrupted_run_leaves_no_process_behind(copy: Project) -> None:
    copy.set(training__epochs=5000)
    process = copy.start(sys.executable, "-m", "stages.repro")
    _wait_for(lambda: any((copy.root / "data/.scratch").glob("train-*-task0.safetensors")))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert copy.processes() == []
