"""Parts of alignment on a stream: the frames that a fit is taken on, what is kept of it, how far controls have come."""

from __future__ import annotations

import contextlib
import csv
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cellvigil import config
from cellvigil.bundle.index import IndexEncoder
from cellvigil.data import UNKNOWN
from cellvigil.errors import StoreError, StoreFull, UsageError
from cellvigil.events import DOSED, MEDIUM, Event
from cellvigil.ledger import Design
from cellvigil.metrics import AlignmentMetrics
from cellvigil.platemap import BLANK, CONTROL, TREATED, PlatePlan, WellPlan
from cellvigil.service import straying
from cellvigil.service.control_wells import ControlWells
from cellvigil.service.fits import Failed, Fits, Kept
from cellvigil.service.recalling import due
from cellvigil.service.warmup import control_frames, untouched_until, warm_up
from cellvigil.store.gone import folder_of
from cellvigil.store.recover import plate_folders
from cellvigil.store.vectors import read_vectors, vectors_of
from cellvigil.store.writer import Store, open_store
from cellvigil.table import rows as table_rows
from cellvigil_indexes.inputs.stored_vectors import read_stored_vectors
from store_records import CLASSES, GROUPS, SERIES, START, calls_of, key, record

LITE0 = IndexEncoder("lite0", "ef" * 32, 8)
CONTROLS, T0 = config.Align(mode="states"), config.Align(mode="states", wells="t0")
TYPES = config.Align(mode="types")
LATER, EVER = START + timedelta(hours=1), datetime.max.replace(tzinfo=UTC)
DOSE, DOSE_OF_C = Event(LATER, DOSED), Event(LATER, DOSED, ("C1",))


def well(name: str, role: str, **more: Any) -> WellPlan:
    return WellPlan(name, role, **more)


@pytest.mark.parametrize(
    ("plan", "events", "align", "until"),
    [
        (well("A1", CONTROL), (DOSE,), CONTROLS, EVER),
        (well("A1", CONTROL), (DOSE,), T0, EVER),
        (well("A1", TREATED, treated_at=LATER), (), CONTROLS, None),
        (well("A1", TREATED, treated_at=LATER), (), T0, LATER),
        (well("A1", TREATED, treated_at=START), (DOSE,), T0, START),
        (well("A1", TREATED), (Event(START, MEDIUM), DOSE), T0, LATER),
        (well("A1", TREATED), (DOSE_OF_C,), T0, None),
        (well("A1", TREATED), (), T0, None),
        (None, (DOSE,), T0, LATER),
        (None, (), T0, None),
        (well("A1", BLANK), (DOSE,), T0, None),
        (well("A1", BLANK), (), TYPES, None),
        (well("A1", TREATED), (), TYPES, EVER),
        (None, (), TYPES, EVER),
    ],
)
def test_frames_count_for_a_fit_until_a_drug_may_have_touched_their_well(plan, events, align, until) -> None:
    design = Design(PlatePlan({"A1": plan} if plan else {}), events)
    assert untouched_until(design, "A1", align) == until


def write(store: Store, *wells: str, times: int = 3, n: int = 6, series: tuple[str, str, str] = SERIES, **more: Any):
    """`times` frames of each well, in time order; two of six cells lie at the border."""
    for timepoint, name in itertools.product(range(times), wells):
        store.append(record(key(name, timepoint, series=series), n=n, **more))


def plan(store: Store, wells: dict[str, str], series: tuple[str, str, str] = SERIES) -> None:
    design = Design(PlatePlan({name: WellPlan(name, role) for name, role in wells.items()}))
    store.journal_lines(series, [design.line(series, START)])


