"""Networks as artefacts, for the stages that read or write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carryover import artefacts, backbones


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
