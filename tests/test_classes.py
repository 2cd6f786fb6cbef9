"""The class register: labels never change, and the file survives anything a name may hold."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carryover.classes import Entry, read_register, register, write_register
from carryover.errors import DataError

NAMES = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip),
    min_size=1,
    max_size=8,
    unique_by=lambda name: unicodedata.normalize("NFC", name),
)


def test_the_first_classes_are_labelled_in_order_of_their_names() -> None:
    assert register([], ["cat", "ant", "bee"]) == [Entry(0, 0, "ant"), Entry(1, 0, "bee"), Entry(2, 0, "cat")]


def test_new_classes_are_appended_as_the_next_generation() -> None:
    known = register([], ["cat", "dog"])
    grown = register(known, ["ant", "cat", "dog"])
    assert grown == [*known, Entry(2, 1, "ant")]
    assert register(grown, ["cat", "bee"])[3:] == [Entry(3, 2, "bee")]


@given(NAMES, NAMES)
def test_labels_of_known_classes_never_change(first: list[str], second: list[str]) -> None:
    known = register([], first)
    grown = register(known, [*first, *(name for name in second if unicodedata.normalize("NFC", name) not in {e.name for e in known})])
    assert grown[: len(known)] == known
    assert [entry.label for entry in grown] == list(range(len(grown)))
    assert register(grown, [first[0]]) == grown


@given(NAMES, st.randoms())
def test_the_order_in_which_classes_are_found_does_not_matter(names: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert register([], shuffled) == register([], names)


def test_known_classes_whose_images_are_gone_stay_registered() -> None:
    known = register([], ["ant", "bee"])
    assert register(known, ["bee"]) == known


def test_another_data_set_is_refused_with_what_to_do() -> None:
    with pytest.raises(DataError, match=r"None of the 2 classes in animals.csv.*dataset\.name, or delete animals.csv"):
        register(register([], ["ant", "bee"]), ["car"], "animals.csv")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no classes"),
        (["ant", "ant"], "more than once"),
        (["caf\u00e9", "cafe\u0301"], "more than once"),
        (["ant", " "], "empty name"),
        (["\udcff"], "UTF-8"),
    ],
)
def test_names_that_are_no_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        register([], names)


@given(NAMES, NAMES)
def test_any_register_survives_its_file(tmp_path_factory: pytest.TempPathFactory, first: list[str], second: list[str]) -> None:
    path = tmp_path_factory.mktemp("register") / "classes.csv"
    entries = register([], first)
    if not {entry.name for entry in entries}.isdisjoint(unicodedata.normalize("NFC", name) for name in second):
        entries = register(entries, second)
    write_register(path, entries)
    assert read_register(path) == entries


def test_commas_quotes_and_newlines_in_names_survive(tmp_path: Path) -> None:
    entries = register([], ["goldfish, Carassius", 'a "b"', "two\nlines", "ünï\r"])
    write_register(tmp_path / "new" / "classes.csv", entries)
    assert read_register(tmp_path / "new" / "classes.csv") == entries


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "Line 1 "),
        ("label,name\n", "Line 1 "),
        ("label,generation,name\n0,0,a\n1,0\n", "Line 3 .* 2 columns"),
        ("label,generation,name\n0,0,a\n2,0,b\n", "Line 3 .* label '2' where 1"),
        ("label,generation,name\n0,0,a\n1,2,b\n", "Line 3 .* generation '2' where 0 or 1"),
        ("label,generation,name\n0,1,a\n", "Line 2 .* generation '1' where 0"),
        ("label,generation,name\n0,0,a\n1,0,a\n", "Line 3 .* repeats the class name 'a'"),
        ("label,generation,name\n0,0,\n", "Line 2 .* name ''"),
        ("label,generation,name\n0,0,cafe\u0301\n", "Line 2 .* Unicode"),
        ('label,generation,name\n0,0,"a\n', "is no csv"),
        ("<<<<<<< HEAD\n", "Line 1 "),
    ],
)
def test_a_malformed_register_names_its_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "classes.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=line):
        read_register(tmp_path / "classes.csv")


def test_a_missing_or_binary_register_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no class register"):
        read_register(tmp_path / "classes.csv")
    (tmp_path / "classes.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        read_register(tmp_path / "classes.csv")