def test_a_warm_up_is_the_newest_counted_frames_of_control_wells(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    write(store, "A1", "A2", "B1")
    store.append(record(key("A1", 3), n=6, excluded="focus"))
    store.append(record(key("A1", 4), n=0))
    store.append(record(key("A2", 2), n=6, revision=1, pixels=np.ones((2, 12, 18), np.uint16)))
    ledger = store.ledger
    assert warm_up(ledger, "scope", CONTROLS, 1, ()).cells == 0  # nobody knows which are controls
    plan(store, {"A1": CONTROL, "A2": CONTROL, "B1": TREATED})
    found = warm_up(ledger, "scope", CONTROLS, 10, ())
    places = [(frame.key.well, frame.key.timepoint, frame.revision) for frame in found.frames]
    assert (places, found.cells) == ([("A1", 2, 0), ("A2", 2, 1), ("A1", 1, 0)], 12)
    assert warm_up(ledger, "scope", CONTROLS, 1000, ()).cells == 6 * 4
    assert warm_up(ledger, "other", CONTROLS, 10, ()).frames == ()
    assert [f.key.timepoint for f in control_frames(ledger, "scope", 3)] == [2, 2, 1]
    store.journal_lines(SERIES, [{"kind": "dropped", "series": list(SERIES), "t": 2, "tiers": ["embeddings"]}])
    assert {frame.t for frame in warm_up(ledger, "scope", CONTROLS, 1000, ()).frames}.isdisjoint({2})
    store.journal_lines(SERIES, [{"kind": "dropped", "series": list(SERIES), "t": 1, "tiers": ["measurements"]}])
    assert {frame.t for frame in warm_up(ledger, "scope", CONTROLS, 1000, ()).frames}.isdisjoint({1, 2})
    store.close()


def test_frames_without_vectors_of_the_indexes_encoders_are_no_warm_up(tmp_path: Path) -> None:
    """An index that was built again with another encoder: what was stored before cannot be fitted on."""
    with contextlib.closing(open_store(tmp_path)) as store:
        write(store, "A1")
        plan(store, {"A1": CONTROL})
        for encoders, cells in (([LITE0], 12), ([LITE0, replace(LITE0, name="other")], 0),
                                ([replace(LITE0, sha256="11" * 32)], 0)):  # fmt: skip
            found = warm_up(store.ledger, "scope", CONTROLS, 10, (), holds=vectors_of(tmp_path, encoders))
            assert (found.cells, len(found.frames)) == (cells, cells // 4)


def test_drift_from_an_earlier_fit_is_taken_back_with_the_next_one(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics = AlignmentMetrics(registry)
    source = config.Source(name="scope", kind="ometiff", path=tmp_path, index="x", align=CONTROLS)
    with contextlib.closing(open_store(tmp_path)) as store:
        metrics.drift("scope", 4.0)
        ControlWells(source, store, [LITE0], metrics).hold({})  # where they are now cannot be told
        assert registry.get_sample_value("cellvigil_alignment_drift_ratio", {"source": "scope"}) is None


def test_types_wait_for_cells_of_every_group(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    alive = replace(calls_of(30), best_ids=np.zeros(30, np.int16), unknown=np.zeros(30, np.bool_),
                    unknown_reason=("",) * 30)  # fmt: skip
    write(store, "A1", times=3, n=30, calls=alive)
    found = warm_up(store.ledger, "scope", TYPES, 20, ("alive", "dying"))
    assert found.lacking == ("dying",)
    assert found.cells == 60  # all there is: more may bring them
    assert warm_up(store.ledger, "scope", TYPES, 20, ("alive",)).lacking == ()
    store.close()


def test_stored_vectors_are_those_of_the_counted_cells_in_the_tables_order(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    write(store, "A1", "A2", times=2)
    fits = Fits(tmp_path / "state", "scope")
    wanted = [(key("A2", 1), 0), (key("A1", 0), 0)]
    number = fits.prepare(wanted)
    found = read_stored_vectors(tmp_path / "store", fits.table(number), [LITE0])
    expected = []
    for one, _ in wanted:
        made = record(one, n=6)
        expected.append(made.embeddings["lite0"].astype(np.float16)[~made.cells.touches_edge])
    np.testing.assert_array_equal(found.embeddings["lite0"], np.concatenate(expected).astype(np.float32))
    assert found.frames.tolist() == [0] * 4 + [1] * 4
    assert found.wells.tolist() == [0] * 4 + [1] * 4
    assert (found.provenance["cells"], found.provenance["frames"]) == (8, 2)
    store.close()


HEAD = "source,experiment,plate,well,field,timepoint,revision\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("well,field\nA1,1\n", "no column source"),
        (HEAD, "names no frame"),
        (HEAD + "s,e,p,A1,1,x,\n", "whole number"),
        (HEAD + "scope,240301_run,Plate 1,H12,1,0,\n", "not in the store"),
        (HEAD + "scope,240301_run,Plate 1,A1,1,0,0\n" * 2, "twice"),
    ],
)  # fmt: skip
def test_a_table_of_frames_that_is_wrong_is_named(tmp_path: Path, text: str, why: str) -> None:
    store = open_store(tmp_path / "store")
    write(store, "A1", times=1)
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(UsageError, match=why):
        read_stored_vectors(tmp_path / "store", tmp_path / "rows.csv", [LITE0])
    store.close()


def test_vectors_of_another_encoder_or_none_are_refused(tmp_path: Path) -> None:
    with contextlib.closing(open_store(tmp_path)) as store:
        write(store, "A1", times=1)
        frame, folder = store.ledger.frame(key()), folder_of(tmp_path, SERIES)
        with pytest.raises(StoreError, match="of version efefefefefef, not 111111111111"):
            read_vectors(folder, frame, [replace(LITE0, sha256="11" * 32)])
        with pytest.raises(StoreError, match="no embeddings of other"):
            read_vectors(folder, frame, [replace(LITE0, name="other")])
        empty = read_vectors(folder, replace(frame, n_cells=0), [LITE0])
        assert empty["lite0"].shape == (0, 8)


def test_a_fit_is_kept_and_what_was_cut_off_is_swept(tmp_path: Path) -> None:
    fits = Fits(tmp_path, "scope")
    assert (fits.kept(), fits.failed(), fits.asked()) == (None, None, "")
    assert fits.prepare([(key(), 0)]) == 1
    (fits.bundle(1) / "deep").mkdir(parents=True)
    (fits.folder / ".1.abc").mkdir()
    assert fits.prepare([(key("A2"), 2)]) == 1  # the first was never in force
    assert not fits.bundle(1).exists()
    assert not (fits.folder / ".1.abc").exists()
    with fits.table(1).open(newline="") as file:
        assert next(csv.DictReader(file))["revision"] == "2"
    fits.fail(Failed(1, 50, "why", {"index": "x"}))
    kept = Kept(1, "ab" * 32, {"index": "x"}, "2024-01-01T00:00:00Z", 60, "", {"centre": {}, "spread": {}})
    fits.keep(kept)
    again = Fits(tmp_path, "scope")
    assert (again.kept(), again.failed()) == (kept, None)
    fits.bundle(1).mkdir()
    assert again.prepare([(key(), 0)]) == 2
    assert fits.bundle(1).exists()
    assert again.ask(START) == fits.asked() != ""
    (fits.folder / "kept.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        again.kept()


def test_no_fit_is_begun_that_has_no_room(tmp_path: Path) -> None:
    fits = Fits(tmp_path, "scope")
    with pytest.raises(StoreFull, match="the aligned index may take 1000000000 MB"):
        fits.prepare([(key(), 0)], needs=10**15)
    assert list(fits.folder.iterdir()) == []
    assert fits.prepare([(key(), 0)], needs=1) == 1


@given(seed=st.integers(0, 10_000), frames=st.integers(3, 40), shift=st.floats(0, 30), scale=st.floats(0.01, 100))
def test_drift_is_in_units_of_the_spread_at_the_fit(seed: int, frames: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    means = [{"a": (rng.normal(size=16) * scale).astype(np.float32)} for _ in range(frames)]
    hold = straying.hold_of(means)
    hold = straying.hold_from(hold.plain())
    away = rng.normal(size=16)
    away *= shift * hold.spread["a"] / np.linalg.norm(away)
    at_fit = straying.ratio(hold, means)
    moved = straying.ratio(hold, [{"a": (mean["a"] + away).astype(np.float32)} for mean in means])
    assert 0.3 < at_fit < 1.3
    assert abs(moved - shift) <= max(straying.ratio(hold, [mean]) for mean in means) + 0.01


def test_alike_or_single_frames_say_nothing_of_drift() -> None:
    assert straying.hold_of([{"a": np.ones(3, np.float32)}]) is None
    assert straying.hold_of([{"a": np.ones(3, np.float32)}] * 5) is None
    assert straying.hold_from({}) is None
    hold = straying.hold_of([{"a": np.zeros(3, np.float32)}, {"a": np.ones(3, np.float32)}])
    assert np.isnan(straying.ratio(hold, []))


def test_what_is_due_for_a_recall_is_the_newest_first_and_not_what_the_index_called(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    write(store, "A1", "A2")
    ledger = store.ledger
    done = store.ledger.frame(key("A1", 1))
    store.append_calls(done, calls_of(6, bundle="12" * 32), CLASSES, GROUPS, aligned_from="ab" * 32)
    found = [(frame.key.well, frame.key.timepoint) for frame in due(ledger, SERIES, but={"12" * 32})]
    assert found == [("A2", 2), ("A1", 2), ("A2", 1), ("A2", 0), ("A1", 0)]
    assert [frame.key for frame in due(ledger, SERIES, only={"12" * 32})] == [done.key]
    store.close()
    told = {(row["well"], row["timepoint"]): row["aligned"] for batch in table_rows(tmp_path)
            for row in batch.to_pylist()}  # fmt: skip
    assert {place for place, aligned in told.items() if aligned} == {("A1", 1)}
    assert sum(ledger.calls(done.key, 0)[1].values()) == 4
    assert UNKNOWN in ledger.calls(done.key, 0)[1]


@pytest.mark.parametrize("cells", [0, 6])
def test_a_plate_that_retention_deleted_is_not_brought_back_by_a_recall(tmp_path: Path, cells: int) -> None:
    with contextlib.closing(open_store(tmp_path)) as store:
        write(store, "A1", times=1, n=cells)
        frame = store.ledger.frame(key("A1", 0))
        assert store.leave(SERIES)
        with pytest.raises(ValueError, match="not in the store"):
            store.append_calls(frame, calls_of(cells, bundle="12" * 32), CLASSES, GROUPS)
        assert plate_folders(tmp_path) == []
        assert store.ledger.is_gone(SERIES)


def test_aligning_needs_stored_embeddings(tmp_path: Path) -> None:
    source = {"name": "s", "kind": "ometiff", "path": "in", "index": "x", "align": {"mode": "states"}}
    raw = {"sources": [source], "store": {"embeddings": False}}
    with pytest.raises(UsageError, match=r"store\.embeddings must be true"):
        config.parse(raw, base=tmp_path)
