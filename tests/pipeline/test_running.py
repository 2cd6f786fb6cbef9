"""What runs when: nothing twice, and nothing that a change does not reach."""

from __future__ import annotations

import pytest
from conftest import Project


def test_the_pipeline_runs_from_a_fresh_clone(project: Project) -> None:
    assert (project.root / "metrics/summary.json").exists()
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_nothing_runs_when_nothing_changed(copy: Project) -> None:
    before = copy.digests()
    assert copy.repro() == []
    assert copy.digests() == before
    assert copy.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("regime", ["finetune"])
def test_changing_an_adapter_runs_that_adapter_alone(copy: Project, regime: str) -> None:
    copy.set(adapters__linear__ridge=0.5)
    names = copy.repro()
    assert names
    assert {name.split("@")[0] for name in names} == {"adapt", "transform", "evaluate", "report"}
    assert all("-linear-" in name for name in names if name != "report")
