"""What the stage `drift` carries from task to task, for the stages that write or read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from carryover import artefacts
from stages import layout

KIND = "drift"


def path(regime: str, adapter: str, task: str) -> Path:
    """Test features of all classes seen: as they were when learned, carried since, and current."""
    return layout.DATA / "drifts" / regime / task / f"{adapter}.safetensors"


def scores(regime: str, adapter: str, task: str) -> Path:
    """Predicted against actual drift of each old class."""
    return path(regime, adapter, task).with_suffix(".json")


def read(regime: str, adapter: str, task: str) -> artefacts.Artefact:
    """Read the features `stored`, `carried` and `current` [n, d] with `labels` [n].

    Raises:
        ArtefactError: if the file is not that artefact.
    """
    return artefacts.read(path(regime, adapter, task), KIND, regime=regime, adapter=adapter, task=task)


def write(stored: np.ndarray, carried: np.ndarray, current: np.ndarray, labels: np.ndarray, regime: str, adapter: str, task: str) -> None:
    """Write them."""
    tensors = {"stored": stored, "carried": carried, "current": current, "labels": labels}
    artefacts.write(path(regime, adapter, task), KIND, tensors, regime=regime, adapter=adapter, task=task)


def write_empty(d: int, regime: str, adapter: str, task: str) -> None:
    """Write the state before the first task: no image."""
    none = np.empty((0, d), dtype=np.float32)
    write(none, none, none, np.empty(0, dtype=np.int64), regime, adapter, task)
