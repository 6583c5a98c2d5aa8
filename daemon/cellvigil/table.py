"""The record as rows for other tools: one a cell (`rows`) or one a frame (`frame_rows`), as Parquet or CSV.

Reads a store, its journals first, and never writes into it; a daemon may be writing there meanwhile. Beside one plate's
ledger, one frame's rows are held at a time. The rows with `counted` true, summed by state, are the ledger's counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from cellvigil.data import NEIGHBOURS_KEPT, UNKNOWN, UNKNOWN_REASONS, Array, FrameKey
from cellvigil.decide import for_expert
from cellvigil.errors import StoreError, UsageError
from cellvigil.journal import Line
from cellvigil.ledger import CalledBy, CommittedFrame, Ledger, committed_frame
from cellvigil.store.columns import FEATURES, IN_SET
from cellvigil.store.names import readable
from cellvigil.store.plate import FEATURES_TABLE
from cellvigil.store.reader import plate_ledger, plate_lines
from cellvigil.store.recover import plate_folders
from cellvigil.store.rows import read_table

_GROUP_ROWS = 65_536  # rows of one Parquet row group

_FRAME_FIELDS = (
    ("source", pa.string()),
    ("experiment", pa.string()),
    ("plate", pa.string()),
    ("well", pa.string()),
    ("field", pa.string()),
    ("timepoint", pa.int32()),
    ("acquired_at", pa.timestamp("us", tz="UTC")),
    ("revision", pa.int32()),
    ("current", pa.bool_()),  # the highest revision of its frame
    ("outcome", pa.string()),  # "counted" or "excluded"
    ("bundle", pa.string()),  # sha256 of the index that called
    ("aligned", pa.bool_()),  # whether that is an aligned version of the source's index
    ("arm", pa.string()),  # from here on what the last recorded plate map says; null for a well that is not in it
    ("role", pa.string()),
    ("compound", pa.string()),
    ("dose", pa.float64()),
    ("dose_unit", pa.string()),
    ("vehicle", pa.string()),
    ("cell_line", pa.string()),
    ("treated_at", pa.timestamp("us", tz="UTC")),
)
_QUALITY = ("focus", "saturated", "dark", "coverage")


class _Sheet(Protocol):
    """A file that takes tables one after another."""

    def write_table(self, table: Any) -> None: ...
    def close(self) -> None: ...


LeftOut = Callable[[CommittedFrame, str], object]
"""Told of a frame whose cells' rows are not in the store any more, and why: "dropped" (by retention), "lost",
or "superseded" (lost, and done again)."""


def rows(store: Path, left_out: LeftOut = lambda _frame, _why: None) -> Iterator[Any]:
    """Every cell of every committed frame, one `pyarrow.RecordBatch` a frame, all of one schema.

    `counted` says whether the cell stands in the gauges: its frame is current and not excluded, and its mask does not
    touch the border. `for_expert`: an expert should look at it, as it is unknown, or the voters of the index that
    called it disagree (`decide.for_expert`). Columns of classes that the calling index does not have are null, and so
    are probabilities of an index that was never calibrated and sets (`in_set_<class>`) that an older version did not
    keep. A frame without cells gives no batch: see `frame_rows`. One whose rows retention deleted, or that `cellvigil
    repair` found damaged, gives none either, and `left_out` is told. Raises StoreError.
    """
    classes = _classes(store)
    for folder in plate_folders(store):
        ledger = plate_ledger(folder)
        for series in ledger.series():
            for frame in ledger.frames(series):
                if not frame.n_cells:
                    continue
                if "measurements" in ledger.dropped(series, frame.t):
                    left_out(frame, "dropped")
                    continue
                try:
                    yield _cell_batch(folder, ledger, frame, classes)
                except StoreError:
                    if not (why := _explained(folder, frame)):
                        raise
                    later = ledger.revision(frame.key) > frame.revision  # done again meanwhile: nothing is lost
                    left_out(frame, "superseded" if later and why == "lost" else why)


def frame_rows(store: Path) -> Iterator[Any]:
    """Every committed frame, those without cells too, one `pyarrow.RecordBatch` a plate. Raises StoreError."""
    classes = _classes(store)
    for folder in plate_folders(store):
        ledger, lacking = Ledger(), {}
        lines = plate_lines(folder)
        for line in lines:
            ledger.add(line)
            if line["kind"] in ("frame", "attached"):  # a channel that came late is lacking no more
                lacking[(*line["key"], line["revision"])] = line["missing_channels"]
        if frames := [line for line in lines if line["kind"] == "frame"]:
            yield pa.RecordBatch.from_pylist(
                [_frame_row(ledger, line, lacking[(*line["key"], line["revision"])], classes) for line in frames],
                schema=_frame_schema(classes),
            )


def write_table(store: Path, out: Path, *, frames: bool = False, left_out: LeftOut = lambda _frame, _why: None) -> int:
    """Write the rows of `store` to `out`, Parquet or CSV by its suffix; returns how many.

    `frames`: one row a frame instead of one a cell. `left_out`: see `rows`. `out` appears whole or not at all. Raises
    UsageError for another suffix or a folder without a store, StoreError for a store that cannot be read.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise UsageError(f"{out.name} is neither .parquet nor .csv", hint="choose the format by the file's suffix")
    if not plate_folders(store):
        raise UsageError("there is no plate in this store", where=store, hint="give the store's folder with --store")
    schema = _frame_schema(_classes(store)) if frames else _cell_schema(_classes(store))
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        sheet = _sheet(unfinished, out.suffix, schema)
        try:
            written = _write(sheet, frame_rows(store) if frames else rows(store, left_out))
        finally:
            sheet.close()
        unfinished.replace(out)
    except OSError as error:
        raise StoreError(f"the table cannot be written: {error.strerror}", where=out) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return written


