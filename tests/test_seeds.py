"""Seeds: every use of chance has its own stream, the same on every machine."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from carryover.seeds import derive, generator


@given(st.integers(0, 2**40), st.lists(st.text(max_size=5), max_size=4))
def test_a_seed_has_63_bits_and_equals_itself(seed: int, names: list[str]) -> None:
    assert 0 <= derive(seed, *names) < 2**63
    assert derive(seed, *names) == derive(seed, *names)


def test_seeds_are_a_hash_and_never_change_between_releases() -> None:
    expected = int.from_bytes(hashlib.sha256(b"0\x1ftrain\x1f3").digest()[:8], "little") // 2
    assert derive(0, "train", 3) == expected


def test_names_do_not_run_into_each_other() -> None:
    seeds = [derive(0), derive(0, "a"), derive(0, "ab"), derive(0, "a", "b"), derive(0, "b", "a"), derive(1, "a"), derive(0, 1), derive(0, 1, 0)]
    assert len(set(seeds)) == len(seeds)


def test_generators_of_one_name_agree_and_of_two_differ() -> None:
    assert generator(1, "x").integers(2**60) == generator(1, "x").integers(2**60)
    assert generator(1, "x").integers(2**60) != generator(1, "y").integers(2**60)
