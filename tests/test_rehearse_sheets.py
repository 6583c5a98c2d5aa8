"""The plate map and the events beside a rehearsal: what a biologist would have written of it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cellvigil.assays.event_list import read_events
from cellvigil.assays.plate_map import read_plate_map
from cellvigil.errors import UsageError
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.options import add_arguments, from_arguments
from cellvigil.rehearse.run import run
from cellvigil.rehearse.sheets import write_sheets


@pytest.mark.parametrize("minutes", [0.05, 15.0, 120.0])
def test_the_sheets_beside_a_rehearsal_say_when_and_which(tmp_path: Path, minutes: float) -> None:
    assay = Assay(wells=("A1", "A2", "B1"), treated=("B1",), minutes=minutes, dosed_at=1, timepoints=3, fields=2)
    plate, events = write_sheets(assay, tmp_path)
    write_sheets(assay, tmp_path)  # the same again is no other file
    rows = {row.plan.well: row.plan for row in read_plate_map(plate, timezone="UTC")}
    assert {well: (plan.role, plan.compound, plan.dose_text) for well, plan in rows.items()} == {
        "A1": ("control", "", ""), "A2": ("control", "", ""), "B1": ("treated", "Raptinal", "10 uM"),
    }  # fmt: skip
    [event] = [row.event for row in read_events(events, timezone="UTC")]
    assert (event.kind, event.wells) == ("dosed", ("B1",))
    times = [(scene.timepoint, assay.started_at + assay.acquired_after(scene)) for scene in simulate(assay)]
    assert {plan.treated_at for plan in rows.values()} == {event.at}
    at = event.at.replace(tzinfo=None)
    assert max(time for timepoint, time in times if timepoint == 1) < at
    assert at < min(time for timepoint, time in times if timepoint == 2)


def test_somebody_elses_plate_map_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "plate.csv").write_text("mine")
    with pytest.raises(UsageError, match="another file here"):
        run(replace(Assay(), timepoints=1), tmp_path)
    assert (tmp_path / "plate.csv").read_text() == "mine"


def test_a_rehearsal_can_be_told_to_start_now_and_to_kill_at_once() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    before = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
    assay = from_arguments(parser.parse_args(["--out", "x", "--start", "now", "--lag", "0.01", "--kill", "50"]))
    assert before <= assay.started_at <= before + timedelta(minutes=5)
    assert (assay.biology.kill_lag_h, assay.biology.kill_per_h) == (0.01, 50)
    for wrong in (["--lag", "0"], ["--start", "soon"]):
        with pytest.raises(SystemExit):
            parser.parse_args(["--out", "x", *wrong])
