"""Resolvers that turn a protocol into the lists of which dvc.yaml makes stages. Loaded by Hydra as a plugin."""

import itertools

from omegaconf import DictConfig, ListConfig, OmegaConf


def tasks(sizes: ListConfig) -> ListConfig:
    """Return an item for each task: its id and that of the task before it."""
    ids = ["empty", *(f"task{i}" for i in range(len(sizes)))]
    return OmegaConf.create([{"id": current, "previous": before} for before, current in itertools.pairwise(ids)])


def joint(when: str, sizes: ListConfig) -> ListConfig:
    """Return the tasks after which the joint upper bound is trained."""
    chosen = {"every": tasks(sizes), "last": tasks(sizes)[-1:], "never": []}
    if when not in chosen:
        raise ValueError(f"joint.when is {when!r}; accepted: every, last, never.")
    return OmegaConf.create([{"id": task["id"]} for task in chosen[when]])


def columns(adapters: DictConfig) -> ListConfig:
    """Return the columns of the table: the adapters, and the oracle that bounds them."""
    return OmegaConf.create([*adapters, "oracle"])


def increments(base: int, increment: int, count: int) -> ListConfig:
    """Return the sizes of `count` tasks: `base` classes first, then `increment` each."""
    return OmegaConf.create([base] + [increment] * (count - 1))


for name, function in {"tasks": tasks, "joint": joint, "columns": columns, "increments": increments}.items():
    OmegaConf.register_new_resolver(f"carryover_{name}", function, replace=True)
