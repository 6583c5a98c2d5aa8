"""Retention and repair in the running service: what was deleted is not done again, what was damaged is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cellvigil.cli import main
from cellvigil.service.opening import open_bundles, warnings_of
from cellvigil.service.serve import once
from cellvigil.store.recover import plate_folders
from lab import Lab

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


def once_later(lab: Lab, days: float, **changes: Any) -> dict[str, int]:
    """`cellvigil once` as a process whose clock is `days` ahead."""
    if FAKETIME is None:
        pytest.skip("libfaketime is not installed: no process can be given another date")
    ahead = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"+{days}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    command = [sys.executable, "-m", "cellvigil", "once", "--json", "--config", str(lab.config_file(**changes))]
    done = subprocess.run(command, env={**os.environ, **ahead}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_deleted_plate_is_not_done_again_though_its_files_are_still_there(lab):
    frames = lab.film(timepoints=2)
    assert once(lab.config())["counted"] == frames
    [folder] = plate_folders(lab.store)
    retention = {"retention": {"counts_days": 3, "warn_hours": 0}}
    assert once_later(lab, 1, store=retention)["counted"] == 0
    assert folder.exists()
    assert once_later(lab, 4, store=retention)["counted"] == 0
    assert plate_folders(lab.store) == []
    again = once(lab.config())
    assert (again["counted"], again["revised"], again["quarantined"], again["files_waiting"]) == (0, 0, 0, 0)
    assert plate_folders(lab.store) == []


def test_newer_images_of_a_deleted_plate_begin_it_anew(lab):
    frames = lab.film(timepoints=2)
    later = sorted(lab.images.rglob("*.tif"), key=lambda path: path.stem[-3:])[frames // 2 :]
    for path in later:
        path.rename(lab.root / path.name)
    assert once(lab.config())["counted"] == frames // 2
    once_later(lab, 4, store={"retention": {"counts_days": 3, "warn_hours": 0}})
    assert plate_folders(lab.store) == []
    for path in later:
        (lab.root / path.name).rename(path)
        path.touch()  # the microscope writes it now
    assert once(lab.config())["counted"] == frames // 2
    [series] = lab.ledger().series()
    assert [frame.key.timepoint for frame in lab.ledger().frames(series)] == [1] * (frames // 2)
    assert once(lab.config())["counted"] == 0
    assert main(["repair", "--store", str(lab.store)]) == 0


def test_what_goes_of_a_plate_changes_no_count_and_is_not_done_again(lab):
    frames = lab.film(timepoints=1)
    once(lab.config())
    [series] = lab.ledger().series()
    counts = lab.ledger().well_times(series)
    tiers = {f"{tier}_days": 1 for tier in ("pixels", "labels", "embeddings", "measurements")}
    once_later(lab, 2, store={"retention": {**tiers, "warn_hours": 0}})
    assert [one.name for one in lab.store.rglob("c.*")] == []
    done = once(lab.config())
    assert (done["counted"], done["revised"]) == (0, 0)
    assert lab.ledger().well_times(series) == counts
    assert len(lab.ledger().frames(series)) == frames


def test_a_damaged_frame_is_done_again_from_the_microscopes_folder(lab, capsys):
    frames = lab.film(timepoints=2)
    once(lab.config())
    [folder] = plate_folders(lab.store)
    [series] = lab.ledger().series()
    counts = [(one.well, one.timepoint, one.counts) for one in lab.ledger().well_times(series)]
    path = folder / "A/1/0/0/c.1.0.0.0"
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["repair", "--store", str(lab.store)]) == 1
    assert "need the microscope's folder" in capsys.readouterr().out
    done = once(lab.config())
    assert (done["counted"], done["revised"]) == (0, 1)
    assert main(["repair", "--store", str(lab.store)]) == 0
    assert [(one.well, one.timepoint, one.counts) for one in lab.ledger().well_times(series)] == counts
    assert len(lab.ledger().frames(series)) == frames + 1
    done = once(lab.config())
    assert (done["counted"], done["revised"]) == (0, 0)


def test_the_running_service_tells_what_the_store_holds(lab):
    frames = lab.film(timepoints=1)
    with lab.service(store={"retention": {"pixels_days": 0.5}}) as service:
        service.wait_for(lambda: service.committed() == frames)
        assert service.value("cellvigil_retention_due_bytes", why="size") == 0
        assert service.terminate() == 0
    with lab.service(store={"retention": {"pixels_days": 0.5}}) as service:
        service.wait_for(lambda: service.value("cellvigil_store_bytes", kind="pixels"))
        assert service.value("cellvigil_store_bytes", kind="journal") > 0
        assert service.value("cellvigil_retention_due_bytes", why="age") > 0
        assert service.value("cellvigil_retention_warned_timestamp_seconds", why="age") > 0
        assert service.value("cellvigil_store_floor_seconds") > 0
        assert service.terminate() == 0
        assert "retention will delete" in service.log.read_text(encoding="utf-8")


@pytest.mark.parametrize(("floor_gb", "warns"), [(0.5, True), (0.6, False), (None, False)])
def test_a_floor_below_the_pause_is_warned_of(lab, floor_gb, warns):
    settings = lab.config(store={"min_free_mb": 500, "retention": {"free_floor_gb": floor_gb}})
    told = [text for text in warnings_of(settings, open_bundles(settings)) if "min_free_mb" in text]
    assert bool(told) is warns
