"""The ledger: what is done, and what a well's value is."""

from __future__ import annotations

import json
import math
import random
import threading
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.data import Baseline
from cellvigil.ledger import Ledger, WellTime, shares
from plain_ledger import PlainLedger
from store_records import CLASSES, GROUPS, SERIES, START, key

MINUTES = timedelta(minutes=1)


def at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


def frame_line(
    seq: int,
    well: str = "A1",
    timepoint: int = 0,
    field: str = "1",
    *,
    revision: int = 0,
    counts: dict[str, int] | None = None,
    outcome: str = "counted",
    committed: float | None = None,
    files: list[list[object]] | None = None,
    **other: object,
) -> dict[str, object]:
    states = {**dict.fromkeys((*CLASSES, "unknown"), 0), **(counts or {})}
    return {
        "seq": seq,
        "kind": "frame",
        "key": [*SERIES, well, field, timepoint],
        "t": seq,
        "revision": revision,
        "path": f"{well[0]}/{well[1:]}/{field}",
        "acquired_at": at(30 * timepoint),
        "committed_at": at(seq if committed is None else committed),
        "files": files if files is not None else [[f"{well}_{field}_{timepoint}.tif", 10 + revision, 99, "d"]],
        "n_cells": sum(states.values()),
        "edge": 0,
        "counts": states,
        "outcome": outcome,
        "quality": {"focus": 1.0},
        "bundle": "b",
        "tables": [],
        "folder": "",
        "number": -1,
        **other,
    }


def calls_line(seq: int, counts: dict[str, int], *, revision: int = 0, bundle: str = "c") -> dict[str, object]:
    place = {"key": [*SERIES, "A1", "1", 0], "revision": revision, "t": 0}
    return {"seq": seq, "kind": "calls", **place, "bundle": bundle, "counts": counts, "table": "cells/calls-c"}


def ledger_of(lines: list[dict[str, object]]) -> Ledger:
    ledger = Ledger()
    for line in lines:
        ledger.add(line)
    return ledger


def value(ledger: Ledger, expected_fields: int = 1, well: str = "A1", timepoint: int = 0) -> WellTime:
    values = ledger.well_times(SERIES, expected_fields)
    return next(one for one in values if (one.well, one.timepoint) == (well, timepoint))


def test_an_empty_ledger_answers():
    ledger = Ledger()
    assert ledger.series() == ()
    assert not ledger.is_done("scope", "a.tif", 1, 1)
    assert ledger.file("scope", "a.tif") is None
    assert ledger.revision(key()) == -1
    assert ledger.frame(key()) is None
    assert ledger.well_times(SERIES) == []
    assert ledger.latest(SERIES, now=START, timeout=MINUTES) == {}
    assert ledger.baseline(SERIES) is None
    assert ledger.ordinals(SERIES) == {}


def test_a_file_is_done_as_it_was_read_and_not_once_it_changed():
    ledger = ledger_of([frame_line(1, files=[["a.tif", 10, 99, "d"], ["b.tif", 20, 98, "e"]])])
    assert ledger.is_done("scope", "a.tif", 10, 99)
    assert ledger.is_done("scope", "b.tif", 20, 98)
    assert not ledger.is_done("scope", "a.tif", 11, 99)
    assert not ledger.is_done("scope", "a.tif", 10, 100)
    assert not ledger.is_done("another", "a.tif", 10, 99)
    assert ledger.file("scope", "b.tif").ref.digest == "e"
    assert ledger.file("scope", "b.tif").key == key()


def test_a_rewritten_file_is_done_as_it_was_last_read():
    lines = [frame_line(1, files=[["a.tif", 10, 1, "d"]]), frame_line(2, revision=1, files=[["a.tif", 12, 2, "e"]])]
    for order in (lines, lines[::-1]):
        ledger = ledger_of(order)
        assert ledger.is_done("scope", "a.tif", 12, 2)
        assert not ledger.is_done("scope", "a.tif", 10, 1)
        assert ledger.file("scope", "a.tif").revision == ledger.revision(key()) == 1


