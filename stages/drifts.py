"""What the stage `drift` carries from task to task, for the stages that write or read it."""

from __future__ import annotations

import numpy as np

from carryover import artefacts
from stages import layout

KIND = "drift"


def read(regime: str, adapter: str, task: str) -> artefacts.Artefact:
    """Read the features `stored`, `carried` and `current` [n, d] with `labels` [n].

    Raises:
        ArtefactError: if the file is not that artefact.
    """
    return artefacts.read(layout.drift(regime, adapter, task), KIND, regime=regime, adapter=adapter, task=task)


def write(stored: np.ndarray, carried: np.ndarray, current: np.ndarray, labels: np.ndarray, regime: str, adapter: str, task: str) -> None:
    """Write them."""
    tensors = {"stored": stored, "carried": carried, "current": current, "labels": labels}
    artefacts.write(layout.drift(regime, adapter, task), KIND, tensors, regime=regime, adapter=adapter, task=task)


def write_empty(d: int, regime: str, adapter: str, task: str) -> None:
    """Write the state before the first task: no image."""
    none = np.empty((0, d), dtype=np.float32)
    write(none, none, none, np.empty(0, dtype=np.int64), regime, adapter, task)
