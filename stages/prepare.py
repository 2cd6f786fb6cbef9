"""prepare: read the raw data set into one packed artefact a class, and register its classes."""

from __future__ import annotations

from carryover import registry
from carryover.datasets import prepare_dataset
from carryover.errors import ConfigurationError
from stages import layout
from stages.command import parameters, plain, run


def main() -> None:
    """Read the data set that the section `dataset` names."""
    section = dict(parameters("dataset"))
    kind, name, _ = (_take(section, key) for key in ("kind", "name", "source"))
    plain(name, "Parameter dataset.name")
    summary = prepare_dataset(registry.build("datasets", kind, section), layout.register(name), layout.DATASET)
    print(summary)


def _take(section: dict[str, object], key: str) -> str:
    value = section.pop(key, None)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"Parameter dataset.{key} is {value!r}: a text is needed.")
    return value


if __name__ == "__main__":
    run(main)