def test_a_rewritten_file_is_done_as_it_was_last_read_though_the_clock_was_set_back():
    lines = [
        frame_line(1, files=[["a.tif", 10, 1, "d"]]),
        frame_line(2, revision=1, files=[["a.tif", 12, 2, "e"]], committed=-60),
        {"seq": 3, "kind": "files", "key": [*SERIES, "A1", "1", 0], "revision": 1, "committed_at": at(-90),
         "files": [["a.tif", 12, 3, "e"]]},
    ]  # fmt: skip
    for count, (size, mtime_ns) in ((2, (12, 2)), (3, (12, 3))):
        for order in (lines[:count], lines[:count][::-1]):
            ledger = ledger_of(order)
            assert ledger.is_done("scope", "a.tif", size, mtime_ns)
            assert ledger.file("scope", "a.tif").revision == 1


def test_a_plate_that_begins_anew_knows_its_files_by_its_new_journal():
    lines = [frame_line(80, files=[["a.tif", 10, 1, "d"]])]
    lines.append({"seq": 1, "kind": "gone", "series": list(SERIES), "newest_mtime_ns": 1, "committed_at": at(90)})
    lines.append({"seq": 2, "kind": "returned", "series": list(SERIES), "committed_at": at(95)})
    lines.append(frame_line(4, files=[["a.tif", 10, 2, "d"]], committed=96))
    assert ledger_of(lines).is_done("scope", "a.tif", 10, 2)


def test_a_well_sums_its_fields():
    ledger = ledger_of(
        [
            frame_line(1, field="1", counts={"live": 10, "apoptotic": 2, "unknown": 1}),
            frame_line(2, field="2", counts={"live": 5, "debris": 4}),
        ]
    )
    one = value(ledger, expected_fields=2)
    assert one.counts == {"live": 15, "apoptotic": 2, "debris": 4, "unknown": 1}
    assert (one.fields_present, one.fields_missing, one.fields_excluded, one.complete) == (2, 0, 0, True)
    assert one.bundle == "b"


@pytest.mark.parametrize(
    ("given_fields", "seen", "missing"),
    [(1, 1, 0), (4, 1, 3), (4, 4, 0), (1, 3, 0), (2, 3, 0)],
)
def test_a_well_lacks_the_fields_it_was_told_or_ever_had(given_fields, seen, missing):
    ledger = ledger_of([frame_line(number, field=str(number)) for number in range(1, seen + 1)])
    assert value(ledger, given_fields).fields_missing == missing
    ledger.add(frame_line(50, timepoint=1, field="1"))
    assert value(ledger, given_fields, timepoint=1).fields_missing == max(given_fields, seen) - 1


def test_a_newer_revision_replaces_its_frame():
    ledger = ledger_of(
        [
            frame_line(1, counts={"live": 10}),
            frame_line(2, field="2", counts={"live": 1}),
            frame_line(3, revision=1, counts={"live": 7}),
        ]
    )
    assert value(ledger).counts["live"] == 8


def test_an_excluded_frame_is_left_out_and_its_newer_revision_counts():
    ledger = ledger_of(
        [
            frame_line(1, counts={"live": 10}, outcome="excluded"),
            frame_line(2, field="2", counts={"live": 3}),
        ]
    )
    one = value(ledger)
    assert one.counts["live"] == 3
    assert (one.fields_present, one.fields_missing, one.fields_excluded) == (2, 0, 1)
    ledger.add(frame_line(3, revision=1, counts={"live": 9}))
    assert value(ledger).counts["live"] == 12
    assert value(ledger).fields_excluded == 0


def test_the_last_calls_of_a_revision_are_the_current_ones():
    lines = [frame_line(1, counts={"live": 10}), calls_line(5, {"live": 6}), calls_line(4, {"live": 4}, bundle="old")]
    for order in (lines, lines[::-1]):
        one = value(ledger_of(order))
        assert one.counts == {"live": 6}
        assert one.bundle == "c"


