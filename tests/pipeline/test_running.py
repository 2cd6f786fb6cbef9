"""What runs when: nothing twice, and nothing that a change does not reach."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable

from conftest import Project, ran, without_network


def test_lanes_side_by_side_give_what_dvc_repro_gives_in_another_folder_and_without_network(
    project: Project, fresh: Callable[[str], Project]
) -> None:
    plain = fresh("plain")
    done = plain.run(*without_network(), sys.executable, "-m", "dvc", "repro", "evaluate@distill-linear-task1", "evaluate_joint@task1")
    names = ran(done.stdout)
    assert {"train@distill-task0", "train@distill-task1", "adapt@distill-linear-task1", "joint@task1"} <= set(names)
    assert "evaluate@finetune-none-task0" in project.lock()
    for name, entry in plain.lock().items():
        assert entry == project.lock()[name], name


def test_nothing_runs_when_nothing_changed(copy: Project) -> None:
    before = copy.digests()
    assert copy.repro() == []
    done = copy.run(sys.executable, "-m", "stages.repro")
    assert (done.stdout, done.stderr) == ("", "Nothing has changed: no stage has to run.\n")
    assert copy.digests() == before
    assert copy.run("git", "status", "--porcelain").stdout == ""


def test_the_first_line_says_how_many_stages_will_run(copy: Project) -> None:
    copy.set(adapters__linear__ridge=0.5)
    running = copy.start(sys.executable, "-m", "stages.repro")
    assert running.stderr
    line = running.stderr.readline()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    after = {"report"} | ({"bundle"} if copy.parameters()["bundle"]["adapter"] == "linear" else set())
    affected = after | {name for name in copy.lock() if "-linear-" in name}
    assert line.startswith(f"At most {len(affected)} of {len(copy.lock())} stages will run")


def test_changing_an_adapter_runs_that_adapter_alone(copy: Project) -> None:
    copy.set(adapters__linear__ridge=0.5)
    names = copy.repro("evaluate@finetune-linear-task1", "evaluate@finetune-none-task1")
    assert set(names) == {f"{verb}@finetune-linear-{task}" for verb in ("adapt", "transform") for task in ("task0", "task1")} | {
        "evaluate@finetune-linear-task1"
    }


def test_changing_a_metric_runs_no_stage_that_learns(copy: Project) -> None:
    metrics = copy.root / "carryover/metrics.py"
    metrics.write_text(metrics.read_text(encoding="utf-8") + "\n# A comment.\n", encoding="utf-8")
    assert copy.repro("sources") == ["sources"]
    stale = {name.split("@")[0] for name in ran(copy.dvc("repro", "--dry").stdout)}
    assert stale == {"evaluate", "evaluate_joint", "bundle", "report"}


def test_an_appended_task_runs_the_new_task_alone(copy: Project) -> None:
    before = copy.digests()
    copy.compose("protocol.sizes=[2,1,1]", "regimes=[distill]")
    names = copy.repro()
    assert {name for name in names if not name.endswith("task2")} == {"split", "bundle@distill", "report"}
    assert {name.split("@")[0] for name in names} == {
        "split", "train", "extract", "select", "keep", "adapt", "transform", "oracle", "drift", "joint", "observe_joint",
        "evaluate", "evaluate_joint", "bundle", "report",
    }  # fmt: skip
    after = copy.digests()
    # What predicts does so after the last task.
    assert {path for path, digest in before.items() if after.get(path) != digest} == {"data/bundle.safetensors"}
    assert json.loads((copy.root / "data/evaluations/distill/linear/task2.json").read_text(encoding="utf-8"))["sizes"] == [2, 1, 1]
