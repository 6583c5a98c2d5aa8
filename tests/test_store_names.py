"""Names come from files: whatever they are, they stay inside the store and can be told apart."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.store.names import LONGEST, original, row_and_column, segment

HOSTILE = [
    "..",
    ".",
    "",
    "/",
    "/etc/passwd",
    "../../x",
    "a/b",
    "a\\b",
    "\0",
    "\n",
    "~",
    "~-",
    ".zarr",
    "con",
    "NUL.txt",
]
HOSTILE += ["a" * 300, "é" * 300, "trailing.", "trailing ", " leading", "Plate 1", "zarr.json", "\udcff", "~41", "A~~B"]
ANY = st.text() | st.sampled_from(HOSTILE)


@given(ANY)
def test_a_segment_is_one_plain_file_name(name):
    text = segment(name)
    assert 0 < len(text) <= LONGEST
    assert re.fullmatch(r"[A-Za-z0-9_.~ -]+", text)
    assert text[0] not in ". "
    assert text[-1] not in ". "


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_become_one_plain_file_name(name, tmp_path):
    folder = tmp_path / segment(name)
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve()


@given(ANY)
def test_a_segment_can_be_read_back(name):
    assert original(segment(name)) in (name, None)
    if len(name.encode("utf-8", "surrogateescape")) * 3 <= LONGEST:
        assert original(segment(name)) == name


@given(ANY, ANY)
def test_two_names_have_two_segments_and_two_wells_two_places(one, other):
    assert (segment(one) == segment(other)) == (one == other)
    assert (row_and_column(one) == row_and_column(other)) == (one == other)


@given(ANY)
def test_row_and_column_are_letters_and_digits(well):
    for part in row_and_column(well):
        assert re.fullmatch(r"[A-Za-z0-9]+", part)


@pytest.mark.parametrize(
    ("well", "place"),
    [
        ("A1", ("A", "1")),
        ("P24", ("P", "24")),
        ("AF48", ("AF", "48")),
        ("A01", ("A", "01")),
        ("pos3", ("pos", "3")),
        ("3", ("0", "3")),
        ("pos 3", ("0", "posZ203")),
        ("", ("0", "Z")),
        ("Z", ("0", "Z5A")),
        ("A٣", ("0", "AZD9ZA3")),  # a digit, but not an ASCII one
    ],
)
def test_where_a_well_stands(well, place):
    assert row_and_column(well) == place