def latest(ledger: Ledger, minutes: float, expected_fields: int = 2) -> dict[str, tuple[int, int]]:
    now = START + timedelta(minutes=minutes)
    found = ledger.latest(SERIES, expected_fields, now=now, timeout=30 * MINUTES)
    return {well: (one.timepoint, one.fields_missing) for well, one in found.items()}


def test_a_value_stands_until_the_next_is_complete_or_timed_out():
    ledger = ledger_of([frame_line(1, field="1"), frame_line(2, field="2")])
    assert latest(ledger, 3) == {"A1": (0, 0)}
    ledger.add(frame_line(10, timepoint=1, field="1"))
    assert latest(ledger, 11) == {"A1": (0, 0)}
    assert latest(ledger, 39.9) == {"A1": (0, 0)}
    assert latest(ledger, 40) == {"A1": (1, 1)}
    ledger.add(frame_line(41, timepoint=1, field="2"))
    assert latest(ledger, 41) == {"A1": (1, 0)}


def test_before_its_first_round_is_complete_a_well_has_no_value():
    ledger = ledger_of([frame_line(1, field="1")])
    assert latest(ledger, 2) == {}
    assert latest(ledger, 31) == {"A1": (0, 1)}


def test_a_complete_later_time_point_does_not_wait_for_an_earlier_one():
    ledger = ledger_of(
        [
            frame_line(1, timepoint=0, field="1"),
            frame_line(2, timepoint=1, field="1"),
            frame_line(3, timepoint=1, field="2"),
        ]
    )
    assert latest(ledger, 4) == {"A1": (1, 0)}


def test_a_time_point_of_excluded_frames_leaves_the_last_value_standing():
    ledger = ledger_of([frame_line(1), frame_line(2, timepoint=1, outcome="excluded")])
    assert latest(ledger, 3, expected_fields=1) == {"A1": (0, 0)}


def test_acquired_at_is_the_middle_of_the_fields():
    lines = [frame_line(number, field=str(number), acquired_at=at(minutes)) for number, minutes in enumerate((0, 2, 7))]
    assert value(ledger_of(lines)).acquired_at == START + 2 * MINUTES


def test_baseline_and_ordinals():
    ledger = Ledger()
    ledger.add({"seq": 1, "kind": "baseline", "series": list(SERIES), "intensity": [1, 2], "focus": 3})
    ledger.add({"seq": 9, "kind": "baseline", "series": list(SERIES), "intensity": [4, 5], "focus": 6})
    ledger.add({"seq": 4, "kind": "baseline", "series": list(SERIES), "intensity": [7, 8], "focus": 9})
    assert ledger.baseline(SERIES) == Baseline((4.0, 5.0), 6.0)
    ledger.add(frame_line(10, timepoint=3, folder="240301", number=4))
    ledger.add(frame_line(11, timepoint=4, folder="240302", number=1))
    ledger.add(frame_line(12, timepoint=5))
    assert ledger.ordinals(SERIES) == {("240301", 4): 3, ("240302", 1): 4}
    assert ledger.fields(SERIES) == {"A1": ("1",)}


def test_lines_it_does_not_know_are_passed_over():
    ledger = ledger_of([{"seq": 1, "kind": "event", "text": "treated"}, {"seq": 2}, {"seq": 3, "kind": "later"}])
    assert ledger.series() == ()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, {}),
        ({"live": 0, "apoptotic": 0, "debris": 9, "unknown": 3}, {}),
        ({"live": 3, "apoptotic": 1, "debris": 9, "unknown": 3}, {"live": 0.75, "apoptotic": 0.25}),
        ({"live": 5}, {"live": 1.0, "apoptotic": 0.0}),
    ],
)
def test_shares_divide_by_the_cells_that_live_or_lived(counts, expected):
    assert shares(counts, GROUPS) == expected


