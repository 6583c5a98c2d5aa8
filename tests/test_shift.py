"""How far a field of view has moved: two pictures of it, and what the service finds in its store."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from prometheus_client import CollectorRegistry

from cellvigil import config
from cellvigil.events import PLATE_IN, PLATE_OUT, Event
from cellvigil.journal import read
from cellvigil.ledger import Ledger
from cellvigil.metrics import Metrics
from cellvigil.rehearse import optics
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.service.drift import Drift, pairs
from cellvigil.service.serve import once
from cellvigil.service.tally import Tally
from cellvigil.shift import LEAST_PEAK, LEAST_SIDE, measure
from cellvigil.store.dropping import drop
from cellvigil.store.planes import read_plane
from cellvigil.store.reader import read_ledger
from cellvigil.store.retention import Drop
from cellvigil.store.writer import Store, open_store
from lab import Lab
from store_records import SERIES, START, key, record

HEIGHT, WIDTH = 452, 612
REAL = Path(os.environ.get("CELLVIGIL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "phase-t98g"


def lamp() -> np.ndarray:
    """Uneven light that stays where it is whatever the plate does."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return (1.1 - 0.15 * (y**2 + x**2)).astype(np.float32)


@pytest.fixture(scope="module")
def ground() -> dict[tuple[str, int], np.ndarray]:
    """Two wells, four fields wide, as they grow: by well and quarter of an hour."""
    assay = Assay(seed=2, shape=(2 * HEIGHT, 2 * WIDTH), wells=("A1", "B1"), treated=("B1",), timepoints=4, minutes=15,
                  dosed_at=1, bubble_rate=0, defocus_rate=0)  # fmt: skip
    return {(scene.well.name, scene.timepoint): optics.bright_field(scene, assay.optics) for scene in simulate(assay)}


def view(plane: np.ndarray, dy: int = 0, dx: int = 0) -> np.ndarray:
    """A field of view about the middle, as the camera gives it (u16)."""
    y, x = (HEIGHT + dy) // 2, (WIDTH + dx) // 2
    return (plane[y : y + HEIGHT, x : x + WIDTH] * lamp()).clip(0, 65535).astype(np.uint16)


def reduced(plane: np.ndarray) -> np.ndarray:
    """As the store's level 1 has it."""
    return cv2.resize(plane, (plane.shape[1] // 4, plane.shape[0] // 4), interpolation=cv2.INTER_AREA)


def moved(ground, quarters: int, dy: float, dx: float, well: str = "A1") -> tuple[float, float]:
    """What is measured after so many quarters of an hour of a plate that moved by shares of its side."""
    y, x = round(dy * HEIGHT), round(dx * WIDTH)
    before, after = view(ground[well, 0], -y, -x), view(ground[well, quarters], y, x)
    return measure(reduced(before), reduced(after))


# ---- two pictures


@pytest.mark.parametrize("quarters", [0, 1, 3])
@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (0, 0.05), (-0.18, 0.1), (0.22, 0), (0.1, -0.3)])
def test_a_move_is_measured_though_the_cells_crawl_divide_and_die(ground, quarters, dy, dx):
    for well in ("A1", "B1"):
        share, peak = moved(ground, quarters, dy, dx, well)
        assert share == pytest.approx(max(abs(dy), abs(dx)), abs=0.01)
        assert peak > LEAST_PEAK


def test_another_place_is_not_told_as_this_one(ground):
    for quarters in (0, 1, 2, 3):
        share, peak = measure(reduced(view(ground["A1", 0])), reduced(view(ground["B1", quarters])))
        assert math.isnan(share)
        assert peak < LEAST_PEAK


