"""Frames committed together: the store that they would have left one by one, all of each or nothing of it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cellvigil.data import Record
from cellvigil.errors import BadFile, CellvigilError, StoreError, StoreFull
from cellvigil.journal import read
from cellvigil.store.recover import plate_folders
from cellvigil.store.writer import Committed, Filing, Store, open_store
from failing_disk import CALLS, Disk, killed_at
from store_records import SERIES, calls_of, key, record
from test_store_recovery import plate_folder, reopened

OTHER = ("scope", "240301_run", "Plate 2")
NOW = datetime(2024, 3, 2, tzinfo=UTC)


def small(well: str = "A1", timepoint: int = 0, revision: int = 0, **what: Any) -> Record:
    """A frame of a few pixels."""
    frame_key = key(well, timepoint, what.pop("field", "1"), what.pop("series", SERIES))
    return record(frame_key, revision=revision, **{"n": 3, "shape": (1, 5, 6), "dimension": 2, **what})


def bad(case: str) -> Record:
    """A record that does not fit the plate that `small` begins."""
    one = small("C3", 1)
    if case == "geometry":
        return small("C3", 1, shape=(1, 5, 7))
    if case == "cells":
        return small("C3", 1, n=8193)
    if case == "rows":
        return replace(one, embeddings={"lite0": np.zeros((2, 2), dtype=np.float32)})
    if case == "no number":
        return replace(one, stage_seconds={"read": float("nan")})
    other = small("A1", 0)
    return replace(other, frame=replace(other.frame, files=(replace(other.frame.files[0], digest="f" * 64),)))


def chunks_of(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name not in ("journal.jsonl", ".lock")
    }


def frame_lines(store: Path) -> list[list[dict[str, Any]]]:
    """Every plate's frame lines in order, their own numbers left out."""
    return [
        [{**line, "seq": 0} for line in read(folder / "journal.jsonl") if line["kind"] == "frame"]
        for folder in plate_folders(store)
    ]


def one_by_one(store: Store, filings: Sequence[Filing]) -> list[Committed | Exception]:
    answers: list[Committed | Exception] = []
    for filing in filings:
        try:
            answers.append(store.append(filing.record, folder=filing.folder, number=filing.number))
        except (BadFile, ValueError, StoreError) as error:
            answers.append(error)
    return answers


def plain(answer: Committed | Exception) -> object:
    if isinstance(answer, CellvigilError):
        return type(answer), answer.what, answer.hint
    if isinstance(answer, Exception):
        return type(answer), str(answer)
    return answer.key, answer.t, answer.revision, {**answer.line, "seq": 0}


good_records = st.builds(
    small,
    st.sampled_from(["A1", "A2", "B1"]),
    st.integers(0, 2),
    st.integers(0, 2),
    field=st.sampled_from(["1", "ROI2"]),
    series=st.sampled_from([SERIES, OTHER]),
    n=st.sampled_from([0, 3]),
)
any_records = st.one_of(good_records, st.sampled_from(["geometry", "rows", "no number", "files"]).map(bad))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(groups=st.lists(st.lists(any_records, max_size=6), min_size=1, max_size=3))
@example(groups=[[small()], [small(revision=1), small(field="ROI2")]])  # a known field beside a new one
def test_a_group_leaves_the_store_that_its_frames_leave_one_by_one(memory, groups):
    count = len(list(memory.iterdir()))
    together, alone = memory / f"{count}-together", memory / f"{count}-alone"
    with (
        contextlib.closing(open_store(together, now=lambda: NOW)) as ours,
        contextlib.closing(open_store(alone, now=lambda: NOW)) as twin,
    ):
        for group in groups:
            filings = [Filing(one, "folder", number) for number, one in enumerate(group)]
            found, expected = ours.append_all(filings), one_by_one(twin, filings)
            assert [plain(answer) for answer in found] == [plain(answer) for answer in expected]
            ours.publish(SERIES, overdue=0)
            twin.publish(SERIES, overdue=0)
    assert chunks_of(together) == chunks_of(alone)
    assert frame_lines(together) == frame_lines(alone)
    with contextlib.closing(open_store(together)) as again:
        assert again.recovered == ()


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("case", ["geometry", "cells", "rows", "no number", "files"])
def test_a_frame_that_does_not_fit_costs_the_others_nothing(memory, case, place):
    store = open_store(memory / "store")
    store.append(small())
    good = [small("A1", 1), small("B2", 0), small("B2", 1)]
    group = [*good[:place], bad(case), *good[place:]]
    answers = store.append_all([Filing(one) for one in group])
    wrong = {"geometry": BadFile, "cells": BadFile, "rows": ValueError, "no number": ValueError, "files": StoreError}
    assert isinstance(answers.pop(place), wrong[case])
    assert [(answer.t, answer.line["t"]) for answer in answers] == [(1, 1), (0, 0), (1, 1)]
    store.close()
    whole(memory / "store", [small(), *good])


