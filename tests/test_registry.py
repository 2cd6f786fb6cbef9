"""Methods are found by their file's name, and their parameters are checked against their constructors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from carryover import registry
from carryover.errors import ConfigurationError
from carryover.evaluation import Evaluation
from carryover.machine import Machine
from carryover.memory import Budget
from carryover.protocol import Protocol
from carryover.training import Training
from carryover.views import Views


class Toy:
    def __init__(
        self,
        count: Annotated[int, Field(gt=0)],
        rate: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        mode: Literal["up", "down"] = "up",
        flag: bool = False,
        limit: Annotated[int, Field(gt=0)] | None = None,
        sizes: list[Annotated[int, Field(gt=0)]] | None = None,
    ) -> None:
        self.count = count


def message(values: dict[str, Any], factory: Any = Toy) -> str:
    with pytest.raises(ConfigurationError) as caught:
        registry.checked(factory, values, "toys.one")
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_names_are_the_files_of_a_group() -> None:
    assert {"none", "sdc", "linear", "mlp"} <= set(registry.names("adapters"))
    assert {"finetune", "distill"} <= set(registry.names("regimes"))
    assert not [name for name in registry.names("datasets") if name.startswith("_")]


@pytest.mark.parametrize("group", ["adapters", "regimes", "datasets"])
def test_every_method_file_exports_one_class_with_an_annotated_constructor(group: str) -> None:
    for name in registry.names(group):
        cls = registry.find(group, name)
        assert isinstance(cls, type) and cls.__module__ == f"carryover.{group}.{name}"
        own = cls.__dict__.get("__init__")
        arguments = own.__code__.co_varnames[1 : own.__code__.co_argcount] if own else ()
        assert all(argument in own.__annotations__ for argument in arguments)


def test_defaults_are_filled_in() -> None:
    expected = {"count": 3, "rate": 0.25, "mode": "up", "flag": False, "limit": None, "sizes": None}
    assert registry.checked(Toy, {"count": 3, "rate": 0.25}, "toys.one") == expected


def test_a_whole_number_will_do_where_a_float_is_needed() -> None:
    assert registry.checked(Toy, {"count": 1, "rate": 0}, "toys.one")["rate"] == 0


def test_an_unknown_parameter_names_the_nearest() -> None:
    text = message({"count": 1, "ratte": 0.1})
    assert "parameter toys.one 'ratte'" in text and "did you mean 'rate'" in text and "count, flag, limit, mode, rate, sizes" in text


def test_a_missing_parameter_is_named() -> None:
    assert "toys.one.count is missing" in message({})


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"count": 0}, "toys.one.count is 0"),
        ({"count": True}, "toys.one.count is True"),
        ({"count": "3"}, "toys.one.count is '3'"),
        ({"count": 1.0}, "toys.one.count is 1.0"),
        ({"count": None}, "toys.one.count is None"),
        ({"count": 1, "rate": 1.0}, "toys.one.rate is 1.0"),
        ({"count": 1, "rate": -0.1}, "toys.one.rate is -0.1"),
        ({"count": 1, "rate": True}, "toys.one.rate is True"),
        ({"count": 1, "rate": float("nan")}, "toys.one.rate is nan"),
        ({"count": 1, "rate": "0.1"}, "toys.one.rate is '0.1'"),
        ({"count": 1, "mode": "sideways"}, "toys.one.mode is 'sideways'"),
        ({"count": 1, "flag": 1}, "toys.one.flag is 1"),
        ({"count": 1, "flag": "yes"}, "toys.one.flag is 'yes'"),
        ({"count": 1, "limit": 0}, "toys.one.limit"),
        ({"count": 1, "sizes": [3, 0]}, "toys.one.sizes.1 is 0"),
        ({"count": 1, "sizes": 3}, "toys.one.sizes is 3"),
    ],
)
def test_a_wrong_type_or_range_names_the_parameter_and_its_value(values: dict[str, Any], where: str) -> None:
    assert where in message(values)


def test_a_choice_names_what_is_accepted() -> None:
    text = message({"count": 1, "mode": "sideways"})
    assert "'up'" in text and "'down'" in text


def test_an_infinite_number_is_refused() -> None:
    def factory(rate: Annotated[float, Field(gt=0)]) -> None: ...

    assert "toys.one.rate is inf" in message({"rate": float("inf")}, factory)


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"Unknown adapter 'mpl'; did you mean 'mlp'.*linear, mlp, none, sdc"):
        registry.find("adapters", "mpl")
    with pytest.raises(ConfigurationError, match=r"Unknown regime 'distil'; did you mean 'distill'"):
        registry.build("regimes", "distil", {})
    # A module that is no method file cannot be reached by name.
    with pytest.raises(ConfigurationError, match="Unknown dataset '_classes'"):
        registry.find("datasets", "_classes")


def test_build_constructs_with_parameters_and_defaults() -> None:
    adapter = registry.build("adapters", "linear", {"ridge": 0.5})
    assert adapter.ridge == 0.5
    assert registry.build("adapters", "linear", None).ridge == 0.01
    with pytest.raises(ConfigurationError, match=r"adapters\.linear\.ridge is -1"):
        registry.build("adapters", "linear", {"ridge": -1})


@pytest.mark.parametrize(
    ("factory", "values", "where"),
    [
        (Training, {"epochs": 0, "increment_epochs": 1, "learning_rate": 0.1, "increment_learning_rate": 0.1}, "epochs is 0"),
        (Training, {"epochs": 1, "increment_epochs": 1, "learning_rate": 0.1, "increment_learning_rate": 0.1, "momentum": 1.0}, "momentum"),
        (Budget, {"storage": "float64"}, "storage"),
        (Budget, {"bytes": 0}, "bytes is 0"),
        (Protocol, {"sizes": []}, "sizes"),
        (Protocol, {"sizes": [5, 0]}, "sizes.1 is 0"),
        (Protocol, {"sizes": [5], "validation": 1.0}, "validation"),
        (Machine, {"device": "gpu"}, "device"),
        (Views, {"views": -1}, "views is -1"),
        (Evaluation, {"classifiers": ["svm"]}, "classifiers.0 is 'svm'"),
        (Evaluation, {"classifiers": []}, "classifiers"),
    ],
)
def test_the_sections_of_the_pipeline_are_checked_alike(factory: Any, values: dict[str, Any], where: str) -> None:
    assert where in message(values, factory)
