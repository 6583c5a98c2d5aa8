"""Whether this machine keeps up with the assay: wells x fields x cells / interval, against what it measures now.

Promise 8 of DESIGN.md: `check` refuses above `limits.max_load`. Runs the models on pictures of noise; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from cellvigil import config
from cellvigil.pace import seconds_per_cell
from cellvigil.pipeline import Recipe
from cellvigil.service.notify import WATCHDOG_S
from cellvigil.service.opening import Kitchen
from cellvigil.service.segmenting import pace_of, pictures_of

Field = tuple[float, float]
"""What an image shows (y, x), micrometres."""

Found = tuple[str, str, str]
"""Level ("ok", "warn" or "fail"), what was looked at, and what was found."""


def capacity_findings(
    settings: config.Config, kitchen: Kitchen, fields: Mapping[str, Field], *, force: bool
) -> Iterator[Found]:
    """What the models of `kitchen` take on this machine. `fields` are those of the sources that have an image already.

    Raises DeviceError if a model fails, BadFile ("no_numbers") if one makes no numbers of noise.
    """
    a_frame = _seconds_a_frame(settings, kitchen, fields)
    yield from _patience(a_frame)
    yield _capacity(settings, a_frame, force=force)


def _seconds_a_frame(settings: config.Config, kitchen: Kitchen, fields: Mapping[str, Field]) -> dict[str, float]:
    """What the models take for a frame of each source, measured now."""
    seconds = {name: seconds_per_cell(encoder, settings.encoder.batch) for name, encoder in kitchen.encoders.items()}
    outlining = _outlining(settings, kitchen, fields)
    return {
        source.name: outlining[source.name]
        + source.expect.cells * _seconds_a_cell(kitchen.recipes[source.name], seconds)
        for source in settings.sources
    }


def _patience(a_frame: Mapping[str, float]) -> Iterator[Found]:
    """Frames that take so long that a busy service looks like one that hangs."""
    for name, seconds in a_frame.items():
        if seconds > WATCHDOG_S / 2:
            silent = f"systemd restarts a service that is silent for {WATCHDOG_S} s"
            what = f"a frame takes {seconds:.0f} s here, and {silent}"
            yield ("warn", name, f"{what}: a smaller encoder, segment.sam.prompts: boxes, or a longer WatchdogSec")


def _capacity(settings: config.Config, a_frame: Mapping[str, float], *, force: bool) -> Found:
    paced = [source for source in settings.sources if source.interval_s is not None]
    load = sum(
        source.expect.wells * source.expect.fields * a_frame[source.name] / (source.interval_s or np.inf)
        for source in settings.sources
    )
    a_cell = [a_frame[source.name] / source.expect.cells for source in settings.sources]
    speed = 1 / max(*a_cell, 1e-9)
    if len(paced) < len(settings.sources):
        text = f"{speed:.3g} cells a second; set sources[].interval_s and .expect to learn whether that is enough"
        return ("warn", "capacity", text)
    text = f"{speed:.3g} cells a second measured; the configured assay needs {load:.0%} of that"
    if load <= settings.limits.max_load:
        return ("ok", "capacity", text)
    hint = f" (limit {settings.limits.max_load:.0%}): fewer fields, a longer interval, a GPU, or --force"
    return ("warn" if force else "fail", "capacity", text + hint)


def _outlining(settings: config.Config, kitchen: Kitchen, fields: Mapping[str, Field]) -> dict[str, float]:
    """Seconds that SAM takes for a frame of each source, 0 with OpenCV alone.

    In as many pictures as the source's first image needs; where there is no image yet, in one.
    """
    if kitchen.segmenter is None:
        return dict.fromkeys(kitchen.recipes, 0.0)
    pace, side, wanted = pace_of(kitchen.segmenter), kitchen.segmenter.side, settings.segment
    taken: dict[str, float] = {}
    for source in settings.sources:
        pixel, field = kitchen.recipes[source.name].index.image_rule.pixel_size_um, fields.get(source.name)
        taken[source.name] = pace.frame(
            wanted, source.expect.cells, pictures_of(wanted, field, pixel, side) if field else 1
        )
    return taken


def _seconds_a_cell(recipe: Recipe, seconds: Mapping[str, float]) -> float:
    """What a source's cells take each, of the seconds that each encoder takes for a picture."""
    rule = recipe.index.image_rule
    pictures = rule.turns * (len(rule.channels) if rule.per_channel else 1)
    return pictures * sum(seconds[encoder.name] for encoder in recipe.encoders)
