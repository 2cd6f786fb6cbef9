"""oracle: measure what no method may: re-extract all old images with the current network, and observe validation and test."""

from __future__ import annotations

from carryover import registry
from carryover.machine import Machine
from carryover.memory import Budget
from stages import layout, manifest, networks
from stages.command import parameters, run
from stages.measure import observe


def main(regime: str, task: str) -> None:
    """Write the observations of a task and the memory of re-extracted features, the upper bound of any adaptation."""
    where = Machine(**registry.checked(Machine, parameters("machine"), "machine"))
    budget = Budget(**registry.checked(Budget, parameters("memory"), "memory"))
    network = networks.read(layout.backbone(regime, task), regime=regime, task=task, seen=manifest.seen(task))
    observe(network, regime, task, budget, where)


if __name__ == "__main__":
    run(main, "regime", "task")