# A history as a journal would have it: several wells, fields and times, revisions, recalls, exclusions.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["frame", "calls"]),
        st.sampled_from(["A1", "B2"]),
        st.integers(0, 2),
        st.sampled_from(["1", "2"]),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=25,
)


def history(steps: list[tuple[str, str, int, str, int, bool]]) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    revisions: dict[tuple[str, int, str], int] = {}
    for seq, (kind, well, timepoint, field, cells, excluded) in enumerate(steps, start=1):
        place = (well, timepoint, field)
        if kind == "frame":
            revisions[place] = revisions.get(place, -1) + 1
            outcome = "excluded" if excluded else "counted"
            size = {"counts": {"live": cells}, "outcome": outcome, "revision": revisions[place]}
            lines.append(frame_line(seq, well, timepoint, field, **size))
        elif place in revisions:
            line = calls_line(seq, {"live": cells, "apoptotic": 1}, revision=revisions[place])
            lines.append({**line, "key": [*SERIES, well, field, timepoint]})
    return lines


def answers(ledger: Ledger) -> object:
    wells = [replace(one, counts=dict(one.counts)) for one in ledger.well_times(SERIES, 2)]
    files = [ledger.file("scope", f"{w}_{f}_{t}.tif") for w in ("A1", "B2") for f in "12" for t in range(3)]
    return repr((ledger.series(), wells, files, ledger.fields(SERIES), ledger.frames(SERIES)))


def slow_counts(lines: list[dict[str, object]], well: str, timepoint: int) -> dict[str, int]:
    """What a well counts, the long way: the last revision of each field, and the last calls of that."""
    total: dict[str, int] = {}
    for field in ("1", "2"):
        mine = [line for line in lines if line["key"][3:] == [well, field, timepoint]]
        frames = [line for line in mine if line["kind"] == "frame"]
        if not frames or frames[-1]["outcome"] == "excluded":
            continue
        current = [line for line in mine if line["revision"] == frames[-1]["revision"]][-1]
        for state, cells in current["counts"].items():
            total[state] = total.get(state, 0) + cells
    return total


@settings(max_examples=100)
@given(STEPS, st.randoms(use_true_random=False))
def test_the_order_of_the_lines_does_not_matter_and_a_replay_is_the_same(steps, shuffler: random.Random):
    lines = history(steps)
    expected = answers(ledger_of(lines))
    replayed = [json.loads(json.dumps(line)) for line in lines]
    assert answers(ledger_of(replayed)) == expected
    assert answers(ledger_of(replayed + replayed)) == expected  # reading a line twice changes nothing
    shuffler.shuffle(replayed)
    assert answers(ledger_of(replayed)) == expected


@settings(max_examples=100)
@given(STEPS)
def test_counts_agree_with_the_slow_way(steps):
    lines = history(steps)
    for one in ledger_of(lines).well_times(SERIES, 2):
        assert one.counts == slow_counts(lines, one.well, one.timepoint)
        assert one.committed_at == min(
            datetime.fromisoformat(line["committed_at"])
            for line in lines
            if line["kind"] == "frame" and (line["key"][3], line["key"][5]) == (one.well, one.timepoint)
        )


