"""Networks as artefacts, for the stages that read or write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carryover import artefacts, backbones, registry
from carryover.images import Shape


def initialise(section: dict[str, Any], shape: Shape, seed: int, head: str | None = None) -> backbones.Network:
    """Return the network without classes that the section `backbone` describes, for images of a `shape`; `head` goes before the section's.

    Raises:
        CarryoverError: as `carryover.backbones.initialise`, and for wrong parameters.
    """
    # What DVC watches is no parameter of the network.
    own = {name: value for name, value in section.items() if name != "source"} if isinstance(section, dict) else section
    settings = registry.checked(backbones.initialise, own, "backbone", skip={"channels", "seed", "size"})
    settings["head"] = head or settings["head"]
    return backbones.initialise(**settings, channels=shape[2], seed=seed, size=shape[:2])


def write(path: Path, network: backbones.Network, **fields: Any) -> None:
    """Write a network with what rebuilds it."""
    artefacts.write(path, "backbone", backbones.to_arrays(network), network=backbones.describe(network), **fields)


def seen(path: Path, **expected: Any) -> str:
    """Return the lineage of the classes that a network knows; errors as `read`."""
    return str(artefacts.read_header(path, "backbone", **expected)["fields"]["seen"])


def read(path: Path, **expected: Any) -> backbones.Network:
    """Read a network.

    Raises:
        ArtefactError: if the file is not a backbone, not the expected one, or not of the architecture it claims.
    """
    artefact = artefacts.read(path, "backbone", **expected)
    return backbones.from_arrays(artefact.fields["network"], artefact.tensors, str(path))
