"""Event lists as people make them, and wells as people list them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.assays.event_list import read_events
from cellvigil.assays.sheet import Wrong
from cellvigil.assays.wells import row_and_column, wells_of
from cellvigil.errors import UsageError
from cellvigil.events import Event, EventRow, events_of


def read(folder: Path, text: str, timezone: str = "Europe/Berlin") -> list[EventRow]:
    path = folder / "events.csv"
    path.write_text(text, encoding="utf-8")
    return list(read_events(path, timezone=timezone))


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, 20, hour, minute, tzinfo=UTC)


def test_a_list_is_read_in_whatever_dialect(tmp_path: Path) -> None:
    text = (
        "At;Event;Wells;Plate;Comment\r\n"
        "2026-11-20 18:05;Dosed;b01-b03 C1;Plate 1;Raptinal, 10 uM\r\n"
        ";;;;\r\n"
        "2026-11-20 20:00;plate out;;;\r\n"
    )
    assert read(tmp_path, text) == [
        EventRow(Event(at(17, 5), "dosed", ("B1", "B2", "B3", "C1"), "Raptinal, 10 uM"), "", "Plate 1"),
        EventRow(Event(at(19), "plate_out")),
    ]


def test_every_wrong_cell_is_named_at_once(tmp_path: Path) -> None:
    text = "at,kind,wells\nyesterday,dosed,\n2026-11-20 18:05,doesd,\n2026-11-20 18:05,medium,B1-B\n,medium,Z99\n"
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    for told in (
        "line 2, column at: 'yesterday' is no time",
        "line 3, column kind: 'doesd' is no kind of event, did you mean 'dosed'?",
        "line 4, column wells: 'B1:B' mixes wells with rows",
        "line 5, column at: when?",
        "line 5, column wells: 'Z99' is no well",
    ):
        assert told in str(caught.value)


def test_the_columns_that_must_be_there_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'kind'"):
        read(tmp_path, "at,wells\n")


@pytest.mark.parametrize(
    ("text", "wells"),
    [
        ("", ()),
        ("B3", ("B3",)),
        ("b03, a1;A01", ("A1", "B3")),
        ("B1 - B3", ("B1", "B2", "B3")),
        ("B1..B2", ("B1", "B2")),
        ("C2:B1", ("B1", "B2", "C1", "C2")),
        ("Z9-AB9", ("Z9", "AA9", "AB9")),
        ("10 2".replace(" ", "-"), tuple(f"{chr(65 + row) if row < 26 else 'A' + chr(39 + row)}{column}"
                                        for row in range(32) for column in range(2, 11))),
    ],
)  # fmt: skip
def test_wells_are_listed_as_people_do(text: str, wells: tuple[str, ...]) -> None:
    assert wells_of(text) == wells


def test_rows_reach_over_the_largest_plate() -> None:
    assert wells_of("B:C") == tuple(f"{row}{column}" for row in "BC" for column in range(1, 49))
    assert len(wells_of("A-AF")) == 1536


@pytest.mark.parametrize("text", ["B0", "B49", "AG1", "B1-B2-B3", "B1-3", "-", "B1-", "well B1", "0"])
def test_what_is_no_well_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        wells_of(text)


PLACES = st.tuples(st.integers(1, 32), st.integers(1, 48))


def name(row: int, column: int) -> str:
    return f"{chr(64 + row) if row <= 26 else 'A' + chr(38 + row)}{column}"


@given(corner=PLACES, other=PLACES)
def test_a_rectangle_holds_the_wells_between_its_corners(corner: tuple[int, int], other: tuple[int, int]) -> None:
    found = wells_of(f"{name(*corner)}-{name(*other)}")
    (top, bottom), (left, right) = sorted((corner[0], other[0])), sorted((corner[1], other[1]))
    slow = [(row, column) for row in range(1, 33) for column in range(1, 49)
            if top <= row <= bottom and left <= column <= right]  # fmt: skip
    assert [row_and_column(well) for well in found] == slow
    assert wells_of(" ".join(found)) == found


def test_events_of_a_plate_are_sorted_and_each_once() -> None:
    late, early = Event(at(9), "medium"), Event(at(8), "dosed", ("A1",))
    rows = [EventRow(late), EventRow(early, "run*"), EventRow(late, "", "Plate 1"), EventRow(early, "", "Plate 2")]
    assert events_of(rows, "run 1", "Plate 1") == (early, late)
    assert events_of(rows, "other", "Plate 1") == (late,)
    assert events_of(rows, "other", "Plate 2") == (early, late)