@pytest.mark.parametrize("far", [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_beyond_half_a_field_it_is_far_or_unknown_and_never_near(ground, far, axis):
    share, _ = moved(ground, 0, *((far, 0) if axis == 0 else (0, far)))
    assert math.isnan(share) or share == pytest.approx(min(far, 1 - far), abs=0.02)
    assert math.isnan(share) or share > 0.2


@pytest.mark.parametrize(
    "blank",
    [
        np.zeros((113, 153), np.uint16),
        np.full((113, 153), 65535, np.uint16),
        np.full((113, 153), np.nan, np.float32),
        np.random.default_rng(0).normal(30000, 200, (113, 153)).astype(np.uint16),
    ],
)
def test_an_empty_field_tells_nothing(ground, blank):
    other = np.random.default_rng(1).normal(30000, 200, (113, 153)).astype(np.uint16)
    for one in (blank, other, reduced(view(ground["A1", 0]))):
        share, peak = measure(one, np.asarray(blank) if one is not blank else other)
        assert math.isnan(share)
        assert 0 <= abs(peak) < LEAST_PEAK


def test_pictures_that_cannot_be_compared_tell_nothing():
    small = np.random.default_rng(0).random((LEAST_SIDE - 1, 200), dtype=np.float32)
    assert math.isnan(measure(small, small)[0])
    assert math.isnan(measure(np.ones((80, 80)), np.ones((80, 90)))[0])


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here (CELLVIGIL_TEST_DATA)")
@pytest.mark.parametrize("dx", [0, 0.1, 0.19, 0.22, 0.3])
def test_real_cells_in_phase_contrast_are_found_again(dx):
    frames = [tifffile.imread(path).astype(np.float32) for path in sorted(REAL.glob("t*.tif"))]
    for one, other in itertools.pairwise(frames):  # the same place, some time later
        x = round(dx * 512)
        share, _ = measure(reduced(one[200:712, :512]), reduced(other[200:712, x : x + 512]))
        assert share == pytest.approx(dx, abs=0.02)


# ---- what is compared with what

HALF = timedelta(minutes=30)
"""Between two time points of `record`."""


def out(timepoint: float, *wells: str) -> Event:
    return Event(START + timepoint * HALF, PLATE_OUT, wells)


def back(timepoint: float, *wells: str) -> Event:
    return Event(START + timepoint * HALF, PLATE_IN, wells)


def compared(events: list[Event], *, there=range(8), excluded=()) -> list[tuple[int, int, int]]:
    """Key's, before's and after's time points of one field."""
    ledger = Ledger()
    for number, line in enumerate(journal_of(there, excluded), start=1):
        ledger.add({**line, "seq": number})
    found = pairs(ledger.frames(SERIES, "A1"), sorted(events))
    return [(one.key.timepoint, one.before.key.timepoint, one.after.key.timepoint) for one in found]


def journal_of(there, excluded) -> list[dict]:
    return [
        {
            "kind": "frame", "key": [*SERIES, "A1", "1", timepoint], "t": timepoint, "revision": 0, "path": "A/1/0",
            "acquired_at": (START + timepoint * HALF).isoformat(), "committed_at": START.isoformat(), "files": [],
            "bytes": {}, "n_cells": 9, "edge": 0, "counts": {}, "quality": {"focus": 1.0}, "tables": [], "bundle": "b",
            "outcome": "excluded" if timepoint in excluded else "counted",
        }
        for timepoint in there
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "changes", "expected"),
    [
        ([], {}, []),
        ([out(2.5)], {}, []),
        ([out(2.5), back(2.9)], {}, [(3, 2, 3)]),
        ([back(3)], {}, [(3, 2, 3)]),
        ([out(1.5), back(4)], {}, [(4, 1, 4)]),  # frames taken meanwhile are of nothing
        ([out(1.5), back(4)], {"excluded": (1, 4, 5)}, [(4, 0, 6)]),
        ([out(1.5), back(2.5), out(3.5), back(5)], {}, [(3, 1, 3), (5, 3, 5)]),
        ([out(1.5), back(2.2), out(2.4), back(5)], {}, [(5, 1, 5)]),
        ([out(1.5), back(2.5), back(4.5)], {}, [(3, 1, 3), (5, 4, 5)]),
        ([out(1), out(3), back(4.5)], {}, [(5, 0, 5)]),
        ([out(2.5), back(2.9)], {"there": (0, 1, 2)}, []),
        ([out(2.5), back(2.9)], {"there": (4, 5)}, []),
        ([out(2.5), back(2.9)], {"excluded": range(3, 8)}, []),
        ([out(2.5), back(2.9), out(4.5)], {"excluded": (3, 4)}, []),
    ],
)
def test_the_last_frame_before_is_compared_with_the_first_after(events, changes, expected):
    assert compared(events, **changes) == expected


# ---- in the store


@pytest.fixture
def store(tmp_path: Path):
    with contextlib.closing(open_store(tmp_path / "store")) as opened:
        yield opened


def film(store: Store, ground, moves: dict[int, tuple[float, float]], *, wells=("A1",), fields=("1",)) -> None:
    """Four frames a field, each displaced as `moves` says of its time point; the ground is the well's, or A1's."""
    for timepoint, well, name in itertools.product(range(4), wells, fields):
        dy, dx = moves.get(timepoint, (0, 0))
        y, x = round(dy * HEIGHT), round(dx * WIDTH)
        plane = ground[well if (well, 0) in ground else "A1", timepoint]
        pixels = view(plane, 2 * y, 2 * x)[None]
        store.append(record(key(well, timepoint, name), pixels=pixels, channels=("Bright Field",)))


def look(store: Store, *events: Event, times: int = 1) -> int:
    drift = Drift(store, {"scope": "Bright Field"})
    return [drift.look(lambda _: events, START) for _ in range(times)][-1]


def test_a_move_is_found_journaled_and_known_after_a_restart(store, ground):
    film(store, ground, {2: (0, 0.3), 3: (0, 0.3)}, wells=("A1", "B1"))
    events = (out(1.5), back(1.9))
    drift = Drift(store, {"scope": "Bright Field"})
    assert drift.look(lambda _: events, START) == 2
    found = store.ledger.shifts(SERIES)
    assert found == {("A1", 2): pytest.approx(0.3, abs=0.01), ("B1", 2): pytest.approx(0.3, abs=0.01)}
    assert drift.look(lambda _: events, START) == 0
    assert look(store, *events, times=2) == 0  # another run finds it done
    assert read_ledger(store.path).shifts(SERIES) == found


def test_without_events_nothing_is_read(store, ground):
    film(store, ground, {2: (0.4, 0)})
    assert look(store) == 0
    assert store.ledger.shifts(SERIES) == {}


def test_the_largest_move_of_the_fields_is_the_wells_and_one_that_is_unknown_does_not_hide_it(store, ground):
    film(store, ground, {2: (0, 0.1)}, fields=("1", "2"))
    look(store, back(1.9))
    assert store.ledger.shifts(SERIES)["A1", 2] == pytest.approx(0.1, abs=0.01)
    told = {place: one.share for place, one in store.ledger.shift(SERIES, "A1").items()}
    assert set(told) == {(2, "1"), (2, "2")}
    line = {"kind": "shift", "series": list(SERIES), "well": "A1", "timepoint": 2, "before": 1, "after": 2}
    store.journal_lines(SERIES, [{**line, "field": "1", "shift": None, "peak": 0.1}])
    assert store.ledger.shifts(SERIES)["A1", 2] == pytest.approx(0.1, abs=0.01)
    store.journal_lines(SERIES, [{**line, "field": "2", "shift": None, "peak": 0.1}])
    assert math.isnan(store.ledger.shifts(SERIES)["A1", 2])


def test_events_that_are_edited_are_followed_and_withdrawn(store, ground):
    film(store, ground, {1: (0, 0.25), 2: (0, 0.25), 3: (0, 0.25)})
    events = [back(1.9)]
    drift = Drift(store, {"scope": "Bright Field"})
    drift.look(lambda _: tuple(events), START)
    assert store.ledger.shifts(SERIES) == {("A1", 2): pytest.approx(0, abs=0.01)}
    events[:] = [back(0.5)]
    assert drift.look(lambda _: tuple(events), START) == 2
    assert store.ledger.shifts(SERIES) == {("A1", 1): pytest.approx(0.25, abs=0.01)}
    events[:] = [back(0.5, "B1")]  # it was another well's
    assert drift.look(lambda _: tuple(events), START) == 1
    assert store.ledger.shifts(SERIES) == read_ledger(store.path).shifts(SERIES) == {}
    assert look(store, times=2) == 0
    events[:] = [back(0.5)]
    assert drift.look(lambda _: tuple(events), START) == 1
    assert set(store.ledger.shifts(SERIES)) == {("A1", 1)}


def test_frames_that_come_in_another_order_are_compared_anew(store, ground):
    planes = {timepoint: view(ground["A1", timepoint])[None] for timepoint in range(3)}
    drift = Drift(store, {"scope": "Bright Field"})

    def come(timepoint: int) -> int:
        store.append(record(key("A1", timepoint), pixels=planes[timepoint], channels=("Bright Field",)))
        return drift.look(lambda _: (back(1.5),), START)

    assert [come(timepoint) for timepoint in (2, 0, 1)] == [0, 1, 1]
    assert store.ledger.shift(SERIES, "A1")[(2, "1")].before == 1


def test_pixels_that_retention_deleted_tell_nothing(store, ground):
    film(store, ground, {})
    now = datetime.now(START.tzinfo) + timedelta(days=1)
    unit = Drop(SERIES, 1, ("pixels",), "age", 1)
    assert list(drop(store, [unit], [], now=now, going=lambda: True))
    assert look(store, back(1.9)) == 1
    assert math.isnan(store.ledger.shifts(SERIES)["A1", 2])
    assert look(store, back(1.9)) == 0


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_pixels_that_are_damaged_tell_nothing(store, ground, damage):
    film(store, ground, {})
    path = next(store.path.rglob("1/c.2.0.0.0"))
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-50])
    assert look(store, back(1.9)) == 1
    assert math.isnan(store.ledger.shifts(SERIES)["A1", 2])