def whole(path: Path, records: Sequence[Record]) -> None:
    """The store opens clean, and holds these records and no others, each once and right."""
    with contextlib.closing(open_store(path)) as store:
        assert store.recovered == ()
        for series in {one.frame.key.series for one in records}:
            mine = {(one.frame.key, one.revision) for one in records if one.frame.key.series == series}
            assert {(frame.key, frame.revision) for frame in store.ledger.frames(series)} == mine
            lines = [line for folder in plate_folders(path) for line in read(folder / "journal.jsonl")]
            frames = [line for line in lines if line["kind"] == "frame" and tuple(line["key"][:3]) == series]
            assert len(frames) == len(mine)
            assert len({(line["path"], line["t"]) for line in frames}) == len(mine)


def test_the_same_frame_twice_in_a_group_is_one_frame(memory):
    with contextlib.closing(open_store(memory / "store")) as store:
        first, second = store.append_all([Filing(small()), Filing(small())])
        assert first.line["kind"] == "frame"
        assert (second.t, second.revision, second.line) == (first.t, 0, {})
    whole(memory / "store", [small()])


def test_a_frame_and_its_revision_in_one_group(memory):
    with contextlib.closing(open_store(memory / "store")) as store:
        old, new = store.append_all([Filing(small()), Filing(small(revision=1, n=2))])
        assert (old.t, new.t, new.line["supersedes"]) == (0, 1, 0)
        assert "supersedes" not in old.line
        assert store.ledger.frame(key()).revision == 1
        [late] = store.append_all([Filing(small(revision=3))])
        assert late.line["supersedes"] == 1
    whole(memory / "store", [small(), small(revision=1), small(revision=3)])


def test_two_series_of_one_folder_in_a_group(memory):
    """As in a journal that a person copied: one of the two is refused, the rest is committed."""
    store = open_store(memory / "store")
    store.append(small())
    store.close()
    plate_folder(memory / "store").rename(plate_folder(memory / "store").with_name("Plate 2.zarr"))
    with contextlib.closing(open_store(memory / "store")) as again:
        refused, done = again.append_all([Filing(small(series=OTHER)), Filing(small(series=("scope", "next", "P")))])
        assert "one folder" in str(refused)
        assert done.line["t"] == 0


def test_an_empty_group_is_nothing(memory):
    with contextlib.closing(open_store(memory / "store")) as store:
        assert store.append_all([]) == []
    assert plate_folders(memory / "store") == []


@pytest.mark.parametrize(
    ("wells", "times", "most"),
    [(("A1",), 1, 13), (("A1",), 8, 8 * 6 + 6 + 1), (("A1", "A2", "A3", "A4"), 1, 4 * (6 + 6) + 1)],
    ids=["one frame", "eight times", "four fields"],
)
def test_fsyncs(memory, monkeypatch, wells, times, most):
    """Files of both full levels and four tables, their folders once each, the journal once."""
    with contextlib.closing(open_store(memory / "store")) as store:
        store.append_all([Filing(small(well)) for well in wells])
        group = [Filing(small(well, 1 + later)) for later in range(times) for well in wells]
        disk = Disk("fsync", 10**9, 0)
        with disk.failing(monkeypatch):
            store.append_all(group)
    assert disk.count == most


