"""The fluorescence control signal: histograms of what is not segmented, kept in the record, and its sum."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from prometheus_client import CollectorRegistry

from cellvigil import config, histogram, pipeline
from cellvigil.data import FileRef, Frame, Histogram
from cellvigil.journal import read
from cellvigil.ledger import Ledger
from cellvigil.metrics import Metrics
from cellvigil.rehearse import optics
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.cells import Biology
from cellvigil.rehearse.scene import NECROTIC
from cellvigil.response.fluorescence import (
    CONTROLS,
    FIRST_FRAMES,
    MOST_SATURATED,
    fluorescence,
    ground,
    imaged,
    standing,
)
from cellvigil.service.serve import once
from cellvigil.service.tally import Tally
from cellvigil.store.reader import read_ledger
from cellvigil.store.writer import SourcePlan, open_store
from lab import Lab
from plate_lines import bundle_line, figures, frame_line, ledger_of
from store_records import SERIES, START, key, record

SHAPE = (120, 160)
U8 = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))
U16 = hnp.arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12)))
F32 = hnp.arrays(np.float32, (5, 7), elements=st.floats(-1e6, 1e6, width=32) | st.just(math.nan))


def noise(seed: int, level: float = 1000.0, sigma: float = 60.0, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, sigma, shape).clip(0, 65535).astype(np.uint16)


def glowing(seed: int, spots: int, level: float = 1000.0) -> tuple[np.ndarray, np.ndarray]:
    """A plane with so many bright squares of 100 pixels that do not touch, and where they are."""
    plane, mask = noise(seed, level), np.zeros(SHAPE, dtype=bool)
    for spot in range(spots):
        row, column = divmod(spot, 10)
        mask[row * 15 + 2 : row * 15 + 12, column * 15 + 2 : column * 15 + 12] = True
    return plane + np.where(mask, 5000, 0).astype(np.uint16), mask


def packed(plane: np.ndarray) -> bytes:
    return histogram.packed(histogram.measure(plane))


def above(one: Histogram, value: float) -> float:
    return one.pixels - float(histogram.spread(one).below(value))


# ---- Otsu


@given(U8)
def test_otsu_parts_a_picture_as_opencv_does(plane):
    ours = histogram.measure(plane).otsu
    theirs, _ = cv2.threshold(plane, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    if math.isnan(ours):
        assert plane.min() == plane.max()
        return
    assert between(plane, ours) == pytest.approx(between(plane, theirs), rel=1e-6)


@given(U16)
def test_otsu_has_the_greatest_variance_between_both_parts(plane):
    ours = histogram.measure(plane).otsu
    every = [between(plane, value) for value in np.unique(plane)[:-1]]
    assert math.isnan(ours) if not every else between(plane, ours) == pytest.approx(max(every), rel=1e-9)


def between(plane, threshold) -> float:
    """Variance between both parts, the slow way."""
    values = plane.astype(np.float64).ravel()
    high, low = values[values > threshold], values[values <= threshold]
    if not high.size or not low.size:
        return 0.0
    return high.size * low.size / values.size**2 * (high.mean() - low.mean()) ** 2


def test_otsu_of_a_picture_with_two_modes_is_opencvs_own():
    plane = (glowing(0, 20)[0] // 32).astype(np.uint8)
    theirs, mask = cv2.threshold(plane, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    one = histogram.measure(plane)
    assert theirs <= one.otsu
    assert above(one, one.otsu) == np.count_nonzero(mask)


# ---- histograms


@given(U8, st.integers(-1, 256))
def test_of_8_bits_every_threshold_is_exact(plane, level):
    one = histogram.measure(plane)
    assert above(one, level + 0.5) == np.count_nonzero(plane > level)


@given(U16, st.integers(0, 65535))
def test_of_16_bits_a_threshold_is_wrong_by_the_pixels_of_its_bin_at_most(plane, level):
    one = histogram.measure(plane)
    middle = float(np.sort(plane, axis=None)[(plane.size - 1) // 2])
    reach = max(one.step, abs(level - middle) / 16 + one.step)
    near = np.count_nonzero(np.abs(plane.astype(float) - level) <= reach)
    assert abs(above(one, level + 0.5) - np.count_nonzero(plane > level)) <= near
    for value in np.unique(plane)[np.abs(np.unique(plane) - middle) < one.step * 31]:
        assert above(one, value + one.step / 2) == np.count_nonzero(plane > value)


@given(st.one_of(U8, U16, F32))
def test_nothing_is_lost_on_the_way_into_the_journal_and_the_ledger(plane):
    one = histogram.measure(plane)
    assert one.pixels == np.count_nonzero(np.isfinite(plane))
    told = histogram.read_line(json.loads(json.dumps(histogram.line(one), allow_nan=False)))
    for again in (told, histogram.unpacked(histogram.packed(one))):
        bins, same = histogram.spread(again), histogram.spread(one)
        assert again.saturated == pytest.approx(one.saturated, abs=1e-6)
        assert repr(replace(again, saturated=0.0)) == repr(replace(one, saturated=0.0))
        np.testing.assert_array_equal([bins.low, bins.high, bins.counts], [same.low, same.high, same.counts])
        assert bins.counts.sum() == one.pixels


@given(st.one_of(U8, U16))
def test_every_pixel_is_in_its_bin(plane):
    bins = histogram.spread(histogram.measure(plane))
    assert (np.diff(bins.low) > 0).all()
    assert (bins.high[:-1] <= bins.low[1:]).all()
    for low, high, count in zip(bins.low, bins.high, bins.counts, strict=True):
        assert count == np.count_nonzero((plane > low) & (plane < high)) > 0


def test_floats_are_known_to_a_65536th_of_their_range():
    plane = np.random.default_rng(0).gamma(2.0, 0.7, (200, 200)).astype(np.float32) - 3
    one = histogram.measure(plane)
    assert one.step == pytest.approx((plane.max() - plane.min()) / 65535, rel=1e-6)
    for level in (-2.9, -2.0, 0.0, 3.0):
        assert above(one, level) / plane.size == pytest.approx((plane > level).mean(), abs=0.003)


def test_a_camera_of_12_bits_in_16_keeps_its_own_levels_apart():
    plane = (noise(1, 60, 4) * 16).astype(np.uint16)
    one = histogram.measure(plane)
    assert one.step == 16
    for level in np.unique(plane):
        assert above(one, level + 8) == np.count_nonzero(plane > level)


@pytest.mark.parametrize(
    ("plane", "share"),
    [
        (noise(0), 0.0),
        (np.where(glowing(0, 30)[1], 65535, noise(0)).astype(np.uint16), 30 * 100 / 19200),
        (np.minimum(noise(0, 3000, 800), 4095), pytest.approx(0.086, abs=0.01)),  # 12 bits stored in 16
        (np.full(SHAPE, 255, np.uint8), 1.0),
        (np.zeros(SHAPE, np.uint8), 0.0),
        ((noise(0) > 1060).astype(np.uint8), 0.0),  # a dim picture of two levels is not at its top
        (np.full(SHAPE, np.nan, np.float32), 0.0),
    ],
)
def test_what_is_saturated_is_told(plane, share):
    assert histogram.measure(plane).saturated == share


@pytest.mark.parametrize(
    "plane",
    [noise(0, 1000, 100, (904, 1224)), np.random.default_rng(0).integers(0, 65536, (904, 1224), dtype=np.uint16)],
)
def test_a_histogram_is_small(plane):
    assert len(packed(plane)) < 1200
    assert len(json.dumps(histogram.line(histogram.measure(plane)))) < 1600


# ---- the signal of a plate


def test_the_area_is_that_of_what_glows_and_the_intensity_what_it_adds():
    series = {("A1", 0): (packed(noise(0)),), ("B1", 0): (packed(noise(1)),)}
    marks = {}
    for timepoint in (1, 2, 3):
        plane, mask = glowing(timepoint, 20 * timepoint)
        series |= {("A1", timepoint): (packed(noise(timepoint + 10)),), ("B1", timepoint): (packed(plane),)}
        marks[timepoint] = mask.mean()
    area, intensity = fluorescence({"GFP": series}, ("A1", "B1"), range(4), controls={"A1"}, start=[0, 0])["GFP"]
    assert area.shape == intensity.shape == (2, 4)
    assert (area[0] < 0.002).all()
    assert (intensity[0] < 1).all()
    for timepoint, share in marks.items():
        assert area[1, timepoint] == pytest.approx(share, abs=0.001)
        assert intensity[1, timepoint] == pytest.approx(5000 * share, rel=0.03)


def test_where_nothing_glows_otsu_alone_would_show_half_the_picture():
    plane = noise(5)
    one = histogram.measure(plane)
    assert above(one, one.otsu) / one.pixels > 0.4
    area, _ = fluorescence({"GFP": {("A1", 0): (packed(plane),)}}, ("A1",), (0,), controls={"A1"}, start=[0])["GFP"]
    assert area[0, 0] < 0.002


def test_the_background_is_that_of_the_controls_when_they_were_treated():
    levels = {("A1", 0): 500, ("A1", 4): 1000, ("A1", 8): 3000, ("A2", 4): 1000, ("B1", 0): 9000, ("B1", 4): 9000}
    frames = {at: (packed(noise(i, level)),) for i, (at, level) in enumerate(levels.items())}
    wells, timepoints = ("A1", "A2", "B1"), (0, 2, 4, 6, 8)
    found = ground({"GFP": frames}, wells, timepoints, controls={"A1", "A2"}, start=[3, 3, 3])["GFP"]  # time point 6
    assert found.basis == CONTROLS
    assert found.background == pytest.approx(1000, abs=2)
    assert found.mad == pytest.approx(60 * 0.6745, rel=0.03)
    early = ground({"GFP": frames}, wells, timepoints, controls={"A1"}, start=[0, 0, 0])["GFP"]
    assert early.background == pytest.approx(500, abs=2)
    before_any = ground({"GFP": frames}, wells, timepoints, controls={"A2"}, start=[0, 0, 0])["GFP"]
    assert before_any.background == pytest.approx(1000, abs=2)  # nothing at t0: its first frame
    unmapped = ground({"GFP": frames}, wells, timepoints)["GFP"]
    assert unmapped.basis == FIRST_FRAMES
    assert unmapped.background == pytest.approx(1000, abs=5)  # the middle one of 500, 1000 and 9000


def test_the_pooled_background_is_the_median_of_all_pixels_and_their_deviation():
    planes = [noise(1, 900, 50), noise(2, 1100, 80), np.full(SHAPE, 950, np.uint16)]
    frames = {(f"A{place}", 0): (packed(plane),) for place, plane in enumerate(planes)}
    found = ground({"x": frames}, ("A0", "A1", "A2"), (0,), controls=("A0", "A1", "A2"))["x"]
    pixels = np.concatenate([plane.ravel() for plane in planes]).astype(float)
    assert found.background == pytest.approx(np.median(pixels), abs=1.0)
    assert found.mad == pytest.approx(np.median(np.abs(pixels - np.median(pixels))), abs=2.0)


def test_a_background_of_8_bits_without_noise_has_a_width_all_the_same():
    dim = np.random.default_rng(0).choice([2, 3, 4], p=[0.1, 0.8, 0.1], size=SHAPE).astype(np.uint8)
    found = fluorescence({"x": {("A1", 0): (packed(dim),)}}, ("A1",), (0,), controls={"A1"}, start=[0])["x"]
    assert found[0][0, 0] == 0


def test_fields_are_summed_and_saturated_ones_are_absent():
    burnt = np.where(glowing(0, 60)[1], 65535, noise(0)).astype(np.uint16)
    assert histogram.measure(burnt).saturated > MOST_SATURATED
    plane, mask = glowing(1, 40)
    frames = {
        ("A1", 0): (packed(noise(3)),),
        ("B1", 0): (packed(plane), packed(noise(4)), packed(burnt)),
        ("B1", 1): (packed(burnt),),
    }
    for values in fluorescence({"GFP": frames}, ("A1", "B1"), (0, 1), controls={"A1"}, start=[0, 0])["GFP"]:
        assert math.isnan(values[0, 1])  # no frame
        assert math.isnan(values[1, 1])
        assert values[1, 0] > 0
    area, _ = fluorescence({"GFP": frames}, ("A1", "B1"), (0, 1), controls={"A1"}, start=[0, 0])["GFP"]
    assert area[1, 0] == pytest.approx(mask.mean() / 2, abs=0.001)


def test_between_two_images_the_last_value_stands():
    nan = math.nan
    values = np.array([[nan, 1, nan, 2, nan], [nan, nan, nan, nan, nan]])
    np.testing.assert_array_equal(standing(values, np.isfinite(values)), [[nan, 1, 1, 2, 2], [nan] * 5])
    assert standing(np.empty((3, 0)), np.empty((3, 0), bool)).shape == (3, 0)


def test_no_older_value_stands_for_an_image_that_is_saturated():
    dim, bright = packed(noise(1)), packed(np.full(SHAPE, 65535, np.uint16))
    frames = {("A1", 0): (dim,), ("A1", 2): (bright,), ("A2", 0): (dim,), ("A2", 2): (dim,)}
    wells, times = ("A1", "A2"), (0, 1, 2, 3)
    area, _ = fluorescence({"GFP": frames}, wells, times)["GFP"]
    shown = standing(area, imaged(frames, wells, times))
    assert np.isnan(shown).tolist() == [[False, False, True, True], [False] * 4]


def test_the_gauge_of_a_saturated_channel_is_absent_until_one_can_be_read():
    signals = [histogram.line(histogram.measure(plane)) for plane in (noise(1), np.full(SHAPE, 65535, np.uint16))]
    lines = [bundle_line(), *(frame_line("A1", t, counts={"live": 9}, signals={"GFP": signals[t]}) for t in range(2))]
    assert np.isfinite(figures(ledger_of(lines[:2])).fluorescence["GFP"]).all()
    assert np.isnan(figures(ledger_of(lines)).fluorescence["GFP"]).all()
    lines.append(frame_line("A1", 2, counts={"live": 9}))
    assert np.isnan(figures(ledger_of(lines)).fluorescence["GFP"]).all()


def test_a_channel_without_a_usable_frame_is_absent():
    frames = {("A1", 0): (packed(np.full(SHAPE, 65535, np.uint16)),), ("Z9", 0): (packed(noise(0)),)}
    area, intensity = fluorescence({"GFP": frames}, ("A1",), (0,))["GFP"]
    assert np.isnan(area).all()
    assert np.isnan(intensity).all()


def test_a_changed_plate_map_changes_the_threshold_of_frames_that_are_long_stored():
    frames = {("A1", 0): (packed(noise(0, 1000)),), ("B1", 0): (packed(noise(1, 2000)),)}
    signals = {"GFP": frames}
    one, other = (fluorescence(signals, ("A1", "B1"), (0,), controls={w}, start=[0, 0])["GFP"][0] for w in ("A1", "B1"))
    assert one[1, 0] > 0.4
    assert (other < 0.002).all()


# ---- a rehearsed plate


def rehearsed(**changes) -> tuple[Assay, dict, dict]:
    """A stained assay: planes and cells with a stained nucleus in sight, by well and time point."""
    settings = {"seed": 5, "shape": (300, 400), "wells": ("A1", "A2", "B1", "B2"), "treated": ("B1", "B2")}
    assay = Assay(**{**settings, "timepoints": 6, "dosed_at": 1, "minutes": 240, "stain_every": 1, **changes})
    planes, dead = {}, {}
    for scene in simulate(assay):
        at = (scene.well.name, scene.timepoint)
        planes[at] = optics.dead_stain(scene, assay.optics)
        y, x = (scene.cells[name] / assay.micrometres_a_pixel for name in ("y_um", "x_um"))
        seen = (y >= 0) & (x >= 0) & (y < assay.frame_shape[0]) & (x < assay.frame_shape[1])
        dead[at] = int(np.count_nonzero(seen & (scene.cells["state"] == NECROTIC)))
    return assay, planes, dead


def test_the_stain_of_a_rehearsal_follows_its_dead_cells():
    assay, planes, dead = rehearsed(biology=Biology(background_death_per_h=0.0))
    signals = {"GFP": {at: (packed(plane),) for at, plane in planes.items()}}
    times = range(assay.timepoints)
    area, intensity = fluorescence(signals, assay.wells, times, controls={"A1", "A2"}, start=[1] * 4)["GFP"]
    truth = np.array([[dead[well, timepoint] for timepoint in times] for well in assay.wells])
    assert truth[2:, -1].min() > 8
    assert np.corrcoef(area.ravel(), truth.ravel())[0, 1] > 0.9
    assert np.corrcoef(intensity.ravel(), truth.ravel())[0, 1] > 0.95
    assert area[2:, -1].min() > 0.015
    none = truth == 0
    assert none.sum() >= 4
    assert area[none].max() < 0.003
    plain = [np.mean(planes[assay.wells[w], t] > histogram.measure(planes[assay.wells[w], t]).otsu)
             for w, t in zip(*np.nonzero(none), strict=True)]  # fmt: skip
    assert min(plain) > 0.3


# ---- in the record


def test_every_channel_but_the_segmented_one_is_measured():
    planes = np.stack([noise(place) for place in range(4)])
    frame = Frame(key(), record().frame.acquired_at, planes, ("GFP", "Bright Field", "RFP", "DAPI"), (0.3, 0.3), ())
    assert pipeline.unsegmented(frame, "Bright Field") == ("GFP", "RFP", "DAPI")
    assert pipeline.unsegmented(frame, "") == ("Bright Field", "RFP", "DAPI")
    coloured = replace(frame, channels=("Red", "Green", "Blue", "DAPI"))
    assert pipeline.unsegmented(coloured, "") == ("DAPI",)
    found = pipeline.brightness(frame, ("GFP", "DAPI"))
    assert found == {"GFP": histogram.measure(planes[0]), "DAPI": histogram.measure(planes[3])}


@pytest.fixture
def store(tmp_path: Path):
    plans = {"scope": SourcePlan(channels=("channel-0", "channel-1", "RFP"))}
    with contextlib.closing(open_store(tmp_path / "store", plans=plans)) as opened:
        yield opened


def signed(*place, **changes):
    """A record of two channels with the histogram of the second."""
    one = record(key(*place), **changes)
    return replace(one, signals={"channel-1": histogram.measure(one.frame.pixels[1])})


def test_the_ledger_gives_back_what_the_records_held(store):
    first, second, other = signed("A1", 0, "1"), signed("A1", 0, "2"), signed("B1", 3, "1", excluded="focus")
    for one in (second, other, first):
        store.append(one)
    packs = [histogram.packed(one.signals["channel-1"]) for one in (first, second, other)]
    expected = {"channel-1": {("A1", 0): (packs[0], packs[1]), ("B1", 3): (packs[2],)}}
    assert store.ledger.signals(SERIES) == expected
    assert read_ledger(store.path).signals(SERIES) == expected
    again = signed("A1", 0, "1", revision=1)
    store.append(again)
    newest = histogram.packed(again.signals["channel-1"])
    assert store.ledger.signals(SERIES)["channel-1"]["A1", 0] == (newest, packs[1])
    store.leave(SERIES)
    assert store.ledger.signals(SERIES) == read_ledger(store.path).signals(SERIES) == {}


def test_a_channel_that_is_attached_late_has_its_signal(store):
    one = signed("A1", 0)
    store.append(one)
    pixels = noise(7, shape=one.frame.pixels.shape[1:])
    late = replace(one.frame, pixels=pixels[None], channels=("RFP",), files=(FileRef("rfp.tif", 1, 2, "77" * 32),))
    store.attach(late, signals=pipeline.brightness(late, late.channels))
    expected = {
        "channel-1": {("A1", 0): (histogram.packed(one.signals["channel-1"]),)},
        "RFP": {("A1", 0): (packed(pixels),)},
    }
    assert store.ledger.signals(SERIES) == expected
    entries = read(next(store.path.rglob("journal.jsonl")))
    for order in itertools.islice(itertools.permutations(entries), 0, 200, 7):  # whatever the order of the lines
        ledger = Ledger()
        for line in order:
            ledger.add(line)
        assert ledger.signals(SERIES) == expected


def test_journals_of_older_versions_have_no_signals(store):
    store.append(signed("A1", 0))
    ledger = Ledger()
    for line in read(next(store.path.rglob("journal.jsonl"))):
        ledger.add({name: value for name, value in line.items() if name != "signals"})
    assert ledger.signals(SERIES) == {}
    assert len(ledger.frames(SERIES)) == 1


def test_the_service_measures_channels_that_come_in_time_and_late(lab: Lab):
    lab.film(timepoints=2, stain_every=1)
    stains = sorted(lab.images.rglob("*GFP*.tif"))
    kept = {path: path.read_bytes() for path in stains[: len(stains) // 2]}
    for path in kept:
        path.unlink()
    channels = {"segment": "Bright Field", "optional": ["GFP"]}
    once(lab.config(source={"channels": channels}))
    series = lab.ledger().series()[0]
    soon = lab.ledger().signals(series)
    assert len(soon["GFP"]) == 2
    for path, content in kept.items():
        path.write_bytes(content)
    once(lab.config(source={"channels": channels}))
    found = lab.ledger().signals(series)
    assert set(found) == {"GFP"}
    assert set(found["GFP"]) == {(well, timepoint) for well in ("A1", "B1") for timepoint in (0, 1)}
    assert all(histogram.unpacked(data).pixels == 200 * 240 for (data,) in found["GFP"].values())


def test_a_scrape_shows_the_last_stain_and_not_a_gap(store, tmp_path):
    for timepoint, stained in enumerate((True, False)):
        one = signed("A1", timepoint)
        store.append(one if stained else replace(one, signals={}))
    (tmp_path / "images").mkdir()
    source = {"name": "scope", "kind": "gen5", "path": "images", "timezone": "UTC", "index": "i"}
    tally = Tally(store, config.parse({"version": 1, "sources": [source]}, base=tmp_path), Metrics(CollectorRegistry()))
    tally.look(START + timedelta(hours=1))
    text = tally.snapshot.scrape.text.decode()
    for name in ("cellvigil_fluorescence_area_ratio", "cellvigil_fluorescence_intensity"):
        assert len(re.findall(rf'^{name}{{[^}}]*channel="channel-1"[^}}]*}} \d', text, flags=re.M)) == 1