def test_small_fields_are_compared_at_their_full_size(store, ground):
    for timepoint in range(3):
        pixels = view(ground["A1", timepoint])[None, :160, : 160 + 20]
        store.append(record(key("A1", timepoint), pixels=pixels, channels=("Bright Field",)))
    look(store, back(1.9))
    assert store.ledger.shifts(SERIES)["A1", 2] == pytest.approx(0, abs=0.01)


def test_it_stops_between_two_wells_and_goes_on_later(store, ground):
    film(store, ground, {}, wells=("A1", "B1"))
    drift, turns = Drift(store, {}), iter((True, False))
    assert drift.look(lambda _: (back(1.9),), START, lambda: next(turns)) == 1
    assert drift.look(lambda _: (back(1.9),), START) == 1
    assert set(store.ledger.shifts(SERIES)) == {("A1", 2), ("B1", 2)}


def test_shifts_are_told_as_changes_and_go_with_their_plate(store, ground):
    film(store, ground, {})
    since, _ = store.ledger.changed(0)
    look(store, back(1.9))
    assert store.ledger.changed(since)[1] == [(SERIES, "A1", 2)]
    lines = read(next(store.path.rglob("journal.jsonl")))
    for order in (lines, lines[::-1], [line for line in lines if line["kind"] != "frame"]):
        ledger = Ledger()
        for line in order:
            ledger.add(line)
        assert ledger.shifts(SERIES) == store.ledger.shifts(SERIES)
    store.leave(SERIES)
    assert store.ledger.shifts(SERIES) == {}


