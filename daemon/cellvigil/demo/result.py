"""What came out of the demo, read from the store on the disk like any other reader, and held against the truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil import table
from cellvigil.demo.response import Response, response_lines, response_of
from cellvigil.rehearse.score import Agreement, ArmRow, Figures, agreement, figures, match_cells, score_counts
from cellvigil.rehearse.truth import CellRow, read_cells, read_wells
from cellvigil.store.reader import read_ledger


@dataclass(frozen=True, slots=True)
class Result:
    """The counts of a rehearsal's plate, and how they agree with the truth."""

    arms: tuple[ArmRow, ...]  # by arm, then time
    agreement: Agreement  # of wells and times
    cells_matched: Figures  # of single cells
    cells: int  # committed, those at the border too
    excluded: int  # frames left out of the counts (out of focus, badly exposed)
    wells: Mapping[str, list[tuple[float, float, float]]]  # well -> (hours, counted share, true share)
    response: Response | None  # None without a plate map

    def figures(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "share_error": round(self.agreement.share_error, 4),
            "worst_share_error": round(self.agreement.worst_error, 4),
            "correlation": round(self.agreement.correlation, 4),
            "count_ratio": round(self.agreement.count_ratio, 4),
            "recall": round(self.cells_matched.recall, 4),
            "precision": round(self.cells_matched.precision, 4),
            "balanced_accuracy": round(self.cells_matched.balanced_accuracy, 4),
            "by_state": {state: round(value, 4) for state, value in self.cells_matched.by_state.items()},
            "cells": self.cells,
            "excluded_frames": self.excluded,
            "onset_h": {} if self.response is None else {w: round(h, 2) for w, h in self.response.onset_h.items()},
        }


def result_of(store: Path, truth: Path) -> Result:
    """Compare the record in `store` with the rehearsal's `truth` folder. Raises StoreError as its readers do."""
    ledger = read_ledger(store)
    wells = read_wells(truth / "wells.csv")
    values = [value for series in ledger.series() for value in ledger.well_times(series)]
    counted = {(v.well, v.timepoint): v.counts for v in values if v.fields_present > v.fields_excluded}
    by_frame: dict[tuple[str, str, int], list[CellRow]] = {}
    for row in read_cells(truth / "cells.csv"):
        by_frame.setdefault((row.well, str(row.field), row.timepoint), []).append(row)
    matched = [
        match_cells(centroids, states, by_frame.get(place, []))
        for place, centroids, states in _frames(store)
        if place[0::2] in counted
    ]
    return Result(
        arms=tuple(score_counts(counted, wells)),
        agreement=agreement(counted, wells),
        cells_matched=figures(matched),
        cells=sum(frame.n_cells for series in ledger.series() for frame in ledger.frames(series)),
        excluded=sum(value.fields_excluded for value in values),
        wells={
            well: [
                (row.hours, row.counted_share, row.true_share)
                for row in score_counts({key: counts for key, counts in counted.items() if key[0] == well}, wells)
            ]
            for well in sorted({well for well, _ in counted})
        },
        response=response_of(ledger),
    )


def _frames(store: Path) -> Iterator[tuple[tuple[str, str, int], Any, list[str]]]:
    """(well, field, timepoint), centroids (n, 2) y, x px, and states of the cells that count, frame by frame."""
    for batch in table.rows(store):
        columns = batch.to_pydict()
        here = np.array(columns["counted"], dtype=bool)
        place = (columns["well"][0], columns["field"][0], columns["timepoint"][0])
        centroids = np.column_stack([columns["centroid_y_px"], columns["centroid_x_px"]])[here]
        yield place, centroids, [state for state, counts in zip(columns["state"], here, strict=True) if counts]


def table_lines(result: Result) -> Iterator[str]:
    """The table by arm and time, and what it amounts to, as a person reads it."""
    yield f"     {'arm':8} {'hours':>6} {'counted':>8} {'true':>6} {'dying+dead':>11} {'true':>7}"
    for row in result.arms:
        ours, theirs = (_living(row.counted), _living(row.true))
        yield (
            f"     {row.arm:8} {row.hours:6.1f} {ours:8d} {theirs:6d} "
            f"{_percent(row.counted_share):>11} {_percent(row.true_share):>7}"
        )
    fit, single = result.agreement, result.cells_matched
    yield (
        f"     dying+dead share of a well: off by {_percent(fit.share_error)} on average, {_percent(fit.worst_error)} "
        f"at worst, correlation {fit.correlation:.3f}, over {fit.points} wells and times"
    )
    yield (
        f"     single cells: {_percent(single.recall)} found, {_percent(single.precision)} of the found are cells, "
        f"balanced accuracy of the calls {single.balanced_accuracy:.3f}"
    )
    if result.response is not None:
        yield from response_lines(result.response)
    if result.excluded:
        yield f"     {result.excluded} frames were out of focus or badly exposed: kept, and left out of the counts"


def _living(counts: Mapping[str, int]) -> int:
    return sum(counts.get(state, 0) for state in ("live", "apoptotic", "necrotic"))


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"
