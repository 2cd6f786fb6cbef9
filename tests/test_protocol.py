"""The protocol: every class arrives once, earlier arrivals never move, and held-out images depend on their class alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carryover.classes import Entry, register
from carryover.errors import ConfigurationError, DataError
from carryover.protocol import Protocol

SEEDS = st.integers(0, 2**31)
GENERATIONS = st.lists(st.integers(1, 12), min_size=1, max_size=4)


def registered(generations: list[int]) -> list[Entry]:
    entries: list[Entry] = []
    for count in generations:
        names = [entry.name for entry in entries] + [f"class {len(entries) + i:03d}" for i in range(count)]
        entries = register(entries, names)
    return entries


@given(GENERATIONS, SEEDS, st.sampled_from(["seed", "legacy", "register"]))
def test_every_class_arrives_exactly_once(generations: list[int], seed: int, order: str) -> None:
    entries = registered(generations)
    arrivals = Protocol([1], order=order, seed=seed).arrivals(entries)  # type: ignore[arg-type]
    assert sorted(entry.label for entry in arrivals) == list(range(len(entries)))


@given(GENERATIONS, SEEDS, st.sampled_from(["seed", "legacy", "register"]))
def test_later_generations_never_move_earlier_arrivals(generations: list[int], seed: int, order: str) -> None:
    protocol = Protocol([1], order=order, seed=seed)  # type: ignore[arg-type]
    arrivals = protocol.arrivals(registered(generations))
    for k in range(1, len(generations)):
        earlier = protocol.arrivals(registered(generations[:k]))
        assert arrivals[: len(earlier)] == earlier


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), SEEDS, st.integers(0, 5))
def test_tasks_cut_the_arrivals_by_their_sizes(sizes: list[int], seed: int, beyond: int) -> None:
    entries = registered([sum(sizes) + beyond])
    protocol = Protocol(sizes, seed=seed)
    tasks = protocol.tasks(entries)
    assert [len(task) for task in tasks] == sizes
    assert [entry for task in tasks for entry in task] == protocol.arrivals(entries)[: sum(sizes)]


def test_the_legacy_order_of_seed_1993_is_the_field_s() -> None:
    arrivals = Protocol([10] * 10, order="legacy", seed=1993).arrivals(registered([100]))
    assert [entry.label for entry in arrivals][:10] == [68, 56, 78, 8, 23, 84, 90, 65, 74, 76]


def test_seeds_give_different_orders_and_the_same_seed_the_same() -> None:
    entries = registered([50])
    assert Protocol([1], seed=1).arrivals(entries) == Protocol([1], seed=1).arrivals(entries)
    assert len({tuple(entry.label for entry in Protocol([1], seed=seed).arrivals(entries)) for seed in range(20)}) == 20


@pytest.mark.parametrize("order", ["seed", "legacy"])
def test_generations_of_one_size_are_not_permuted_alike(order: str) -> None:
    arrivals = [entry.label for entry in Protocol([1], order=order, seed=0).arrivals(registered([20, 20]))]  # type: ignore[arg-type]
    assert [label - 20 for label in arrivals[20:]] != arrivals[:20]


def test_named_classes_arrive_as_named_and_no_others() -> None:
    names = ["class 003", "class 000"]
    assert [entry.label for entry in Protocol([2], order="names", names=names).arrivals(registered([5]))] == [3, 0]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"'clas 003'; did you mean 'class 003'"):
        Protocol([1], order="names", names=["clas 003"]).arrivals(registered([5]))


def test_a_name_given_twice_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"'class 001' 2 times"):
        Protocol([1], order="names", names=["class 001", "class 000", "class 001"]).arrivals(registered([5]))


def test_asking_for_more_classes_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match=r"asks for 7 classes \(4 \+ 3\) but there are 6"):
        Protocol([4, 3]).tasks(registered([6]))


def test_a_seed_beyond_the_legacy_generator_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"protocol\.seed"):
        Protocol([1], order="legacy", seed=2**32).arrivals(registered([3]))


@given(st.integers(0, 300), st.floats(0, 0.999), st.text(min_size=1, max_size=8))
def test_held_out_images_are_a_share_of_each_class_and_leave_some_to_train_on(n: int, fraction: float, name: str) -> None:
    found = Protocol([1], validation=fraction).held_out(n, name)
    assert found.dtype == np.int64 and len(set(found.tolist())) == len(found)
    assert (np.diff(found) > 0).all() and ((found >= 0) & (found < n)).all()
    if fraction == 0 or n < 2:
        assert len(found) == 0
    else:
        assert len(found) == min(max(round(n * fraction), 1), n - 1) and 1 <= len(found) < n


def test_held_out_images_depend_on_the_class_s_name_and_neither_order_nor_seed() -> None:
    first = Protocol([1], seed=1).held_out(100, "apple")
    assert np.array_equal(first, Protocol([5, 3], order="register", seed=9).held_out(100, "apple"))
    assert not np.array_equal(first, Protocol([1], seed=1).held_out(100, "pear"))
