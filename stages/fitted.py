"""Fitted adapters as artefacts, for the stages that write them."""

from __future__ import annotations

from carryover import artefacts
from carryover.adapters import Adapter, parameter_count
from stages import layout


def write(method: Adapter | None, regime: str, adapter: str, task: str) -> None:
    """Write what an adapter learned in a task; None, after the first task, stands for one that is not fitted: there was nothing to carry."""
    state = {} if method is None else method.state()
    parameters = 0 if method is None else parameter_count(method)
    fields = {"parameters": parameters, "fitted": method is not None}
    artefacts.write(layout.adapter(regime, adapter, task), "adapter", state, regime=regime, adapter=adapter, task=task, **fields)
