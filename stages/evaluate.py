"""evaluate: score one memory with every classifier and budget, on validation images (which may choose) and test images (which only report)."""

from __future__ import annotations

import json
from dataclasses import asdict

from carryover import artefacts, ledger, registry, rehearsal
from carryover.adapters import head_of
from carryover.artefacts import replacing
from carryover.evaluation import Evaluation, evaluate
from carryover.memory import KIND, Memory
from stages import layout
from stages.command import parameters, run


def main(regime: str, adapter: str, task: str) -> None:
    """Write the scores of a cell of the table after a task."""
    settings = Evaluation(**registry.checked(Evaluation, parameters("evaluation"), "evaluation"))
    fields = {"regime": regime, "adapter": adapter, "task": task}
    path = layout.memory(regime, adapter, task)
    seen = artefacts.read(layout.observations(regime, task), "observations", regime=regime, task=task)
    known = seen.fields["seen"]
    header = artefacts.read_header(path, KIND, **fields, seen=known)["fields"]
    memory = Memory.read(path)
    artefacts.check_same(path, "features", memory.features.shape[1], seen["test_features"].shape[1])
    observed = {part: (seen[f"{part}_features"], seen[f"{part}_labels"]) for part in ("validation", "test")}
    sizes = seen.fields["sizes"]
    # The joint bound keeps everything, and no rehearsal artefact.
    rehearsed = 0 if regime == "joint" else rehearsal.size(layout.exemplars(regime, task), regime=regime, task=task, seen=known)
    # Features that were given may come without a head.
    head = head_of(seen.tensors) if "head_weight" in seen.tensors else None
    records = evaluate(memory, head, observed, sizes, settings, rehearsed, **header)
    scores = {
        "sizes": sizes,
        "classes": seen.fields["classes"],
        "network_bytes": seen.fields["network_bytes"],
        "adapter_parameters": header.get("adapter_parameters", 0),
        "ledger": [asdict(entry) for entry in _ledger(regime, adapter, task, bool(rehearsed))],
        "records": records,
    }
    with replacing(layout.evaluation(regime, adapter, task)) as path:
        path.write_text(json.dumps(fields | scores, separators=(",", ":")), encoding="utf-8")


def _ledger(regime: str, adapter: str, task: str, rehearses: bool) -> list[ledger.Entry]:
    """Return what the method keeps between tasks; a bound keeps nothing between tasks, for it looks at everything again."""
    if adapter == "oracle":
        return []
    path = layout.exemplars(regime, task)
    kept = ledger.entries(path, "rehearsal", rehearsal.KIND, regime=regime, task=task)
    store = artefacts.read_header(path, rehearsal.KIND)["fields"]["store"]
    # Exemplars are kept as images: their features are made of these when they are needed.
    memory = [] if adapter == "exemplars" else ledger.entries(layout.memory(regime, adapter, task), "memory", KIND)
    ledger.check([*kept, *memory], store == "images", f"{regime} x {adapter}")
    return [*(kept if rehearses else []), *memory]


if __name__ == "__main__":
    run(main, "regime", "adapter", "task")
