"""grow: learn the classes of one folder as a task of its own, from the state before it: every learning verb in one process."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from carryover import artefacts, registry
from carryover.artefacts import replacing
from carryover.bundle import KIND
from carryover.images import read_images
from carryover.machine import Machine
from carryover.metrics import class_accuracies
from stages import adapt, bundle, chase, extract, keep, layout, networks, select, train, transform
from stages.command import parameters, run


def main(task: str, previous: str) -> None:
    """Write the state after a growth, its bundle, and how well new classes are told among all.

    What only the next verb reads is removed at the end: it holds a feature of every image.
    """
    before = artefacts.read_header(layout.bundle(previous), KIND)["fields"]
    method = before["origin"]["method"]
    regime, adapter = method["regime"], method["adapter"]
    train.main(regime, task, previous)
    extract.main(regime, task, previous)
    select.main(regime, task)
    keep.main(regime, task, previous)
    # Exemplars are their own memory, which the new network has just looked at.
    if adapter != "exemplars":
        if adapter in parameters("chasing"):
            chase.main(regime, adapter, task, previous)
        else:
            adapt.main(regime, adapter, task)
        transform.main(regime, adapter, task, previous)
    test, fields = read_images(layout.images(task, "test"), "task-images", task=task, part="test")
    classes = [*before["classes"], *fields["classes"]]
    # In float32, as whoever predicts with the bundle, and on the processors and the device that the rest was given.
    where = Machine(**registry.checked(Machine, parameters("machine") | {"precision": "float32"}, "machine"))
    seen = networks.seen(layout.backbone(regime, task))
    made = bundle.make(regime, adapter, method["classifier"], task, seen, classes, test.shape, where)
    made.write(layout.bundle(task))
    guessed = made.predict_proba(test.gather(np.arange(len(test)))).argmax(axis=1)
    accuracies = class_accuracies(guessed, np.asarray(test.labels), len(classes))[len(before["classes"]) :]
    scores: dict[str, Any] = {
        "classes": len(classes),
        "new": len(fields["classes"]),
        "test_images": len(test),
        "accuracy_of_new": round(float(np.nanmean(accuracies)), 6),
        "memory_bytes": layout.memory(regime, adapter, task).stat().st_size,
    }
    with replacing(layout.growth(task) / "scores.json") as path:
        path.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    for path in layout.passing(regime, adapter, task):
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    run(main, "task", "previous")