def _explained(folder: Path, frame: CommittedFrame) -> str:
    """Why rows cannot be read, as the journal says by now: a daemon may have gone on while we read."""
    ledger = plate_ledger(folder)
    if ledger.is_lost(frame.key, frame.revision):
        return "lost"
    return "dropped" if "measurements" in ledger.dropped(frame.key.series, frame.t) or not folder.exists() else ""


def _sheet(path: Path, suffix: str, schema: Any) -> _Sheet:
    sheet: _Sheet = (
        pyarrow.parquet.ParquetWriter(path, schema) if suffix == ".parquet" else pyarrow.csv.CSVWriter(path, schema)
    )
    return sheet


def _write(sheet: _Sheet, batches: Iterable[Any]) -> int:
    waiting: list[Any] = []
    written = held = 0
    for batch in batches:
        waiting.append(batch)
        held += batch.num_rows
        if held >= _GROUP_ROWS:
            sheet.write_table(pa.Table.from_batches(waiting))
            written, held, waiting = written + held, 0, []
    if waiting:
        sheet.write_table(pa.Table.from_batches(waiting))
    return written + held


def _classes(store: Path) -> list[str]:
    """The classes of every index that called in this store, in the order in which they appeared."""
    bundles = (line for folder in plate_folders(store) for line in plate_lines(folder) if line["kind"] == "bundle")
    return list(dict.fromkeys(name for line in bundles for name in line["classes"]))


def _cell_schema(classes: list[str]) -> Any:
    features = [(name, pa.bool_() if name == "touches_edge" else pa.float32()) for name in FEATURES]
    calls = [("counted", pa.bool_()), ("state", pa.string()), ("best", pa.string()), ("unknown", pa.bool_())]
    calls += [("unknown_reason", pa.string()), ("for_expert", pa.bool_())]
    numbers = [(name, pa.float32()) for name in ("probability", "vote_share", "entropy", "novelty_p", "agreement")]
    shares = [(f"vote_share_{name}", pa.float32()) for name in classes]
    probabilities = [(f"probability_{name}", pa.float32()) for name in classes]
    sets = [(f"in_set_{name}", pa.bool_()) for name in classes]
    neighbours = [(f"neighbour_{rank}", pa.int32()) for rank in range(NEIGHBOURS_KEPT)]
    cell = [("cell", pa.int32()), *features, *calls, *numbers, ("k", pa.int32())]
    return pa.schema([*_FRAME_FIELDS, *cell, *shares, *probabilities, *sets, *neighbours])


def _frame_schema(classes: list[str]) -> Any:
    counts = [(f"cells_{state}", pa.int32()) for state in (*classes, UNKNOWN)]
    quality = [(name, pa.float32()) for name in _QUALITY]
    text = [(name, pa.string()) for name in ("excluded", "channels", "missing_channels", "files")]
    times = [("committed_at", pa.timestamp("us", tz="UTC")), ("t", pa.int32()), ("path", pa.string())]
    return pa.schema([*_FRAME_FIELDS, ("n_cells", pa.int32()), ("edge", pa.int32()), *counts, *quality, *text, *times])


