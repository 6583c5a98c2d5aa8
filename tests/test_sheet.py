"""A plate's dense arrays against the ledger that they were folded from: whenever and in whatever pieces."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.data import UNKNOWN
from cellvigil.ledger import CalledBy, Design, Ledger
from cellvigil.platemap import WellPlan
from cellvigil.tally.figures import index_of, picked, start_of
from cellvigil.tally.sheet import Index, Sheet
from plate_lines import GROUPS, INDEX, STATES, bundle_line, figures, frame_line, ledger_of, plan_of, sheet_of
from store_records import SERIES, START

MINUTE = timedelta(minutes=1)

# Frames as they may come: wells, time points and fields in any order, twice (a revision), left out, one timed out.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["A1", "A2", "A10", "B1", "AA1"]),
        st.integers(0, 3),
        st.sampled_from(["1", "2", "10"]),
        st.integers(0, 30),
        st.booleans(),
    ),
    min_size=1,
    max_size=20,
)


def history(steps: list[tuple[str, int, str, int, bool]]) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = [bundle_line()]
    revisions: dict[tuple[str, int, str], int] = {}
    for minute, (well, timepoint, field, cells, excluded) in enumerate(steps):
        revision = revisions[(well, timepoint, field)] = revisions.get((well, timepoint, field), -1) + 1
        counts = {"live": cells, "necrotic": 1, UNKNOWN: cells % 3}
        at = START + minute * MINUTE
        line = frame_line(well, timepoint, field, counts=counts, committed=at, excluded=excluded, revision=revision)
        lines.append(line)
    return lines


def fold(ledger: Ledger, sheet: Sheet, since: int) -> int:
    """What the service does at a look."""
    since, places = ledger.changed(since)
    again = sheet.take([ledger.well_time(SERIES, well, t, 2) for _, well, t in places if well])
    sheet.take([ledger.well_time(SERIES, *place, 2) for place in again])
    return since


def arrays(sheet: Sheet) -> dict[str, object]:
    return {**sheet.over, "cells": sheet.cells, "counted": sheet.counted}


@settings(max_examples=100, deadline=None)
@given(STEPS, st.sets(st.integers(1, 20)))
def test_folded_in_pieces_it_is_what_it_is_at_once(steps, cuts):
    lines = history(steps)
    ledger = ledger_of(lines[:1])
    since = ledger.changed(0)[0]
    pieces = Sheet(Index.of(CalledBy(INDEX, STATES, GROUPS, "t"), [CalledBy(INDEX, STATES, GROUPS, "t")]), 2)
    for number, line in enumerate(lines[1:], start=1):
        ledger_of([line], ledger, first=number + 1)
        if number in cuts:
            since = fold(ledger, pieces, since)
    fold(ledger, pieces, since)
    whole = sheet_of(ledger, expected_fields=2)
    assert (pieces.wells, pieces.timepoints, pieces.fields) == (whole.wells, whole.timepoints, whole.fields)
    for name, array in arrays(whole).items():
        np.testing.assert_array_equal(arrays(pieces)[name], array, err_msg=name)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 30))
def test_it_says_what_the_ledger_says(steps, minute):
    ledger = ledger_of(history(steps))
    sheet = sheet_of(ledger, expected_fields=2)
    now, timeout = START + minute * MINUTE, 7 * MINUTE
    counts = sheet.counts(sheet.settled(now.timestamp(), timeout.total_seconds()))
    values = {(value.well, value.timepoint): value for value in ledger.well_times(SERIES, 2)}
    for row, well in enumerate(counts.wells):
        for column, timepoint in enumerate(counts.timepoints):
            value = values.get((well, timepoint))
            cells = dict(zip(counts.states, counts.counts[row, column].sum(axis=0).tolist(), strict=True))
            assert {state: n for state, n in cells.items() if n} == (
                {state: n for state, n in value.counts.items() if n} if value else {}
            )
            assert sheet.over["present"][row, column] == (value.fields_present if value else 0)
            assert counts.counted[row, column].sum() == (value.fields_present - value.fields_excluded if value else 0)
            assert sheet.expected[row] - sheet.over["present"][row, column] == (
                value.fields_missing if value else sheet.expected[row]
            )
    latest = ledger.latest(SERIES, 2, now=now, timeout=timeout)
    places = counts.latest()
    newest = {well: counts.timepoints[place] for well, place in zip(counts.wells, places, strict=True) if place >= 0}
    assert newest == {well: value.timepoint for well, value in latest.items()}


def test_wells_stand_in_plate_order_and_fields_in_that_of_their_names():
    lines = [bundle_line()]
    lines += [frame_line(well, 0, field, counts={"live": n}) for n, (well, field) in enumerate(
        [("AA1", "1"), ("B2", "2"), ("A10", "1"), ("A2", "1"), ("B2", "1")], start=1)]  # fmt: skip
    sheet = sheet_of(ledger_of(lines))
    assert sheet.wells == ("A2", "A10", "B2", "AA1")
    assert sheet.fields["B2"] == ("1", "2")
    assert sheet.cells[2, 0, :, 0].tolist() == [5, 2]


def test_a_field_that_comes_later_moves_what_is_there():
    ledger = ledger_of([bundle_line(), *(frame_line("A1", t, "2", counts={"live": 5 + t}) for t in range(2))])
    sheet = sheet_of(ledger)
    assert sheet.settled(START.timestamp() + 3600, math.inf).all()
    ledger_of([frame_line("A1", 1, "1", counts={"live": 1})], ledger, first=9)
    again = sheet.take([ledger.well_time(SERIES, "A1", 1)])
    assert again == [("A1", 0)]
    sheet.take([ledger.well_time(SERIES, "A1", 0)])
    assert sheet.cells[0, :, :, 0].tolist() == [[0, 5], [1, 6]]
    assert sheet.settled(START.timestamp() + 3600, math.inf).tolist() == [[False, True]]  # the first lacks a field now


def test_what_is_cut_from_it_does_not_change_with_it():
    ledger = ledger_of([bundle_line(), frame_line("A1", 0, counts={"live": 5})])
    sheet = sheet_of(ledger)
    counts = sheet.counts(sheet.settled(0.0, 0.0))
    ledger_of([frame_line("A1", 0, counts={"live": 9}, revision=1)], ledger, first=9)
    sheet.take([ledger.well_time(SERIES, "A1", 0)])
    assert counts.counts[0, 0, 0, 0] == 5
    assert sheet.cells[0, 0, 0, 0] == 9


def called(sha256: str, groups: dict[str, str]) -> CalledBy:
    return CalledBy(sha256, tuple(groups), groups, "t")


OLD = {"alive": "alive", "dying": "dying", "burst": "dead", "swollen": "dead", "dirt": "artefact"}
NEW = {"live": "alive", "dying": "dying", "necrotic": "dead", "shrunk": "dying", "gone": "dead"}


@pytest.mark.parametrize(
    ("state", "column"),
    [
        ("alive", 0),  # the only class of its group
        ("dying", 1),  # its own name, though the group has two
        ("burst", 2),  # two of its group: nobody can say which, and the group keeps its cells
        ("dirt", None),  # none of its group
        ("live", 0),
        (UNKNOWN, 5),
    ],
)
def test_an_older_indexs_classes_go_by_name_or_to_the_first_of_their_group(state, column):
    index = Index.of(called("new", NEW), [called("old", OLD), called("new", NEW)])
    assert index.states == (*NEW, UNKNOWN)
    assert index.versions == {"old": 1, "new": 2}
    assert index.columns.get(state) == column


def test_a_swapped_index_shows_by_its_version():
    other = "cd" * 32
    lines = [bundle_line(), frame_line("A1", 0, counts={"live": 5}), bundle_line(other)]
    lines.append(frame_line("A1", 2, counts={"live": 4}, bundle=other))
    ledger = ledger_of(lines)
    assert index_of(ledger, SERIES).versions == {INDEX: 1, other: 2}
    sheet = sheet_of(ledger)
    assert sheet.over["version"].tolist() == [[1, 2]]
    ledger_of([frame_line("A2", 2, counts={"live": 4})], ledger, first=9)  # and swapped back
    assert sheet_of(ledger).over["version"].tolist() == [[2, 1], [-1, 2]]  # the one that calls now is the highest


def test_after_a_swap_wells_that_wait_for_the_new_index_do_not_look_dead():
    finer = {"round": "alive", "flat": "alive", "necrotic": "dead"}
    lines = [bundle_line(), *(frame_line(well, 0, counts={"live": 90, "necrotic": 10}) for well in ("A1", "A2"))]
    lines += [bundle_line("cd" * 32, finer)]
    lines += [{**frame_line("A1", 1, counts={}, bundle="cd" * 32), "counts": {"round": 50, "flat": 40, "necrotic": 10}}]
    response = figures(ledger_of(lines)).response
    assert response.plain.value[:, 0, 2].tolist() == [0.1, 0.1]
    assert response.dead_timepoints.ravel().tolist() == [0, 0]


def test_an_onset_stays_over_a_swap_to_an_index_that_knows_no_dying_cells():
    wells = [f"{row}{column}" for row in "AB" for column in range(1, 5)]
    treated = START + timedelta(minutes=75)
    plan = plan_of(*(WellPlan(well, "control" if well[0] == "A" else "treated", treated_at=treated) for well in wells))

    def lines(times: range, states: tuple[str, str], sha256: str = INDEX) -> list[dict[str, object]]:
        dying = {(well, t): 10 + (120 if well == "B1" and t > 5 else 0) for well in wells for t in times}
        counts = {place: dict(zip(states, (200 - n, n), strict=True)) for place, n in dying.items()}
        return [{**frame_line(*place, counts={}, bundle=sha256), "counts": each} for place, each in counts.items()]

    found = [bundle_line(), *lines(range(12), ("live", "apoptotic"))]
    before = figures(ledger_of(found), Design(plan)).response.onset_s
    assert np.isfinite(before).tolist() == [well == "B1" for well in wells]
    found += [bundle_line("cd" * 32, {"intact": "alive", "broken": "dead"})]
    found += lines(range(12, 14), ("intact", "broken"), "cd" * 32)
    np.testing.assert_array_equal(figures(ledger_of(found), Design(plan)).response.onset_s, before)


def test_an_index_that_comes_back_is_corrected_by_its_own_confusion():
    other, exact = "cd" * 32, np.eye(4, 5) * 500
    swapped = exact.copy()
    swapped[0, :4] = 300, 0, 200, 0
    lines = [{**bundle_line(sha256), "confusion": {"counts": rows.tolist(), "effects": [1.0] * 4}}
             for sha256, rows in ((INDEX, swapped), (other, exact))]  # fmt: skip
    for t, sha256 in enumerate((INDEX, other, INDEX)):
        live = 180 if sha256 == INDEX else 300
        wells = ("A1", "A2", "A3")[: 2 if t == 2 else 3]  # of the third, the other index called the newest frame
        counts = {"live": live, "necrotic": 300 - live}
        lines += [frame_line(well, t, counts=counts, bundle=sha256) for well in wells]
    found = figures(ledger_of(lines)).response
    assert found.correction == "ok"
    np.testing.assert_allclose(found.corrected.value[:, 0, 0], [1, 1, math.nan], atol=0.01)
    whole = figures(ledger_of(lines), every=True).response.corrected.value[0, :, 0]
    np.testing.assert_allclose(whole, [1, math.nan, 1], atol=0.01)


def test_values_are_picked_at_each_wells_own_time_point():
    values = np.arange(6.0).reshape(2, 3)
    assert picked(values, np.array([[2], [0]])).tolist() == [[2.0], [3.0]]
    nobody = picked(values.astype(np.int32), np.array([[-1], [1]]))
    assert math.isnan(nobody[0, 0])
    assert nobody[1, 0] == 4
    assert picked(np.zeros((2, 0)), np.array([[-1], [-1]])).shape == (2, 1)


def test_a_wells_start_is_its_last_frame_at_or_before_the_treatment():
    lines = [bundle_line(), *(frame_line(well, t, counts={"live": 1}) for well in ("A1", "B1") for t in range(3))]
    counts = sheet_of(ledger_of(lines)).counts(np.ones((2, 3), bool))
    at = START.timestamp() + 1800
    assert start_of(counts, np.array([at, at - 0.5])).tolist() == [1, 0]
    assert start_of(counts, np.array([math.nan, at - 7200])).tolist() == [-1, -1]
    assert start_of(replace(counts, acquired_s=np.full((2, 3), math.nan)), np.array([at, at])).tolist() == [-1, -1]
