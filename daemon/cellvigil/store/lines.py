"""The journal lines that a plate's writer writes. Pure: dicts out; `journal` seals them.

What each kind says is read back in `ledger.book` and `store.plate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cellvigil import histogram
from cellvigil.data import Baseline, CallConfusion, Calls, FileRef, Frame, FrameKey, Histogram, Record
from cellvigil.ledger import TIERS, CommittedFrame, Series, Shift
from cellvigil.store import columns
from cellvigil.store.commit import Chunk
from cellvigil.store.encode import calls_table, sums
from cellvigil.store.plate import FEATURES_TABLE, Field, Plate, Table, canonical


@dataclass(frozen=True, slots=True)
class Index:
    """What a plate's journal says of an index that called cells of it."""

    classes: tuple[str, ...]  # by id
    groups: Mapping[str, str]  # class -> group
    confusion: CallConfusion | None = None  # see data.Record
    overridden: bool = False  # see data.Record
    aligned_from: str = ""  # see data.Record


def utc(moment: datetime) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def table_lines(plate: Plate, tables: Iterable[Table]) -> list[dict[str, Any]]:
    """The journal lines of tables that the plate does not know yet."""
    return [
        {
            "kind": "table",
            "name": table.name,
            "dtype": table.dtype,
            "columns": table.columns,
            "attributes": dict(table.attributes),
        }
        for table in tables
        if table.name not in plate.tables
    ]


def setting_lines(plate: Plate, provenance: Mapping[str, str]) -> list[dict[str, Any]]:
    """The journal line that numbers a provenance (what made a record), if the plate does not know it yet."""
    if canonical(provenance) in plate.settings:
        return []
    return [
        {"kind": "setting", "setting": max(plate.settings.values(), default=-1) + 1, "provenance": dict(provenance)}
    ]


def bundle_line(calls: Calls, index: Index) -> dict[str, Any]:
    """The journal line that names an index's classes and groups and how its calls go wrong: once a plate, and again
    where it calls in another way.
    """
    classes, confusion = index.classes, index.confusion
    line: dict[str, Any] = {
        "kind": "bundle",
        "sha256": calls.bundle_sha256,
        "classes": list(classes),
        "groups": dict(index.groups),
        "table": calls_table(calls.bundle_sha256, classes).name,
        "confusion": None,
    }
    if index.overridden:
        line["confusion_overridden"] = True
    elif confusion is not None:
        counts = [list(row) for row in confusion.counts]
        line["confusion"] = {"counts": counts, "effects": list(confusion.effects)}
    if index.aligned_from:
        line["aligned_from"] = index.aligned_from
    return line


def frame_line(
    record: Record,
    one: Field,
    slot: int,
    *,
    setting: int,
    channels: int,
    tables: Iterable[Table],
    chunks: Sequence[Chunk],
    committed_at: datetime,
) -> dict[str, Any]:
    """The journal line that commits a record; "bytes" is what its chunks weigh by tier, "sums" their checksums."""
    frame, cells = record.frame, record.cells
    weights = dict.fromkeys(TIERS, 0)
    for chunk in chunks:
        weights[chunk.tier] += len(chunk.data)
    return {
        "kind": "frame",
        "key": key_parts(frame.key),
        "t": slot,
        "revision": record.revision,
        "path": one.path,
        "acquired_at": utc(frame.acquired_at),
        "committed_at": utc(committed_at),
        "files": _refs(frame.files),
        "bytes": weights,
        "sums": sums(chunks, one, channels),
        "n_cells": len(cells),
        "edge": int(np.count_nonzero(cells.touches_edge)),
        "counts": columns.state_counts(record.calls, ~cells.touches_edge, record.classes),
        "certainty": columns.certainty(record.calls, ~cells.touches_edge),
        "outcome": "excluded" if record.quality.excluded else "counted",
        "quality": _finite(asdict(record.quality)),
        "channels": list(frame.channels),
        "signals": _signals(record.signals),
        "missing_channels": list(record.missing_channels),
        "pixel_size_um": [float(size) for size in frame.pixel_size_um],
        "shape": list(frame.pixels.shape),
        "bundle": record.calls.bundle_sha256,
        "tables": [table.name for table in tables if table.name != FEATURES_TABLE],
        "setting": setting,
        "stage_seconds": {stage: round(seconds, 6) for stage, seconds in record.stage_seconds.items()},
    }


