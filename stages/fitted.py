"""Fitted adapters as artefacts, for the stages that write or use them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from carryover import artefacts, registry
from carryover.adapters import Adapter, parameter_count
from carryover.errors import ArtefactError
from stages import layout
from stages.command import parameters


def build(adapter: str) -> Any:
    """Return the adapter with the parameters that params.yaml has, to be used on its machine.device."""
    method = registry.build("adapters", adapter, parameters("adapters", adapter))
    method.device = parameters("machine", "device")
    if method.form is not None:
        method.form.device = method.device
    return method


def write(method: Adapter | None, pairs: Mapping[str, Any], regime: str, adapter: str, task: str) -> None:
    """Write what an adapter learned in a task; None, after the first task, stands for one that is not fitted: there was nothing to carry.

    `pairs` are the fields of the features that it learned from, which say what classes were seen.
    """
    state = {} if method is None else method.state()
    parameters = 0 if method is None else parameter_count(method)
    fields = {"parameters": parameters, "fitted": method is not None, "seen": pairs["seen"], "seen_before": pairs["seen_before"]}
    artefacts.write(layout.adapter(regime, adapter, task), "adapter", state, regime=regime, adapter=adapter, task=task, **fields)


def carry(method: Adapter, learned: artefacts.Artefact, path: Path, features: np.ndarray) -> np.ndarray:
    """Return features [n, d] carried by what the method `learned`.

    Raises:
        ArtefactError: if the artefact at `path` holds another method's state, or one of another dimension.
    """
    try:
        carried = method.restore(learned.tensors).transform(features)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise ArtefactError(f"{path} holds no adapter of features of dimension {features.shape[1]} ({' '.join(str(error).split())}).") from error
    artefacts.check_same(path, "features", carried.shape[1], features.shape[1])
    return carried
