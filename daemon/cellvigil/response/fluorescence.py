"""The fluorescence control signal of a plate: which share of each frame glows, and how much. Pure.

EWC-FAISS paper, section 3.4: Otsu's threshold on each fluorescence image, then the area of what is above it. Otsu alone
cuts noise in two where nothing glows, and half the image seems to; so the threshold is at least the background and five
median absolute deviations (3.4 sigma of plain noise) of the plate's controls when it was treated, and the background is
subtracted. Frames come as histograms (`cellvigil.histogram`), since that background may be told after them.

A lamp or a medium that grows brighter than the controls were at the start passes for glow: there is one background a
plate and channel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cellvigil.data import Histogram
from cellvigil.histogram import Spread, spread, unpacked
from cellvigil.response.values import F64, Bools

Frames = Mapping[tuple[str, int], Sequence[bytes]]
"""By well and time point, one packed histogram a field of view: `Ledger.signals` of one channel."""

CONTROLS, FIRST_FRAMES = "controls", "first frames"
"""Where a background comes from."""

MOST_SATURATED = 0.05
"""A frame with a larger share of its pixels at the top is absent: how much glows, and how bright, is not in it."""

_SPREADS = 5.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What a channel's pixels are on this plate where nothing glows; raw grey levels."""

    background: float  # median
    mad: float  # median absolute deviation from it
    basis: str  # CONTROLS; FIRST_FRAMES where no control well has a frame: then a drug that acts at once hides

    @property
    def threshold(self) -> float:
        """Below this nothing glows, whatever Otsu says."""
        return self.background + _SPREADS * self.mad


def fluorescence(
    signals: Mapping[str, Frames],
    wells: Sequence[str],
    timepoints: Sequence[int],
    *,
    controls: Collection[str] = (),
    start: npt.ArrayLike | None = None,
) -> dict[str, tuple[F64, F64]]:
    """Area and intensity of each channel: channel -> two (W, T) f64 arrays; NaN where there is no frame or all are
    saturated.

    Area: share of the pixels above the threshold, 0..1. Intensity: their values less the background, summed, over all
    pixels of the frame: raw grey levels a pixel, so that it can be held against frames of another size. Fields of view
    are summed.

    Args:
        signals: `Ledger.signals` of the plate.
        wells: W names.
        timepoints: T ordinals.
        controls: the wells that got no drug.
        start: (W,) place in `timepoints` of each well's t0; -1, or None for all, where that is not known.
    """
    grounds = ground(signals, wells, timepoints, controls=controls, start=start)
    rows = {well: row for row, well in enumerate(wells)}
    columns = {timepoint: column for column, timepoint in enumerate(timepoints)}
    found: dict[str, tuple[F64, F64]] = {}
    for channel, frames in signals.items():
        area, intensity = np.full((2, len(wells), len(timepoints)), np.nan)
        for (well, timepoint), fields in frames.items():
            if channel in grounds and well in rows and timepoint in columns:
                place = rows[well], columns[timepoint]
                area[place], intensity[place] = _together(fields, grounds[channel])
        found[channel] = area, intensity
    return found


def imaged(frames: Frames, wells: Sequence[str], timepoints: Sequence[int]) -> Bools:
    """(W, T) where a channel has an image, be it saturated."""
    return np.asarray([[(well, timepoint) in frames for timepoint in timepoints] for well in wells], dtype=np.bool_)


def standing(values: F64, seen: Bools) -> F64:
    """(W, T) values with each gap between two images (`seen`, as `imaged` says) filled by that of the first.

    Where the newest image is saturated there is none: an older value would be too low, and nobody could tell.
    """
    place = np.where(seen, np.arange(values.shape[1]), -1)
    last = np.maximum.accumulate(place, axis=1) if place.size else place
    found = np.take_along_axis(values, np.maximum(last, 0), axis=1) if place.size else values
    return np.where(last >= 0, found, np.nan)


def ground(
    signals: Mapping[str, Frames],
    wells: Sequence[str],
    timepoints: Sequence[int],
    *,
    controls: Collection[str] = (),
    start: npt.ArrayLike | None = None,
) -> dict[str, Ground]:
    """The background of each channel; a channel without a frame that is not saturated has none. Arguments: as above.

    It comes from the control wells, each with the last frames that it has at its t0 or before, else its first ones.
    Stain is imaged more rarely than cells, so there may be none at t0 itself. Without control wells all wells speak,
    with their first frames.
    """
    places = dict(zip(wells, np.full(len(wells), -1) if start is None else np.asarray(start), strict=True))
    before = {well: timepoints[place] if place >= 0 else None for well, place in places.items()}
    speakers = {CONTROLS: sorted(set(controls) & set(wells)), FIRST_FRAMES: sorted(wells)}
    found: dict[str, Ground] = {}
    for channel, frames in signals.items():
        times: dict[str, list[int]] = {}
        for well, timepoint in frames:
            times.setdefault(well, []).append(timepoint)
        for basis, some in speakers.items():
            until = before if basis == CONTROLS else dict.fromkeys(some)
            spreads = [one for well in some for one in _at_start(frames, well, times.get(well, []), until[well])]
            if spreads:
                found[channel] = Ground(*_median_and_mad(spreads), basis)
                break
    return found


def _at_start(frames: Frames, well: str, times: Sequence[int], until: int | None) -> list[Spread]:
    """The usable frames of a well at the last of its time points up to `until`, else at the first later one."""
    early = sorted((one for one in times if until is not None and one <= until), reverse=True)
    for timepoint in (*early, *sorted(set(times) - set(early))):
        usable = [spread(one) for data in frames[well, timepoint] if _is_usable(one := unpacked(data))]
        if usable:
            return usable
    return []


def _median_and_mad(spreads: Iterable[Spread]) -> tuple[float, float]:
    """Of all pixels together, each taken to lie evenly in its bin: so the noise of 8 bits has a width too."""
    spreads = list(spreads)
    ends = np.unique(np.concatenate([[one.low, one.high] for one in spreads], axis=None))
    reach = np.sum([one.below(ends) for one in spreads], axis=0)
    half = reach[-1] / 2
    middle = float(np.interp(half, reach, ends))
    away = np.unique(np.abs(ends - middle))
    within = np.interp(middle + away, ends, reach) - np.interp(middle - away, ends, reach)
    return middle, float(np.interp(half, within, away))


def _together(fields: Sequence[bytes], ground: Ground) -> tuple[float, float]:
    """Area and intensity of the fields of a well at one time."""
    glow = np.array([_glow(data, ground.background, ground.threshold) for data in fields]).reshape(-1, 3)
    pixels, above, light = glow.sum(axis=0)
    return (above / pixels, light / pixels) if pixels else (np.nan, np.nan)


@lru_cache(maxsize=2**17)
def _glow(data: bytes, background: float, least: float) -> tuple[float, float, float]:
    """Pixels of a frame, how many glow, and their summed light above the background; zeros for one that is absent.

    Remembered, since a plate's history is asked for anew with every frame that comes.
    """
    histogram = unpacked(data)
    if not _is_usable(histogram):
        return 0.0, 0.0, 0.0
    threshold = max(histogram.otsu, least) if np.isfinite(histogram.otsu) else least
    bins = spread(histogram)
    above = histogram.pixels - float(bins.below(threshold))
    return float(histogram.pixels), above, bins.light_above(threshold) - background * above


def _is_usable(histogram: Histogram) -> bool:
    return histogram.pixels > 0 and histogram.saturated <= MOST_SATURATED