def test_the_bytes_of_every_tier_are_those_on_the_disk(memory):
    with contextlib.closing(open_store(memory / "store")) as store:
        lines = [answer.line for answer in store.append_all([Filing(small()), Filing(small("A1", 1, n=0))])]
        for line in lines:
            field = plate_folder(store.path) / line["path"]
            found = {"pixels": 0, "labels": 0, "embeddings": 0, "measurements": 0}
            for path in field.rglob(f"c.{line['t']}.*"):
                array = path.parent.relative_to(field).as_posix()
                tier = "pixels" if array in ("0", "1") else "labels" if "labels" in array else "measurements"
                found["embeddings" if "embedding" in array else tier] += path.stat().st_size
            assert line["bytes"] == found
        assert [dict(unit.sizes) for unit in store.ledger.units(SERIES)] == [line["bytes"] for line in lines]
        assert lines[0]["bytes"]["embeddings"] > lines[1]["bytes"]["embeddings"] == 0


def group_of_five() -> list[Record]:
    return [small("A1", 1), small("B2", 0), small("B2", 1), small("B2", 1, 1), small("C3", 2)]


@pytest.mark.parametrize("call", CALLS)
def test_a_group_killed_before_any_call_keeps_all_of_each_frame_or_nothing(memory, call):
    good, died = 0, True
    while died:
        path = memory / f"{call}{good}"
        with contextlib.closing(open_store(path)) as store:
            store.append(small())
            died = killed_at(call, good, partial(store.append_all, [Filing(one) for one in group_of_five()]))
        store = reopened(path)
        kept = {(frame.key, frame.revision) for frame in store.ledger.frames(SERIES)}
        assert kept <= {(one.frame.key, one.revision) for one in [small(), *group_of_five()]}
        with contextlib.closing(open_store(path)) as again:
            again.append_all([Filing(one) for one in group_of_five()])
        whole(path, [small(), *group_of_five()])
        good += 2 if call in ("fsync", "mkdir") else 3
    assert good > 5


def lines_from(journal: bytes, kind: bytes) -> int:
    """Where the first line of a kind begins."""
    return journal.rindex(b"\n", 0, journal.index(b'"kind":"%b"' % kind)) + 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.45, 0.6, 0.75, 0.9, 0.999])
def test_a_group_append_that_was_torn_keeps_the_lines_before_the_tear(memory, share):
    path = memory / "store"
    with contextlib.closing(open_store(path)) as store:
        store.append_all([Filing(one) for one in group_of_five()])
    journal = plate_folder(path) / "journal.jsonl"
    data = journal.read_bytes()
    begin = lines_from(data, b"frame")
    cut = data[: begin + int(share * (len(data) - begin))]
    journal.write_bytes(cut)
    stand = cut[begin:].count(b"\n")
    with contextlib.closing(open_store(path)) as again:
        assert len(again.ledger.frames(SERIES)) == stand
        answers = again.append_all([Filing(one) for one in group_of_five()])
        assert [bool(answer.line) for answer in answers] == [False] * stand + [True] * (5 - stand)
    whole(path, group_of_five())


@pytest.mark.parametrize("lost", range(5))
def test_a_group_append_that_lost_a_page_in_the_middle_keeps_the_other_lines(memory, lost):
    path = memory / "store"
    with contextlib.closing(open_store(path)) as store:
        store.append_all([Filing(one) for one in group_of_five()])
    journal = plate_folder(path) / "journal.jsonl"
    rows = journal.read_bytes().split(b"\n")
    place = next(number for number, row in enumerate(rows) if b'"kind":"frame"' in row) + lost
    rows[place] = rows[place][:9] + bytes(40) + rows[place][49:]
    journal.write_bytes(b"\n".join(rows))
    with contextlib.closing(open_store(path)) as again:
        assert len(again.ledger.frames(SERIES)) == 4
        answers = again.append_all([Filing(one) for one in group_of_five()])
        assert [bool(answer.line) for answer in answers] == [place == lost for place in range(5)]
    with contextlib.closing(open_store(path)) as store:
        assert len(store.ledger.frames(SERIES)) == 5


