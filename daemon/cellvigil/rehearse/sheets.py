"""A rehearsal's plate map and events as a biologist would keep them: `OUT/plate.csv`, `OUT/events.csv`.

In the form that the configuration's `plate_map` and `events` take; times are the simulated microscope's own, without a
zone, as its files carry them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cellvigil.errors import UsageError
from cellvigil.rehearse.assay import Assay, wells_of

PLATE_MAP, EVENTS = "plate.csv", "events.csv"
VEHICLE = "DMSO"


def dosed_at(assay: Assay) -> datetime:
    """When the drug goes in, by the microscope's clock: between time point `dosed_at` and the next."""
    visits = len(assay.wells) * assay.fields
    last = min(2.0, 48.0 * assay.minutes / visits) * (visits - 1) / 60  # minutes into the time point
    after = timedelta(minutes=assay.minutes * assay.dosed_at + (last + assay.minutes) / 2)
    return assay.started_at + timedelta(seconds=round(after.total_seconds(), 0 if assay.minutes >= 1 else 3))


def write_sheets(assay: Assay, out: Path) -> tuple[Path, Path]:
    """Write both; files that are there already must say the same. Raises UsageError."""
    at = dosed_at(assay).isoformat(sep=" ")
    plate = [
        (well.name, well.arm, well.compound, f"{well.dose_um:g}" if well.compound else "", VEHICLE, at)
        for well in wells_of(assay)
    ]
    events = [(at, "dosed", " ".join(assay.treated), f"{assay.compound}, in {VEHICLE}")] if assay.treated else []
    sheets = {
        out / PLATE_MAP: _sheet(("well", "role", "compound", "dose_uM", "vehicle", "treated_at"), plate),
        out / EVENTS: _sheet(("at", "kind", "wells", "note"), events),
    }
    for path, text in sheets.items():
        _put(path, text)
    return out / PLATE_MAP, out / EVENTS


def _sheet(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _put(path: Path, text: str) -> None:
    """Write a file that is not there; one that says something else is somebody's own."""
    try:
        if path.exists():
            if path.read_bytes() != text.encode():
                raise UsageError("there is another file here already", where=path, hint="give another --out")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write here: {error.strerror}", where=path, hint="give another --out") from None
