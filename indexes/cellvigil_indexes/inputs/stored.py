"""Cells of earlier runs: a daemon's store, and a table that says what some of its cells are. Reads both.

The cells are cut anew from the stored pixels around the stored centres, with the stored masks, and embedded by the
encoders of today: an index of them is right whatever encoder the run had. A series keeps the intensity range that its
first frames fixed (the journal's baseline), so that these pictures and the live ones pass the same steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.files import sha256_of
from cellvigil.data import Baseline
from cellvigil.errors import StoreError, UsageError
from cellvigil.journal import Line
from cellvigil.ledger import Ledger, committed_frame
from cellvigil.normalize import RED_GREEN_BLUE
from cellvigil.store.names import readable
from cellvigil.store.plate import FEATURES_TABLE, geometry_of
from cellvigil.store.reader import plate_lines
from cellvigil.store.recover import plate_folders
from cellvigil.store.rows import read_table
from cellvigil_indexes.inputs.faults import Faults, one_spelling
from cellvigil_indexes.inputs.label_table import Row, read_labels
from cellvigil_indexes.inputs.labelled import LabelledCell, LabelledImage, LabelledSet
from cellvigil_indexes.inputs.stored_frame import StoredFrame

Place = tuple[str, str, str, str, int]
"""Experiment, plate, well, field, time point: as `cellvigil table` writes them."""

_NEEDED = frozenset({"pixels", "labels", "measurements"})
"""The tiers of a frame that its cells are cut from."""


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """One committed revision of a frame that the table names."""

    source: str
    revision: int
    current: bool
    kept: bool  # pixels, masks and rows are still in the store
    line: Line
    folder: Path  # the plate's
    geometry: Mapping[str, Any]
    baseline: Baseline | None


def read_store(store: Path, labels: Path, *, channel: str = "", skip_bad: bool = False) -> LabelledSet:
    """The labelled cells of a store, one image a frame; groups are the table's, else wells (source to well).

    `channel` is the one that is analysed, as the daemon's `channels.segment`; "" = the only one (or colour).
    Bad are rows that name no frame (or one of which retention has deleted) or no cell, fit several sources, or give a
    cell two classes, and class names that differ in case only (with `skip_bad` they are one). Raises UsageError that
    counts and names them if not `skip_bad`, and if nothing is labelled; StoreError for a store that cannot be read.
    """
    folders = plate_folders(store)
    if not folders:
        raise UsageError("there is no plate in this store", where=store, hint="give the daemon's store with --store")
    faults = Faults()
    rows = read_labels(labels, faults)
    names = one_spelling([row.class_name for row in rows], faults, "class names that differ in case only")
    frames = _frames(folders, {row.frame for row in rows})
    chosen: dict[tuple[Path, str, int], tuple[_Found, dict[int, Row]]] = {}
    for row in rows:
        frame = _frame_of(row, frames.get(row.frame, []), faults)
        if frame is not None:
            at = (frame.folder, frame.line["path"], frame.line["t"])
            _note(row, chosen.setdefault(at, (frame, {}))[1], frame, faults)
    images = [_image(frame, cells, names, channel) for frame, cells in chosen.values() if cells]
    warnings = faults.settle("the table of labels", where=labels, skip_bad=skip_bad)
    if not images:
        raise UsageError("no labelled cell is left", where=labels, hint="; ".join(warnings))
    coarsest = max(max(image.pixel_size_um) for image in images if image.pixel_size_um)
    about = {"store": store.resolve().name, "labels": labels.name, "labels_sha256": sha256_of(labels)}
    provenance = {**about, "channel": channel, "left_out": faults.counts}
    return LabelledSet(images, list(dict.fromkeys(names.values())), coarsest, provenance, warnings=warnings)


def _frames(folders: Iterable[Path], wanted: set[Place]) -> dict[Place, list[_Found]]:
    """Every committed revision of the wanted frames."""
    found: dict[Place, list[_Found]] = {}
    for folder in folders:
        lines = plate_lines(folder)
        ledger = Ledger()
        for line in lines:
            ledger.add(line)
        geometry: Mapping[str, Any] = next((line for line in lines if line["kind"] == "geometry"), {})
        for line in lines:
            if line["kind"] != "frame":
                continue
            key = committed_frame(line).key
            place = (readable(key.experiment), readable(key.plate), readable(key.well), readable(key.field))
            if (*place, key.timepoint) in wanted:
                revision = int(line["revision"])
                one = _Found(
                    source=readable(key.source),
                    revision=revision,
                    current=ledger.revision(key) == revision,
                    kept=_NEEDED.isdisjoint(ledger.dropped(key.series, int(line["t"]))),
                    line=line,
                    folder=folder,
                    geometry=geometry,
                    baseline=ledger.baseline(key.series),
                )
                found.setdefault((*place, key.timepoint), []).append(one)
    return found


def _frame_of(row: Row, there: list[_Found], faults: Faults) -> _Found | None:
    """The frame that a row names; None (and noted) if there is none, or more than one."""
    fitting = [
        one
        for one in there
        if (row.source is None or row.source == one.source)
        and (one.current if row.revision is None else one.revision == row.revision)
    ]
    if len(fitting) == 1 and not fitting[0].kept:
        what = "rows that name a frame whose pixels, masks or measurements the store's retention has deleted"
        faults.add(what, f"{row.place}: {'/'.join(map(str, row.frame))}")
        return None
    if len(fitting) == 1:
        return fitting[0]
    kind = "rows that fit frames of several sources (add a column `source`)" if fitting else "rows that name no frame"
    faults.add(kind, f"{row.place}: {'/'.join(map(str, row.frame))}")
    return None


def _note(row: Row, cells: dict[int, Row], frame: _Found, faults: Faults) -> None:
    """Book the row on its cell, unless there is none or it is labelled otherwise already."""
    if not 1 <= row.cell <= frame.line["n_cells"]:
        count = frame.line["n_cells"]
        faults.add("rows that name no cell", f"{row.place}: cell {row.cell} of a frame with {count}")
    elif cells.setdefault(row.cell, row).class_name != row.class_name:
        faults.add("rows that give a cell another class", f"{row.place}: {row.class_name}")


def _image(frame: _Found, cells: Mapping[int, Row], names: Mapping[str, str], channel: str) -> LabelledImage:
    line = frame.line
    key = committed_frame(line).key
    geometry = geometry_of(frame.geometry)
    channels = tuple(line["channels"])
    _check_channel(channel, channels, frame.folder)
    stored = StoredFrame(
        key=key,
        revision=frame.revision,
        folder=frame.folder / line["path"],
        t=int(line["t"]),
        dtype=geometry.dtype,
        shape=geometry.shape,
        plate_channels=geometry.channels,
        channels=channels,
        channel=channel,
        intensity=frame.baseline.intensity if frame.baseline else None,
        ranges=frame.baseline.channels if frame.baseline else {},
    )
    features = read_table(stored.folder, FEATURES_TABLE, stored.t, int(line["n_cells"]))
    size_y, size_x = line["pixel_size_um"]
    place = "/".join(readable(part) for part in (*key.series, key.well))
    return LabelledImage(
        path=stored.folder,
        name=f"{place}/{readable(key.field)}/t{key.timepoint}" + (f".r{frame.revision}" if frame.revision else ""),
        cells=tuple(_cell(row, features, names, place) for _, row in sorted(cells.items())),
        group=place,
        pixel_size_um=(float(size_y), float(size_x)),
        series="/".join(readable(part) for part in key.series),
        stored=stored,
    )


def _cell(row: Row, features: Mapping[str, Any], names: Mapping[str, str], well: str) -> LabelledCell:
    at = row.cell - 1
    box = (int(features[f"box_{side}_px"][at]) for side in ("y0", "x0", "y1", "x1"))
    y0, x0, y1, x1 = box
    centre = (float(features["centroid_y_px"][at]), float(features["centroid_x_px"][at]))
    if not np.isfinite(centre).all():
        raise StoreError("the store's row of a cell is empty", where=well, hint="see `cellvigil repair`")
    return LabelledCell(names[row.class_name], (y0, x0, y1, x1), centre, number=row.cell, group=row.group)


def _check_channel(channel: str, there: tuple[str, ...], folder: Path) -> None:
    """Raises UsageError unless the channel that is analysed can be told."""
    colour = {name.lower() for name in there} >= set(RED_GREEN_BLUE)
    if (channel and channel not in there) or (not channel and len(there) > 1 and not colour):
        what = f"channel {channel!r} is not there" if channel else "which channel shows the cells?"
        hint = f"name it with --channel, as the daemon's channels.segment: {', '.join(there)}"
        raise UsageError(what, where=folder, hint=hint)