def test_a_second_plates_journal_that_fails_leaves_the_first_plates_frames(memory, monkeypatch):
    """Nothing is told twice and nothing is written twice when the caller tries the same group again."""
    store = open_store(memory / "store")
    store.append_all([Filing(small()), Filing(small(series=OTHER))])
    group = [Filing(small("A1", 1)), Filing(small("A1", 1, series=OTHER)), Filing(small("A1", 2))]
    real = os.open

    def refuse(path: str | Path, *args: Any, **options: Any) -> int:
        if str(path).endswith("Plate 2.zarr/journal.jsonl"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(StoreFull):
            store.append_all(group)
    assert [frame.key.timepoint for frame in store.ledger.frames(SERIES)] == [0, 1, 2]
    assert not list((memory / "store/scope/240301_run/Plate 2.zarr").rglob("c.1.*"))
    answers = store.append_all(group)
    assert [answer.line["t"] for answer in answers] == [1, 1, 2]
    assert [answer.line for answer in store.append_all(group)] == [{}, {}, {}]
    store.close()
    whole(memory / "store", [small(), small(series=OTHER), *(filing.record for filing in group)])


def test_a_lost_revision_is_done_again_as_the_next_one(memory):
    with contextlib.closing(open_store(memory / "store")) as store:
        store.append_all([Filing(small()), Filing(small("B2"))])
        lost = store.ledger.frame(key())
        line = {"kind": "lost", "key": [*SERIES, "A1", "1", 0], "revision": 0, "t": lost.t, "why": "damaged"}
        store.journal_lines(SERIES, [{**line, "committed_at": "2024-03-02T00:00:00Z"}])
        assert store.ledger.is_lost(key(), 0)
        with pytest.raises(StoreError, match=r"damaged.*revision 1"):
            store.append(small())
        again = replace(small(), revision=1)
        assert again.frame.files == small().frame.files
        assert store.append(again).line["supersedes"] == lost.t
    with contextlib.closing(open_store(memory / "store")) as store:
        assert store.ledger.is_lost(key(), 0)
        assert store.ledger.frame(key()).revision == 1


def test_dropped_slots_take_nothing_more(memory):
    with contextlib.closing(open_store(memory / "store")) as store:
        store.append_all([Filing(small()), Filing(small("B2"))])
        line = {"kind": "dropped", "series": list(SERIES), "t": 0, "tiers": ["pixels", "measurements"], "why": "age"}
        store.journal_lines(SERIES, [{**line, "committed_at": "2024-03-02T00:00:00Z"}])
        for path in store.chunk_paths(SERIES, 0, ["pixels", "measurements"]):
            path.unlink(missing_ok=True)
        late, other, revised = store.append_all(
            [Filing(small("C3")), Filing(small("C3", field="2")), Filing(small("B2", 0, 1))]
        )
        assert (late.t, other.t, revised.t) == (1, 1, 2)
        with pytest.raises(ValueError, match="deleted by retention"):
            store.append_calls(store.ledger.frame(key(), 0), calls_of(3, bundle="12" * 32), ("a", "b", "c"), {})
    with contextlib.closing(open_store(memory / "store")) as store:
        assert store.recovered == ()
        assert store.ledger.dropped(SERIES, 0) == {"pixels", "measurements"}


def test_lines_for_a_plate_that_is_not_there_are_refused(memory):
    with contextlib.closing(open_store(memory / "store")) as store, pytest.raises(ValueError, match="no plate"):
        store.journal_lines(SERIES, [{"kind": "dropped"}])
    assert plate_folders(memory / "store") == []


def test_a_question_about_an_unknown_plate_begins_none(memory):
    with contextlib.closing(open_store(memory / "store")) as store:
        assert store.channels(SERIES) is None
        assert store.publish(SERIES) == 0
        assert store.chunk_paths(SERIES, 0, ["pixels"]) == []
    assert plate_folders(memory / "store") == []


def test_a_plate_that_was_left_is_gone_after_a_restart_too(memory):
    with contextlib.closing(open_store(memory / "store")) as store:
        store.append_all([Filing(small()), Filing(small(series=OTHER))])
        store.leave(SERIES)
        assert store.ledger.is_gone(SERIES)
    with contextlib.closing(open_store(memory / "store")) as store:
        assert store.ledger.is_gone(SERIES)
        assert not store.ledger.is_gone(OTHER)
        assert [folder.name for folder in plate_folders(store.path)] == ["Plate 2.zarr"]
