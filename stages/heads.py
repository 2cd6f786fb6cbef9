"""The head of a network's artefact, for the stages that need no network: they start without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from carryover import artefacts
from carryover.adapters import Head


def read(path: Path, **expected: Any) -> Head:
    """Read the head alone."""
    artefact = artefacts.read(path, "backbone", **expected)
    weight = artefact["head.weight"]
    if "head.scale" in artefact.tensors:
        return Head(weight, np.zeros(len(weight), dtype=np.float32), float(artefact["head.scale"]))
    return Head(weight, artefact["head.bias"])