def test_the_service_looks_when_an_event_says_that_the_plate_is_back(store, ground, tmp_path):
    film(store, ground, {2: (0, 0.3), 3: (0, 0.3)})
    (tmp_path / "images").mkdir()
    source = {"name": "scope", "kind": "gen5", "path": "images", "timezone": "UTC", "index": "i"}
    source |= {"events": "events.csv", "channels": {"segment": "Bright Field"}}
    settings = config.parse({"version": 1, "sources": [source]}, base=tmp_path)
    tally = Tally(store, settings, Metrics(CollectorRegistry()))
    tally.look(START)
    assert store.ledger.shifts(SERIES) == {}
    rows = [f"{event.at.isoformat()},{event.kind}" for event in (out(1.5), back(1.9))]
    (tmp_path / "events.csv").write_text("\n".join(["at,kind", *rows]))
    tally.look(START + HALF)
    assert store.ledger.shifts(SERIES) == {("A1", 2): pytest.approx(0.3, abs=0.01)}


def test_once_looks_too(lab: Lab):
    lab.film(timepoints=3)
    first = once(lab.config())
    assert first["counted"] == 6
    series = lab.ledger().series()[0]
    acquired = sorted(frame.acquired_at for frame in lab.ledger().frames(series))
    (lab.root / "events.csv").write_text(f"at,kind\n{(acquired[2] - timedelta(seconds=1)).isoformat()},plate_in\n")
    once(lab.config(source={"events": "events.csv"}))
    assert set(lab.ledger().shifts(series)) == {("A1", 1), ("B1", 1)}


def test_planes_come_back_as_they_were_stored(store):
    one = record(key("A1", 0), shape=(2, 40, 56))
    store.append(one)
    field = next(store.path.rglob("A/1/0"))
    for channel in range(2):
        np.testing.assert_array_equal(read_plane(field, 0, channel), one.frame.pixels[channel])
    assert read_plane(field, 1, 0) is None
    assert read_plane(field, 0, 5) is None
    assert read_plane(field, 0, 0, "1").shape == (10, 14)
