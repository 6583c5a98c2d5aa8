"""Well profiles of a daemon's store: means of what it recorded. Reads journals and chunks, writes nothing.

Every frame's record holds the mean embedding of its counted cells, which outlives the embeddings. Frames of older
versions have none: theirs is the mean of the stored embeddings, where these are still there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from cellvigil.data import Embeddings
from cellvigil.errors import StoreError, UsageError
from cellvigil.ledger import CommittedFrame, Ledger, Series
from cellvigil.platemap import NO_PLAN, PlatePlan
from cellvigil.store.plate import PROFILE_TABLES, tier_of
from cellvigil.store.reader import plate_ledger
from cellvigil.store.recover import plate_folders
from cellvigil.store.rows import read_embedding, read_profile, table_attributes
from cellvigil.store.vectors import counted_rows, has_vectors
from cellvigil_indexes.profiles.aggregate import mean_of
from cellvigil_indexes.profiles.values import Missing, WellProfile

PlanOf = Callable[[Series, PlatePlan], PlatePlan]
"""The plate map of a series, given what the journal recorded of it."""

_Field = tuple[CommittedFrame, int, Embeddings]  # the frame, its cells that count, their mean


def recorded_plan(_series: Series, plan: PlatePlan) -> PlatePlan:
    """The plate map that the journal recorded."""
    return plan


def read_profiles(store: Path, plan_of: PlanOf = recorded_plan) -> tuple[list[WellProfile], Missing]:
    """The profile of every well and time point, by plate, well and time, and the frames that none could be made of.

    Only current frames that count, and cells whose mask does not touch the border. Raises UsageError for a folder
    without plates, StoreError for a journal that cannot be read.
    """
    folders = plate_folders(store)
    if not folders:
        raise UsageError("there is no plate in this store", where=store, hint="give the daemon's store with --store")
    profiles: list[WellProfile] = []
    missing: Counter[str] = Counter()
    for folder in folders:
        ledger = plate_ledger(folder)
        for series in ledger.series():
            design = ledger.design(series)
            plan = plan_of(series, design.plan if design else NO_PLAN)
            fields = [each for frame in _current(ledger, series) if (each := _field(folder, ledger, frame, missing))]
            profiles += _wells(series, fields, plan)
    return profiles, Missing(**missing)


def _current(ledger: Ledger, series: Series) -> Iterable[CommittedFrame]:
    for frame in ledger.frames(series):
        current = ledger.revision(frame.key) == frame.revision
        if current and frame.outcome == "counted" and frame.n_cells > frame.edge:
            yield frame


def _field(folder: Path, ledger: Ledger, frame: CommittedFrame, missing: Counter[str]) -> _Field | None:
    """A field's mean vectors; None, and noted, where its embeddings or rows are not there."""
    dropped = ledger.dropped(frame.key.series, frame.t)
    place = folder / frame.path
    recorded = next((table for table in frame.tables if table.startswith(PROFILE_TABLES)), None)
    if recorded is not None and "measurements" not in dropped:
        try:
            means = read_profile(place, recorded, frame.t, dropped=dropped)
        except StoreError:  # `cellvigil repair` tells of it, and mends it
            missing["damaged"] += 1
            return None
        return frame, frame.n_cells - frame.edge, means
    if {"embeddings", "measurements"} & set(dropped):
        missing["dropped"] += 1
        return None
    if not has_vectors(frame, dropped):
        missing["never_kept"] += 1
        return None
    try:
        counted = counted_rows(folder, frame, dropped=dropped)
        vectors = {
            str(table_attributes(place / table).get("encoder", table)): read_embedding(
                place, table, frame.t, frame.n_cells, dropped=dropped
            )[counted]
            for table in frame.tables
            if tier_of(table) == "embeddings"
        }
    except StoreError:  # `cellvigil repair` tells of it, and mends it
        missing["damaged"] += 1
        return None
    cells = int(counted.sum())
    return (frame, cells, {name: mean_of(block) for name, block in vectors.items()}) if cells else None


def _wells(series: Series, fields: Iterable[_Field], plan: PlatePlan) -> list[WellProfile]:
    by_well: dict[tuple[str, int], list[_Field]] = {}
    for each in fields:
        key = each[0].key
        by_well.setdefault((key.well, key.timepoint), []).append(each)
    return [_well(series, *place, there, plan) for place, there in sorted(by_well.items())]


def _well(series: Series, well: str, timepoint: int, fields: list[_Field], plan: PlatePlan) -> WellProfile:
    names = [name for name in fields[0][2] if all(name in means for _, _, means in fields)]
    return WellProfile(
        series=series,
        well=well,
        timepoint=timepoint,
        acquired_at=min(frame.acquired_at for frame, _, _ in fields),
        vectors={name: mean_of([means[name] for _, _, means in fields]) for name in names},
        fields=len(fields),
        cells=sum(cells for _, cells, _ in fields),
        plan=plan.wells.get(well),
        arm=plan.arm(well),
    )
