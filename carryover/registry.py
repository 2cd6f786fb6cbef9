"""Methods found by name: a file `carryover/adapters/mlp.py` is the adapter `mlp`, and needs no other mention.

A method file exports exactly one class in `__all__`. Its constructor's annotations are the schema of its parameters.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from carryover.errors import ConfigurationError, unknown


def names(group: str) -> list[str]:
    """Return the names of all methods of a `group`: "adapters", "regimes" or "datasets"."""
    package = importlib.import_module(f"carryover.{group}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def find(group: str, name: str) -> type[Any]:
    """Return the class that the method file `name` of a `group` exports.

    Raises:
        ConfigurationError: if there is no such method; the nearest names are given.
    """
    if name not in names(group):
        raise ConfigurationError(unknown(group.removesuffix("s"), name, names(group)))
    module = importlib.import_module(f"carryover.{group}.{name}")
    (exported,) = module.__all__
    return typing.cast(type[Any], getattr(module, exported))


def build(group: str, name: str, parameters: Mapping[str, Any] | None, **extra: Any) -> Any:
    """Construct the method `name` of a `group` from its section of the parameters.

    `extra` are arguments that no parameter sets.

    Raises:
        ConfigurationError: if the method or one of its parameters is unknown, or a value has a wrong type or range.
    """
    cls = find(group, name)
    return cls(**checked(cls, parameters or {}, f"{group}.{name}", skip=set(extra)), **extra)


def checked(factory: Any, values: Mapping[str, Any], where: str, skip: set[str] | None = None) -> dict[str, Any]:
    """Check `values` against the annotated parameters of `factory`; return them with defaults filled in.

    Raises:
        ConfigurationError: naming the parameter by its full path `where`, what it was and what is accepted.
    """
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    signature = inspect.signature(factory).parameters
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in signature.items()
        if name not in (skip or set())
    }
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"Section {where} is {values!r}: a mapping is needed.")
    for name in values:
        if name not in fields:
            raise ConfigurationError(unknown(f"parameter {where}", name, fields))
    model = create_model(
        getattr(factory, "__name__", "parameters"), __config__=ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False), **fields
    )
    try:
        return dict(model(**values))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *(str(part) for part in first["loc"])])
        given = "missing" if first["type"] == "missing" else f"{first['input']!r}"
        raise ConfigurationError(f"Parameter {path} is {given}: {first['msg'].lower()}.") from error
