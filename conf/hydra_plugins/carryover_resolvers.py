"""Resolvers that turn a protocol into the lists of which dvc.yaml makes stages. Loaded by Hydra as a plugin."""

import itertools
import re

from omegaconf import DictConfig, ListConfig, OmegaConf


def tasks(protocol: DictConfig) -> ListConfig:
    """Return an item for each task of the protocol: its id and that of the task before it."""
    count = protocol["count"] if protocol["sizes"] is None else len(protocol["sizes"])
    ids = ["empty", *(f"task{i}" for i in range(count))]
    return OmegaConf.create([{"id": current, "previous": before} for before, current in itertools.pairwise(ids)])


def joint(when: str, protocol: DictConfig) -> ListConfig:
    """Return the tasks after which the joint upper bound is trained."""
    chosen = {"every": tasks(protocol), "last": tasks(protocol)[-1:], "never": []}
    if when not in chosen:
        raise ValueError(f"joint.when is {when!r}; accepted: every, last, never.")
    return OmegaConf.create([task["id"] for task in chosen[when]])


def trained(regimes: DictConfig, given: DictConfig, kind: str) -> ListConfig:
    """Return the regimes that train a network: all, or none where features are given in its place."""
    if (kind == "features") != bool(given) or (given and set(regimes) != set(given)):
        raise ValueError("Features in place of a network need dataset=features and no other regime: choose both by experiment=features.")
    return OmegaConf.create([regime for regime in regimes if regime not in given])


def bundled(regime: str, given: DictConfig) -> ListConfig:
    """Return the regime whose network is bundled: none where features are given in its place."""
    return OmegaConf.create([] if given else [regime])


def columns(adapters: DictConfig, regimes: DictConfig, dataset: DictConfig) -> ListConfig:
    """Return the columns of the table: the adapters, the exemplars where a regime keeps any, and the oracle that bounds them, where it can look."""
    rehearsing = any("exemplars" in (section or {}) for section in regimes.values())
    return OmegaConf.create([*adapters, *(["exemplars"] if rehearsing else []), *(["oracle"] if dataset.get("oracle", True) else [])])


def paired(adapters: DictConfig, chasing: DictConfig) -> ListConfig:
    """Return the adapters that learn from pairs of features, all but those that chase."""
    return OmegaConf.create([name for name in adapters if name not in chasing])


def preferred(name: str, names: DictConfig) -> str:
    """Return a name if it is among the names, else the last of them."""
    if not names:
        raise ValueError("The list of regimes or that of adapters is empty: name one of each at least.")
    return name if name in names else str(list(names)[-1])


def last(protocol: DictConfig) -> str:
    """Return the id of the last task."""
    return str(tasks(protocol)[-1]["id"])


def given(value: str | None, otherwise: str) -> str:
    """Return a value, or another where there is none."""
    return otherwise if value is None else value


def stem(path: object) -> str:
    """Return the name of a folder or archive without its ending, as a name for its data set."""
    name = str(path).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"\.(tar|tgz|tbz2|txz|zip)(\.\w+)?$", "", name) or "images"


RESOLVERS = {
    "tasks": tasks,
    "joint": joint,
    "trained": trained,
    "bundled": bundled,
    "columns": columns,
    "paired": paired,
    "preferred": preferred,
    "last": last,
    "given": given,
    "stem": stem,
}
for name, function in RESOLVERS.items():
    OmegaConf.register_new_resolver(f"carryover_{name}", function, replace=True)
