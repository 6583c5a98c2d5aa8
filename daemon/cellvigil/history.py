"""The record's whole history as OpenMetrics text with the times of acquisition: for back-filling a Prometheus.

What a running service shows at its scrapes is dated by the scrape. After an outage, or for frames that were processed
late, this gives the same series (`tally.blocks` names both) at the time at which the images were taken. Reads a store's
journals only, and never writes into it; one plate's figures are held at a time.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TextIO

import numpy as np

from cellvigil import config
from cellvigil.errors import StoreError, UsageError
from cellvigil.ledger import Design, Ledger, Series
from cellvigil.metrics.families import FAMILIES
from cellvigil.metrics.rendering import Block, header, history_lines
from cellvigil.store.reader import plate_ledger
from cellvigil.store.recover import plate_folders
from cellvigil.tally.blocks import blocks
from cellvigil.tally.figures import Limits, figures_of, index_of
from cellvigil.tally.sheet import Sheet

SUFFIX = ".om"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of the history."""

    source: str = "*"  # * and ? match
    plate: str = "*"  # the plate's name, or source/experiment/plate; * and ? match
    since: datetime | None = None  # aware: values acquired from then on

    def has(self, series: Series) -> bool:
        """Whether a plate is asked for."""
        names = (series[2], "/".join(series))
        return fnmatchcase(series[0], self.source) and any(fnmatchcase(name, self.plate) for name in names)


@dataclass(frozen=True, slots=True)
class Written:
    """What a history holds."""

    plates: int
    samples: int


def write_history(
    store: Path, out: Path, *, now: datetime, settings: config.Config | None = None, wanted: Wanted | None = None
) -> Written:
    """Write the figures of every plate at every time point to `out`, which appears whole or not at all.

    Plate maps and events are those in the record. `settings`: the service's; without it the documented defaults hold.
    `now` (aware) says which time points have waited long enough for lacking fields. Raises UsageError for another
    suffix or a folder without a store, StoreError for a store that cannot be read or a file that cannot be written.
    """
    if out.suffix != SUFFIX:
        raise UsageError(f"{out.name} does not end with {SUFFIX}", hint=f"write --out history{SUFFIX}")
    folders = plate_folders(store)
    if not folders:
        raise UsageError("there is no plate in this store", where=store, hint="give the store's folder with --store")
    wanted = wanted or Wanted()
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as parts:
            written = _write_parts(Path(parts), folders, now, settings, wanted)
            _join(Path(parts), unfinished)
        unfinished.replace(out)
    except OSError as error:
        raise StoreError(f"the history cannot be written: {error.strerror}", where=out) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return written


def _write_parts(
    parts: Path, folders: list[Path], now: datetime, settings: config.Config | None, wanted: Wanted
) -> Written:
    """One file a metric, since a metric's lines must stand together and the plates come one after another."""
    plates = samples = 0
    with contextlib.ExitStack() as stack:
        files = {
            family.name: stack.enter_context((parts / family.name).open("w", encoding="utf-8")) for family in FAMILIES
        }
        for folder in folders:
            ledger = plate_ledger(folder)
            for series in filter(wanted.has, ledger.series()):
                found = _plate_blocks(ledger, series, now, limits_of(settings, series[0]))
                written = _write_blocks(files, found, wanted.since)
                plates, samples = plates + (written > 0), samples + written
    return Written(plates, samples)


def _write_blocks(files: Mapping[str, TextIO], found: Iterable[Block], since: datetime | None) -> int:
    samples = 0
    for block in found:
        for line in history_lines(_from(block, since)):
            files[block.family.name].write(line)
            samples += 1
    return samples


def _plate_blocks(ledger: Ledger, series: Series, now: datetime, limits: Limits) -> Iterator[Block]:
    index = index_of(ledger, series)
    if index is None:
        return
    sheet = Sheet(index, limits.expected_fields)
    sheet.take(ledger.well_times(series, limits.expected_fields))
    settled = sheet.settled(now.timestamp(), limits.timeout_s)
    design = ledger.design(series) or Design()
    yield from blocks(figures_of(ledger, series, sheet, design, limits, settled=settled, every=True))


def limits_of(settings: config.Config | None, source: str) -> Limits:
    """A source's limits by the configuration; the defaults without one, or for a source that it does not know."""
    if settings is None:
        return Limits()
    known = [each for each in settings.sources if each.name == source]
    if known:
        return Limits.of(settings, known[0])
    return replace(Limits(), response=settings.response, dead_share=settings.alerts.dead_share)


def _from(block: Block, since: datetime | None) -> Block:
    if since is None:
        return block
    with np.errstate(invalid="ignore"):
        return replace(block, values=np.where(block.times >= since.timestamp(), block.values, np.nan))


def _join(parts: Path, out: Path) -> None:
    with out.open("wb") as whole:
        for family in FAMILIES:
            part = parts / family.name
            if part.stat().st_size:
                whole.write(header(family).encode())
                with part.open("rb") as lines:
                    while chunk := lines.read(1 << 20):
                        whole.write(chunk)
        whole.write(b"# EOF\n")


def moment(text: str) -> datetime:
    """A time as `--since` takes it: ISO 8601, UTC where it has no zone. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time", hint="write it like 2026-11-20T18:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