def calls_line(
    frame: CommittedFrame,
    one: Field,
    table: Table,
    *,
    chunks: Sequence[Chunk],
    counts: Mapping[str, int],
    certainty: Mapping[str, float],
    committed_at: datetime,
) -> dict[str, Any]:
    """The journal line that commits another index's calls of a frame's cells."""
    return {
        "kind": "calls",
        "key": key_parts(frame.key),
        "t": frame.t,
        "revision": frame.revision,
        "path": one.path,
        "committed_at": utc(committed_at),
        "bundle": table.attributes["bundle_sha256"],
        "table": table.name,
        "bytes": {chunk.tier: len(chunk.data) for chunk in chunks},
        "sums": sums(chunks, one, 0),
        "counts": dict(counts),
        "certainty": dict(certainty),
    }


def attached_line(
    known: CommittedFrame,
    frame: Frame,
    *,
    signals: Mapping[str, Histogram],
    missing: Iterable[str],
    growth: int,
    check: Mapping[str, int | list[int | None]],
    committed_at: datetime,
) -> dict[str, Any]:
    """The journal line that adds channels to a committed frame; `growth`: bytes that they take, both levels."""
    return {
        "kind": "attached",
        "key": key_parts(known.key),
        "t": known.t,
        "revision": known.revision,
        "path": known.path,
        "committed_at": utc(committed_at),
        "files": _refs(frame.files),
        "bytes": {"pixels": growth},
        "sums": dict(check),
        "channels": list(frame.channels),
        "signals": _signals(signals),
        "missing_channels": list(missing),
    }


def files_line(key: FrameKey, revision: int, files: Iterable[FileRef], committed_at: datetime) -> dict[str, Any]:
    """The journal line that says that a committed frame's files were touched and hold the same bytes."""
    return {
        "kind": "files",
        "key": key_parts(key),
        "revision": revision,
        "files": _refs(files),
        "committed_at": utc(committed_at),
    }


def baseline_line(series: Series, baseline: Baseline, committed_at: datetime) -> dict[str, Any]:
    """The journal line that fixes what a series' first frames measured; "channels" only where there are some."""
    ranges = {name: [float(value) for value in limits] for name, limits in baseline.channels.items()}
    return {
        "kind": "baseline",
        "series": list(series),
        "intensity": [float(value) for value in baseline.intensity],
        **({"channels": ranges} if ranges else {}),
        "focus": float(baseline.focus),
        "committed_at": utc(committed_at),
    }


def shift_line(key: FrameKey, shift: Shift, committed_at: datetime) -> dict[str, Any]:
    """The journal line that says how far a field of view had moved when the plate came back; `key`: the first frame
    after that.
    """
    told = {"shift": shift.share, "peak": round(shift.peak, 4), "before": shift.before, "after": shift.after}
    place = {"series": list(key.series), "well": key.well, "timepoint": key.timepoint, "field": key.field}
    return {"kind": "shift", **place, **_finite(told), "committed_at": utc(committed_at)}


def key_parts(key: FrameKey) -> list[Any]:
    """A frame key as a journal line has it."""
    return [*key.series, key.well, key.field, key.timepoint]


def _refs(files: Iterable[FileRef]) -> list[list[Any]]:
    return [[ref.path, ref.size, ref.mtime_ns, ref.digest] for ref in files]


def _signals(signals: Mapping[str, Histogram]) -> dict[str, Any]:
    return {channel: histogram.line(one) for channel, one in signals.items()}


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no word for NaN or infinity: null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