def _common(ledger: Ledger, frame: CommittedFrame) -> dict[str, Any]:
    key = frame.key
    bundle, _ = ledger.calls(key, frame.revision) or ("", {})
    called = ledger.bundle(key.series, bundle)
    return {
        "source": readable(key.source),
        "experiment": readable(key.experiment),
        "plate": readable(key.plate),
        "well": readable(key.well),
        "field": readable(key.field),
        "timepoint": key.timepoint,
        "acquired_at": frame.acquired_at,
        "revision": frame.revision,
        "current": ledger.revision(key) == frame.revision,
        "outcome": frame.outcome,
        "bundle": bundle,
        "aligned": called is not None and bool(called.aligned_from),
        **_treatment(ledger, key),
    }


def _treatment(ledger: Ledger, key: FrameKey) -> dict[str, Any]:
    design = ledger.design(key.series)
    plan = design.plan.wells.get(key.well) if design else None
    if design is None or plan is None:
        return {}
    return {
        "arm": readable(design.plan.arm(key.well)),
        "role": plan.role,
        "compound": readable(plan.compound) or None,
        "dose": plan.dose,
        "dose_unit": readable(plan.unit) or None,
        "vehicle": readable(plan.vehicle) or None,
        "cell_line": readable(plan.cell_line) or None,
        "treated_at": plan.treated_at,
    }


def _cell_batch(folder: Path, ledger: Ledger, frame: CommittedFrame, classes: list[str]) -> Any:
    common = _common(ledger, frame)
    called = ledger.bundle(frame.key.series, common["bundle"])
    if called is None:
        raise StoreError("the journal has no line for the index that called", where=folder, hint="call again")
    count = frame.n_cells
    features = read_table(folder / frame.path, FEATURES_TABLE, frame.t, count)
    calls = read_table(folder / frame.path, called.table, frame.t, count)
    counts = common["current"] and frame.outcome == "counted"
    values: dict[str, Any] = {name: [value] * count for name, value in common.items()}
    values |= {"cell": np.arange(1, count + 1), **features, "touches_edge": features["touches_edge"] > 0}
    values |= {"counted": counts & (features["touches_edge"] == 0), **_call_values(calls, called, classes)}
    schema = _cell_schema(classes)
    missing = [None] * count
    arrays = [pa.array(values.get(one.name, missing), type=one.type, from_pandas=True) for one in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _call_values(calls: Mapping[str, Array], called: CalledBy, classes: list[str]) -> dict[str, Any]:
    names = np.array(called.classes, dtype=object)
    ids = calls["best_id"].astype(np.int64)
    unknown = calls["unknown"] > 0
    reasons = np.array([None, *UNKNOWN_REASONS[1:]], dtype=object)[calls["unknown"].astype(np.int64)]
    best = names[ids]
    here = np.arange(len(ids))
    shares = np.column_stack([calls[f"vote_share:{name}"] for name in called.classes])
    probabilities = np.column_stack([calls[f"probability:{name}"] for name in called.classes])
    by_class = {f"vote_share_{name}": calls[f"vote_share:{name}"] for name in classes if name in called.classes}
    by_class |= {f"probability_{name}": calls[f"probability:{name}"] for name in classes if name in called.classes}
    by_class |= {f"in_set_{name}": calls[IN_SET + name] > 0 for name in classes if IN_SET + name in calls}
    return {
        "state": np.where(unknown, UNKNOWN, best),
        "best": best,
        "unknown": unknown,
        "unknown_reason": reasons,
        "for_expert": for_expert(calls["agreement"], unknown),
        "probability": probabilities[here, ids],
        "vote_share": shares[here, ids],
        "k": calls["k"].astype(np.int32),
        **{name: calls[name] for name in ("entropy", "novelty_p", "agreement")},
        **{f"neighbour_{rank}": calls[f"neighbour_{rank}"].astype(np.int32) for rank in range(NEIGHBOURS_KEPT)},
        **by_class,
    }


def _frame_row(ledger: Ledger, line: Line, lacking: list[str], classes: list[str]) -> dict[str, Any]:
    frame = committed_frame(line)
    frame = ledger.frame(frame.key, frame.revision) or frame  # with the channels that were attached
    _, counts = ledger.calls(frame.key, frame.revision) or ("", {})
    return {
        **_common(ledger, frame),
        "n_cells": frame.n_cells,
        "edge": frame.edge,
        **{f"cells_{state}": counts.get(state) for state in (*classes, UNKNOWN)},
        **{name: line["quality"][name] for name in (*_QUALITY, "excluded")},
        "channels": readable(";".join(frame.channels)),
        "missing_channels": readable(";".join(lacking)),
        "files": readable(";".join(ref.path for ref in frame.files)),
        "committed_at": frame.committed_at,
        "t": frame.t,
        "path": frame.path,
    }
