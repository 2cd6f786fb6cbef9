"""begin: the state before the first task, where features come from somebody's own network: empty memories."""

from __future__ import annotations

from carryover import artefacts, registry
from carryover.errors import ConfigurationError
from carryover.memory import Budget
from stages import layout, states
from stages.command import parameters, run


def main(regime: str, first: str, state: str) -> None:
    """Write the empty memories under the name `state`; `first` is the first task, whose features say of which dimension."""
    columns, paired = parameters("columns"), parameters("paired")
    for adapter in columns:
        if adapter not in (*paired, "oracle"):
            raise ConfigurationError(f"The adapter {adapter!r} looks at images and networks, and here there are features alone: leave it out.")
        if adapter != "oracle":
            registry.find("adapters", adapter)
    storage = Budget(**registry.checked(Budget, parameters("memory"), "memory")).storage
    given = artefacts.read(layout.images(first, "train"), "given-train", task=first)
    states.write_empty(regime, state, given["current"].shape[1], columns, paired, storage)


if __name__ == "__main__":
    run(main, "regime", "first", "state")
