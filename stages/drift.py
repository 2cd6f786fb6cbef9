"""drift: measures only: carry the features of old classes' test images as the memory was carried, and compare with where they truly are."""

from __future__ import annotations

import json

import numpy as np

from carryover import artefacts
from carryover.artefacts import replacing
from carryover.drift import measure
from carryover.errors import ArtefactError
from stages import drifts, fitted, layout
from stages.command import run


def main(regime: str, adapter: str, task: str, previous: str) -> None:
    """Write the carried test features after a task, and how far they are from the true ones."""
    before = drifts.read(regime, adapter, previous)
    seen = artefacts.read(layout.observations(regime, task), "observations", regime=regime, task=task)
    learned = artefacts.read(layout.adapter(regime, adapter, task), "adapter", regime=regime, adapter=adapter, task=task, seen=seen.fields["seen"])
    artefacts.check_same(layout.drift(regime, adapter, previous), "features", before["carried"].shape[1], seen["test_features"].shape[1])
    current, labels, known = seen["test_features"], seen["test_labels"], len(before["labels"])
    if not np.array_equal(labels[:known], before["labels"]):
        raise ArtefactError(
            f"{layout.observations(regime, task)} has other test images than {layout.drift(regime, adapter, previous)}: one of them was swapped."
        )
    carried = before["carried"]
    if known:
        method = fitted.build(adapter)
        carried = fitted.carry(method, learned, layout.adapter(regime, adapter, task), carried)
    stored, carried = (np.concatenate([old, current[known:]]) for old in (before["stored"], carried))
    rows = [drift.row() for drift in measure(stored, carried, current, labels, seen.fields["sizes"])]
    fields = {"regime": regime, "adapter": adapter, "task": task}
    with replacing(layout.drift_scores(regime, adapter, task)) as temporary:
        temporary.write_text(json.dumps(fields | {"classes": rows}, indent=1) + "\n", encoding="utf-8")
    drifts.write(stored, carried, current, labels, **fields)


if __name__ == "__main__":
    run(main, "regime", "adapter", "task", "previous")
