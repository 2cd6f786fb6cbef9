"""The state before the first task, for the stages that write it: memories without a class, and nothing that could drift."""

from __future__ import annotations

from collections.abc import Sequence

from carryover.memory import Memory
from stages import drifts, layout


def write_empty(regime: str, state: str, d: int, columns: Sequence[str], paired: Sequence[str], storage: str) -> None:
    """Write the empty memory of each column, and the empty observations of each paired adapter, for features of dimension `d`."""
    for adapter in columns:
        Memory.empty(d, storage).write(layout.memory(regime, adapter, state), regime=regime, adapter=adapter, task=state, seen="")
    # The folder is an output also where there is no adapter to measure.
    layout.drift(regime, "any", state).parent.mkdir(parents=True, exist_ok=True)
    for adapter in paired:
        drifts.write_empty(d, regime=regime, adapter=adapter, task=state)
