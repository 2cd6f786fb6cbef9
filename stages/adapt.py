"""adapt: fit the map from the previous network's features to the current one's, on the pairs alone."""

from __future__ import annotations

import numpy as np

from carryover import adapters, artefacts
from stages import fitted, layout
from stages.command import Stopwatch, run


def main(regime: str, adapter: str, task: str) -> None:
    """Write the adapter of a task; after the first task there is nothing to carry, and an unfitted one is written."""
    clock = Stopwatch()
    method = fitted.build(adapter)
    pairs = artefacts.read(layout.features(regime, task), "features", regime=regime, task=task)
    learns = pairs.fields["paired"]
    if learns:
        parts = ("", "exemplar_", "view_")
        previous, current, labels = (np.concatenate([pairs[part + side] for part in parts]) for side in ("previous", "current", "labels"))
        # Features that were given may come without a head.
        method.fit(previous, current, labels, adapters.head_of(pairs.tensors) if "head_weight" in pairs.tensors else None)
    fitted.write(method if learns else None, pairs.fields, regime, adapter, task)
    clock.note(layout.seconds(f"adapt-{regime}-{adapter}-{task}"), layout.adapter(regime, adapter, task))


if __name__ == "__main__":
    run(main, "regime", "adapter", "task")
