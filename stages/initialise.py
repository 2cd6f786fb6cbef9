"""initialise: the state before the first task: a seeded network without classes, no exemplars, empty memories."""

from __future__ import annotations

from carryover import registry, rehearsal
from carryover.errors import ConfigurationError, unknown
from carryover.images import read_images
from carryover.memory import Budget
from carryover.seeds import derive
from stages import layout, networks, states
from stages.command import natural, parameters, run


def main(regime: str, first: str, state: str) -> None:
    """Write the empty state of a regime under the name `state`; `first` is the first task, whose images say how many channels there are."""
    columns = parameters("columns")
    _check_names("regimes", [regime], [])
    _check_names("adapters", columns, ["exemplars", "oracle"])
    method = registry.build("regimes", regime, parameters("regimes", regime))
    storage = Budget(**registry.checked(Budget, parameters("memory"), "memory")).storage
    seed = derive(natural(parameters("seed"), "seed"), "initialise")
    images, _ = read_images(layout.images(first, "train"), "task-images", task=first, part="train")

    network = networks.initialise(parameters("backbone"), images.shape, seed, method.head)
    networks.write(layout.backbone(regime, state), network, regime=regime, task=state, seen="")
    rehearsal.KeptImages.none(images.shape, network.backbone.features).write(layout.exemplars(regime, state), regime=regime, task=state, seen="")
    states.write_empty(regime, state, network.backbone.features, columns, parameters("paired"), storage)


def _check_names(group: str, names: list[str], besides: list[str]) -> None:
    """Refuse names without a file in `carryover/<group>/` here, before anything has been trained."""
    accepted = [*registry.names(group), *besides]
    for name in names:
        if name not in accepted:
            raise ConfigurationError(unknown(group.removesuffix("s"), name, accepted))


if __name__ == "__main__":
    run(main, "regime", "first", "state")
