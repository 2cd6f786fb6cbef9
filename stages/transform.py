"""transform: carry the memory into the new feature space, make room, and add the new classes: M_t = V_t U phi_t(M_{t-1})."""

from __future__ import annotations

from carryover import artefacts, registry
from carryover.errors import ArtefactError
from carryover.memory import Budget, Memory
from stages import fitted, layout
from stages.command import Stopwatch, parameters, run


def main(regime: str, adapter: str, task: str, previous: str) -> None:
    """Write the memory after a task."""
    clock = Stopwatch()
    budget = Budget(**registry.checked(Budget, parameters("memory"), "memory"))
    selected = artefacts.read(layout.selection(regime, task), "selection", regime=regime, task=task)
    seen = {name: selected.fields[name] for name in ("seen", "seen_before")}
    memory = Memory.read(layout.memory(regime, adapter, previous), regime=regime, adapter=adapter, task=previous, seen=seen["seen_before"])
    artefacts.check_same(layout.memory(regime, adapter, previous), "features", memory.features.shape[1], selected["features"].shape[1])
    learned = artefacts.read(layout.adapter(regime, adapter, task), "adapter", regime=regime, adapter=adapter, task=task, **seen)

    method = fitted.build(adapter)
    if len(memory.counts):
        if not learned.fields["fitted"]:
            raise ArtefactError(f"{layout.adapter(regime, adapter, task)} is not fitted, but there is a memory to carry.")
        memory = memory.carried(fitted.carry(method, learned, layout.adapter(regime, adapter, task), memory.features))
    fields = {"regime": regime, "adapter": adapter, "task": task, "seen": seen["seen"], "adapter_parameters": learned.fields["parameters"]}
    new = Memory(selected["features"], selected["counts"], budget.storage)
    if method.keeps == "means":
        new = new.means()
    grown = memory.extended(new.features, new.counts)
    # A form has a size of its own, made of all new vectors, whatever the budget of vectors is.
    limit = budget.rows(len(grown.counts), grown.features.shape[1], fields) if method.form is None else None
    kept = grown.prefix(limit) if method.form is None else grown.condensed(method.form)
    kept.write(layout.memory(regime, adapter, task), **fields)
    if method.form is not None and budget.limited:
        size = layout.memory(regime, adapter, task).stat().st_size
        print(f"{task}: the memory of {adapter} has the size of its form, {size:,} bytes; the limits of the section memory are of vectors.")
    if limit is not None and method.keeps == "vectors" and (short := int((selected["counts"] < limit).sum())):
        print(f"{task}: {short} new classes have fewer than {limit} images and keep all they have.")
    clock.note(layout.seconds(f"transform-{regime}-{adapter}-{task}"))


if __name__ == "__main__":
    run(main, "regime", "adapter", "task", "previous")