# Every kind of line that the ledger takes, in the order in which one journal may tell them.
MORE = st.lists(
    st.tuples(
        st.sampled_from(
            ["frame", "frame", "frame", "calls", "files", "attached", "dropped", "lost", "baseline", "gone"]
        ),
        st.sampled_from(["A1", "B2"]),
        st.integers(0, 2),
        st.sampled_from(["1", "2"]),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=30,
)


def certainty(number: int) -> dict[str, float]:
    sure = {"rated": number, "probability": number / 7, "tested": number, "novel": number // 2, "typical": number // 3}
    return {**sure, "voted": number, "agreement": number / 9} if number % 2 else sure


def full_history(steps: list[tuple[str, str, int, str, int, bool]]) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    revisions: dict[tuple[str, int, str], int] = {}
    slots: dict[tuple[str, int, str], int] = {}
    for seq, (kind, well, timepoint, field, number, flag) in enumerate(steps, start=1):
        place = (well, timepoint, field)
        revision = revisions.get(place, -1)
        name, digest = f"{well}_{field}_{timepoint}.tif", f"{seq:064x}" if flag else f"odd {seq}"
        about = {"seq": seq, "kind": kind, "key": [*SERIES, well, field, timepoint], "revision": revision, "t": number}
        at_once = {**about, "committed_at": at(seq // 2), "files": [[name, number, seq, digest]]}
        if kind == "frame":
            revisions[place], slots[place] = revision + 1, number
            changes = {"outcome": "excluded" if flag else "counted", "revision": revision + 1, "t": number}
            changes |= {"bytes": {"pixels": number, "labels": 2}, "channels": ["a"] if flag else ["a", "b"]}
            changes |= {"files": at_once["files"], "folder": "f", "number": number - 1, "committed": seq // 2}
            changes |= {"quality": {"focus": None if number == 3 else number / 3}, "edge": number}
            changes |= {"certainty": certainty(number)} if number > 4 else {}  # lines of an older version lack it
            lines.append(frame_line(seq, well, timepoint, field, counts={"live": number}, **changes))
        elif kind == "calls" and revision >= 0:
            calls = {"counts": {"live": number, "other": 1}, "bundle": digest, "table": "cells/calls-c"}
            lines.append({**about, **calls, **({"certainty": certainty(number)} if flag else {})})
        elif kind == "files" and revision >= 0:
            lines.append(at_once)
        elif kind == "attached" and revision >= 0:
            late = [[f"late {name}", number, seq, digest]]
            at_once |= {"files": late, "t": slots[place]}
            lines.append({**at_once, "channels": ["b"] if flag else ["c"], "bytes": {"pixels": number}})
        elif kind == "lost" and revision >= 0:
            lines.append({**about, "why": "damaged", "committed_at": at(seq)})
        elif kind == "dropped":
            tiers = ["pixels"] if flag else ["labels", "embeddings"]
            lines.append({"seq": seq, "kind": kind, "series": list(SERIES), "t": number, "tiers": tiers, "why": "age"})
        elif kind == "baseline":
            lines.append({"seq": seq, "kind": kind, "series": list(SERIES), "intensity": [0, number], "focus": 1.0})
        elif kind == "gone":
            lines.append({"seq": seq, "kind": kind, "series": ["scope", "gone", "Plate 1"], "committed_at": at(seq)})
    return lines


def every_answer(ledger: Ledger | PlainLedger) -> list[object]:
    names = [f"{late}{w}_{f}_{t}.tif" for late in ("", "late ") for w in ("A1", "B2") for f in "12" for t in range(3)]
    places = [(key(w, t, f), r) for w in ("A1", "B2") for t in range(3) for f in "12" for r in range(4)]
    now = START + timedelta(minutes=12)
    return [
        ledger.series(),
        repr(ledger.well_times(SERIES, 2)),  # as text, since a sharpness that was not measured is NaN
        repr(sorted(ledger.latest(SERIES, 2, now=now, timeout=5 * MINUTES).items())),
        repr(ledger.frames(SERIES)),
        ledger.units(SERIES),
        ledger.fields(SERIES),
        ledger.ordinals(SERIES),
        ledger.baseline(SERIES),
        ledger.last_commit(SERIES),
        [ledger.dropped(SERIES, slot) for slot in range(10)],
        [ledger.is_gone(series) for series in (SERIES, ("scope", "gone", "Plate 1"))],
        [ledger.file("scope", name) for name in names],
        [ledger.is_done("scope", name, size, 5) for name in names for size in range(10)],
        [ledger.revision(one) for one, _ in places],
        [repr(ledger.frame(one)) for one, _ in places],
        [repr(ledger.frame(one, revision)) for one, revision in places],
        [ledger.calls(one, revision) for one, revision in places],
        [ledger.is_lost(one, revision) for one, revision in places],
    ]


@settings(max_examples=200, deadline=None)
@given(MORE)
def test_the_packed_ledger_answers_as_one_with_an_object_a_frame(steps):
    lines = full_history(steps)
    plain = PlainLedger()
    for line in lines:
        plain.add(line)
    assert every_answer(ledger_of(lines)) == every_answer(plain)
    assert every_answer(ledger_of(lines + lines)) == every_answer(plain)  # a replay changes nothing


def test_what_was_attached_to_a_frame_counts_in_whatever_order_it_is_told():
    late = {"seq": 2, "kind": "attached", "key": [*SERIES, "A1", "1", 0], "revision": 0, "t": 1, "path": "A/1/1"}
    late |= {"channels": ["GFP"], "files": [["gfp.tif", 7, 8, "e"]], "missing_channels": [], "bytes": {"pixels": 5}}
    late |= {"committed_at": at(3)}
    lines = [frame_line(1, channels=["BF"], bytes={"pixels": 10}), late]
    for order in (lines, lines[::-1]):
        ledger = ledger_of(order)
        frame = ledger.frame(key())
        assert frame.channels == ("BF", "GFP")
        assert [ref.path for ref in frame.files] == ["A1_1_0.tif", "gfp.tif"]
        assert ledger.is_done("scope", "gfp.tif", 7, 8)
        assert ledger.units(SERIES)[0].sizes["pixels"] == 15


def test_one_thread_adds_while_others_ask():
    lines = [frame_line(seq, f"A{1 + seq % 12}", seq // 12) for seq in range(3000)]
    ledger, wrong = Ledger(), []

    def ask() -> None:
        while not done.is_set():
            for seq in (0, 1500, 2999):
                well, timepoint = f"A{1 + seq % 12}", seq // 12
                note = ledger.file("scope", f"{well}_1_{timepoint}.tif")
                if note is not None and (note.key != key(well, timepoint) or note.ref.size != 10):
                    wrong.append(note)
            ledger.latest(SERIES, now=START, timeout=MINUTES)

    done = threading.Event()
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for line in lines:
        ledger.add(line)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(ledger.frames(SERIES)) == 3000


def test_what_was_attached_to_a_frame_whose_line_went_bad_is_not_the_next_ones():
    late = {"seq": 2, "kind": "attached", "key": [*SERIES, "A1", "1", 0], "revision": 0, "t": 1, "path": "A/1/1"}
    late |= {"channels": ["GFP"], "missing_channels": [], "files": [["late.tif", 1, 2, "e"]], "committed_at": at(2)}
    late |= {"bytes": {"pixels": 70}}
    for lines in ([late, frame_line(3)], [frame_line(3), late]):
        ledger = ledger_of(lines)
        [frame] = ledger.frames(SERIES)
        assert (frame.t, frame.channels) == (3, ())
        assert not ledger.is_done("scope", "late.tif", 1, 2)  # it is still to be attached
        assert [unit.t for unit in ledger.units(SERIES)] == [3]


def test_a_wells_value_tells_its_fields_those_left_out_too():
    lines = [
        frame_line(1, field="2", counts={"live": 10}, quality={"focus": 2.0}),
        frame_line(2, field="1", counts={"live": 4}, outcome="excluded", quality={"focus": None}),
        frame_line(3, field="2", counts={"live": 7}, revision=1),
    ]
    one = value(ledger_of(lines), expected_fields=3)
    assert [(field.field, field.counts["live"], field.counted) for field in one.fields] == [
        ("1", 4, False),
        ("2", 7, True),
    ]
    assert math.isnan(one.fields[0].focus)
    assert one.fields[1].focus == 1.0
    assert ledger_of(lines).well_time(SERIES, "A1", 0, 3).counts == one.counts
    assert ledger_of(lines).well_time(SERIES, "A1", 1) is None


def test_certainty_is_that_of_the_calls_that_stand_over_the_fields_that_count():
    lines = [
        frame_line(1, field="1", certainty={"rated": 4, "probability": 3.0, "tested": 4, "novel": 1, "typical": 3}),
        frame_line(2, field="2", certainty={"rated": 6, "probability": 3.0, "tested": 6, "novel": 2, "typical": 1}),
        frame_line(
            3, field="3", certainty={"rated": 99, "probability": 1.0, "tested": 99, "novel": 99}, outcome="excluded"
        ),
    ]
    one = value(ledger_of(lines))
    assert (one.probability, one.novel, one.typical) == (0.6, 0.3, 0.4)
    recalled = {**calls_line(5, {"live": 6}), "certainty": {"rated": 2, "probability": 2.0, "tested": 0, "novel": 0}}
    for order in ([*lines, recalled], [recalled, *lines]):
        one = value(ledger_of(order))
        assert one.probability == 5 / 8
        assert one.novel == pytest.approx(2 / 6)
        assert one.typical == pytest.approx(1 / 6)


def test_a_journal_of_an_older_version_says_nothing_of_certainty():
    one = value(ledger_of([frame_line(1, counts={"live": 3})]))
    assert math.isnan(one.probability)
    assert math.isnan(one.novel)
    assert math.isnan(one.typical)
    before = {"rated": 4, "probability": 3.0, "tested": 4, "novel": 1}  # of before typical cells were counted
    assert value(ledger_of([frame_line(1, certainty=before)])).typical == 1.0


def test_changes_are_told_once_and_only_what_changed():
    ledger = ledger_of([frame_line(1), frame_line(2, well="B2"), frame_line(3, field="2")])
    now, places = ledger.changed(0)
    assert sorted(places) == [(SERIES, "A1", 0), (SERIES, "B2", 0)]
    assert ledger.changed(now) == (now, [])
    ledger.add(frame_line(1))  # told a second time
    assert ledger.changed(now) == (now, [])
    ledger.add(calls_line(5, {"live": 1}))
    ledger.add(calls_line(4, {"live": 9}))  # older calls change nothing
    now, places = ledger.changed(now)
    assert places == [(SERIES, "A1", 0)]
    ledger.add({"seq": 9, "kind": "gone", "series": list(SERIES), "committed_at": at(9)})
    now, places = ledger.changed(now)
    assert places == [(SERIES, "", -1)]
    assert ledger.well_time(SERIES, "A1", 0) is None


def test_what_changes_for_a_whole_plate_is_told_as_such():
    ledger = ledger_of([frame_line(1)])
    now, _ = ledger.changed(0)
    ledger.add({"seq": 2, "kind": "baseline", "series": list(SERIES), "intensity": [0, 1], "focus": 1.0})
    now, places = ledger.changed(now)
    assert places == [(SERIES, "", -1)]
    groups = {"live": "alive"}
    about = {
        "kind": "bundle",
        "series": list(SERIES),
        "sha256": "b",
        "classes": ["live"],
        "groups": groups,
        "table": "t",
    }
    ledger.add({"seq": 3, **about})
    assert ledger.changed(now)[1] == [(SERIES, "", -1)]
    assert ledger.called_last(SERIES).sha256 == "b"


def test_the_index_that_called_last_is_that_of_the_newest_line():
    bundle = {"kind": "bundle", "series": list(SERIES), "classes": ["live"], "groups": {"live": "alive"}, "table": "t"}
    lines = [
        {"seq": 1, **bundle, "sha256": "b"},
        {"seq": 2, **bundle, "sha256": "c"},
        calls_line(3, {"live": 1}),
        frame_line(4, timepoint=2),
    ]
    assert ledger_of(lines[:3]).called_last(SERIES).sha256 == "c"
    assert ledger_of(lines).called_last(SERIES).sha256 == "b"
    assert ledger_of(lines[::-1]).called_last(SERIES).sha256 == "b"
    assert Ledger().called_last(SERIES) is None
