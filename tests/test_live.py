"""The epochs of a training, as a file that grows while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from carryover.training import Epoch
from stages import layout, live


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layout, "LIVE", tmp_path)
    return layout.live("train-distill-task0")


def rows(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_each_epoch_is_there_as_soon_as_it_has_ended(path: Path) -> None:
    note = live.follow("train-distill-task0")
    note(Epoch(1, 1.23456789, 0.25, 0.1))
    assert rows(path) == ["epoch,loss,accuracy,learning_rate", "1,1.2346,25.00,0.1"]
    note(Epoch(2, 1, 0.5, 0.05))
    assert rows(path)[1:] == ["1,1.2346,25.00,0.1", "2,1,50.00,0.05"]


def test_a_resumed_training_goes_on_and_a_new_one_begins_anew(path: Path) -> None:
    note = live.follow("train-distill-task0")
    for number in (1, 2, 3):
        note(Epoch(number, number, 0, 0))
    live.follow("train-distill-task0")(Epoch(3, 30, 0, 0))
    assert rows(path)[1:] == ["1,1,0.00,0", "2,2,0.00,0", "3,30,0.00,0"]
    live.follow("train-distill-task0")(Epoch(1, 10, 0, 0))
    assert rows(path)[1:] == ["1,10,0.00,0"]
