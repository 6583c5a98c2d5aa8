"""What the ledger answers with, and how a journal line becomes one of these values. Pure."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cellvigil.data import FileRef, FrameKey

Series = tuple[str, str, str]
"""Source, experiment, plate: `FrameKey.series`."""

TIERS = ("pixels", "labels", "embeddings", "measurements")
"""What a frame leaves on the disk beside its journal line, each with an age limit of its own; in the order in which
they go when room is short."""

DENOMINATOR = ("alive", "dying", "dead")
"""The groups whose cells a state's share divides by."""


@dataclass(frozen=True, slots=True)
class CommittedFrame:
    """One revision of one frame, as its journal line tells it."""

    key: FrameKey
    revision: int  # 0 = first
    t: int  # slot in the plate's arrays
    path: str  # the field's folder in the plate: "A/1/0"
    acquired_at: datetime  # aware, UTC
    committed_at: datetime  # aware, UTC
    n_cells: int  # all cells, those at the border too
    edge: int  # cells at the border: not counted
    outcome: str  # "counted" or "excluded"
    focus: float  # `Quality.focus` of its segmentation channel; NaN where it could not be measured
    files: tuple[FileRef, ...]
    tables: tuple[str, ...]  # the per-cell tables it has rows in, besides "cells/features"
    channels: tuple[str, ...]  # as the microscope spells them; those attached later stand behind


@dataclass(frozen=True, slots=True)
class Unit:
    """One slot of a plate, over all its fields: what retention deletes as a whole."""

    series: Series
    t: int  # slot in the plate's arrays
    newest: datetime  # aware, UTC: when the last of its frames was committed
    sizes: Mapping[str, int]  # tier -> bytes still there; 0 for what was dropped
    dropped: frozenset[str]  # tiers that are gone


@dataclass(frozen=True, slots=True)
class FileNote:
    """What became of one file: as it was when it was last read, and the frame it went into."""

    ref: FileRef
    key: FrameKey
    revision: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class CalledBy:
    """An index that called cells of a plate."""

    sha256: str
    classes: tuple[str, ...]  # by id
    groups: Mapping[str, str]  # class -> group
    table: str  # where its calls stand in a field: "cells/calls-0123456789ab"
    # How its calls go wrong on cells that it did not hold: rows true class, columns classes and "unknown", as counts of
    # independent cells (each row divided by its design effect). None: not measured, or not for the way it called here.
    confusion: tuple[tuple[float, ...], ...] | None = None
    overridden: bool = False  # the index has a confusion, but cells of this plate were called under other settings
    aligned_from: str = ""  # sha256 of the index that it was aligned from; "" = it is no aligned version


@dataclass(frozen=True, slots=True)
class FieldCounts:
    """One field of view of a well at one time point: its highest revision."""

    field: str
    counts: Mapping[str, int]  # class or "unknown" -> cells not at the border; also of a frame that is left out
    counted: bool  # False: the frame is left out (focus, exposure, coverage, debris)
    focus: float  # sharpness; NaN where none was measured


@dataclass(frozen=True, slots=True)
class WellTime:
    """One well at one time point: the sum of its fields."""

    series: Series
    well: str
    timepoint: int
    acquired_at: datetime  # median of its fields, aware, UTC
    counts: Mapping[str, int]  # class or "unknown" -> cells that count, over the counted fields
    fields_present: int  # fields with a committed frame, excluded ones too
    fields_missing: int  # expected fields without one
    fields_excluded: int  # fields left out of `counts` (focus, exposure, coverage, debris)
    focus: float  # median sharpness of its fields, excluded ones too; NaN if none was measured
    bundle: str  # sha256 of the index that called the newest of its fields
    committed_at: datetime  # when the first of its frames was committed: the frame timeout runs from here
    fields: tuple[FieldCounts, ...]  # those present, by name
    probability: float  # mean calibrated probability of the called class, over the counted cells; NaN: not calibrated
    novel: float  # share of the counted cells with a novelty p-value of at most 0.1; NaN: the index has none
    typical: float  # with one above 0.5; NaN: the index has none
    agreement: float = math.nan  # mean agreement of the index's voters on them; NaN: it has a single one

    @property
    def complete(self) -> bool:
        """Whether every expected field has committed."""
        return self.fields_missing == 0


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a field of view had moved when the plate came back."""

    share: float  # of the field's side; NaN where it could not be told
    peak: float  # how sure that is, 0..1: see `shift.measure`
    before: int  # time point that was compared; NONE_COMPARED = what was said is withdrawn (the events were edited)
    after: int  # with this one


NONE_COMPARED = -1


def shares(counts: Mapping[str, int], groups: Mapping[str, str]) -> dict[str, float]:
    """Each class's share of the cells in alive, dying and dead classes; {} where there is no such cell.

    Only classes of those groups have a share; `unknown`, artefacts and ungrouped classes stand in no denominator.
    """
    living = {name for name, group in groups.items() if group in DENOMINATOR}
    whole = sum(counts.get(name, 0) for name in living)
    return {name: counts.get(name, 0) / whole for name in sorted(living)} if whole else {}


def called_by(line: Mapping[str, Any]) -> CalledBy:
    """What a journal line of kind "bundle" says of an index. Those of older versions know no confusion."""
    told = line.get("confusion")
    rows = None
    if told is not None:
        pairs = zip(told["counts"], told["effects"], strict=True)
        rows = tuple(tuple(cells / effect for cells in row) for row, effect in pairs)
    overridden = bool(line.get("confusion_overridden", False))
    return CalledBy(
        line["sha256"],
        tuple(line["classes"]),
        dict(line["groups"]),
        line["table"],
        rows,
        overridden,
        str(line.get("aligned_from", "")),
    )


def joined(known: CalledBy, more: CalledBy) -> CalledBy:
    """Two lines of one plate and index as one, in whichever order they come.

    Where they contradict (the configuration began, or ceased, to override the index in mid-assay) no one confusion
    holds for all of the plate's cells: as if overridden.
    """
    if known.overridden or (not more.overridden and more.confusion in (None, known.confusion)):
        return known
    if more.overridden or known.confusion is not None:
        return replace(known, confusion=None, overridden=True)
    return replace(known, confusion=more.confusion)


def series_of(parts: list[str]) -> Series:
    """The series of a line's first three key parts; equal texts become one object, since a ledger holds many."""
    source, experiment, plate = parts
    return (sys.intern(source), sys.intern(experiment), sys.intern(plate))


def key_of(parts: list[Any]) -> FrameKey:
    """The frame key of a line."""
    source, experiment, plate = series_of(parts[:3])
    return FrameKey(source, experiment, plate, sys.intern(parts[3]), sys.intern(parts[4]), int(parts[5]))


def committed_frame(line: Mapping[str, Any]) -> CommittedFrame:
    """The frame that a journal line of kind "frame" commits."""
    return CommittedFrame(
        key=key_of(line["key"]),
        revision=int(line["revision"]),
        t=int(line["t"]),
        path=sys.intern(line["path"]),
        acquired_at=datetime.fromisoformat(line["acquired_at"]),
        committed_at=datetime.fromisoformat(line["committed_at"]),
        n_cells=int(line["n_cells"]),
        edge=int(line["edge"]),
        outcome=sys.intern(line["outcome"]),
        focus=math.nan if line["quality"]["focus"] is None else float(line["quality"]["focus"]),
        files=tuple(FileRef(path, size, mtime_ns, digest) for path, size, mtime_ns, digest in line["files"]),
        tables=tuple(sys.intern(name) for name in line["tables"]),
        channels=tuple(sys.intern(name) for name in line.get("channels", ())),
    )
