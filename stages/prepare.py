"""prepare: read the raw data set into one packed artefact a class, or features of others into artefacts of each task, and register the classes."""

from __future__ import annotations

from carryover import given, registry
from carryover.datasets import prepare_dataset
from carryover.errors import ConfigurationError
from stages import layout
from stages.command import mapping, parameters, plain, run


def main() -> None:
    """Read the data set that the section `dataset` names."""
    section = mapping(parameters("dataset"), "dataset")
    kind, name, _ = (_take(section, key) for key in ("kind", "name", "source"))
    plain(name, "Parameter dataset.name")
    if kind == given.KIND:
        features = given.Features(**registry.checked(given.Features, section, "dataset"))
        print(given.prepare(features, layout.register(name), layout.DATASET))
    else:
        print(prepare_dataset(registry.build("datasets", kind, section), layout.register(name), layout.DATASET))


def _take(section: dict[str, object], key: str) -> str:
    value = section.pop(key, None)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"Parameter dataset.{key} is {value!r}: a text is needed.")
    return value


if __name__ == "__main__":
    run(main)
