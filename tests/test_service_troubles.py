"""What goes wrong over a weekend: shares that vanish, channels that come late, plates that begin badly."""

import os
import shutil
import time

import numpy as np
import pytest
import tifffile

from cellvigil.cli import main
from cellvigil.service.serve import once
from lab import Lab

PLATE = "240301_180000_Rehearsal/240301_180005_Plate 1"
PLAIN = {
    "kind": "plain", "pattern": r"(?P<plate>\w+)_t(?P<time>\d+)\.tif", "timezone": "", "channels": {},
    "experiment_rule": "source", "pixel_size_um": 0.322,
}  # fmt: skip


def images_of(lab: Lab, channel: str = "") -> list:
    return sorted(path for path in (lab.images / PLATE).glob("*.tif") if channel in path.name)


def files_by_frame(lab: Lab) -> dict:
    """Files and revision of the newest revision of each frame."""
    ledger = lab.ledger()
    frames = [frame for series in ledger.series() for frame in ledger.frames(series)]
    return {(f.key.well, f.key.timepoint): (f.revision, len(f.files)) for f in sorted(frames, key=lambda f: f.revision)}


@pytest.mark.parametrize("trouble", ["gone", "empty"])
def test_a_share_that_is_away_longer_than_the_timeout_costs_nothing(lab: Lab, trouble: str):
    lab.film(timepoints=15)
    away = lab.root / "away"
    with lab.service(source={"frame_timeout_s": 0.5, "scan_interval_s": 0.05}) as service:
        service.wait_for(lambda: service.committed() >= 2)
        lab.images.rename(away)
        if trouble == "empty":
            lab.images.mkdir()
        time.sleep(1.5)  # three times the patience
        if trouble == "empty":
            lab.images.rmdir()
        away.rename(lab.images)
        service.wait_for(lambda: service.committed() == 30)
        assert service.terminate() == 0
    assert lab.quarantined() == {}
    assert files_by_frame(lab) == {(well, t): (0, 1) for well in ("A1", "B1") for t in range(15)}


def test_a_plate_that_begins_with_a_frame_that_cannot_be_measured_does_not_end_the_service(lab: Lab):
    good = np.random.default_rng(0).integers(0, 4000, (120, 140), dtype=np.uint16)
    for number in range(3):
        tifffile.imwrite(lab.images / f"P1_t{number}.tif", good)
    # At this scale the frame would be larger than any memory: the image steps refuse it.
    done = once(lab.config(source={**PLAIN, "pixel_size_um": 300.0}))
    assert done["quarantined"] == 3
    assert set(lab.quarantined().values()) == {"too_large"}


def test_every_plate_is_measured_with_its_own_first_frames(lab: Lab):
    rng = np.random.default_rng(0)
    for plate, top in (("P1", 40000), ("P2", 4000)):
        for number in range(4):
            tifffile.imwrite(lab.images / f"{plate}_t{number}.tif", rng.integers(0, top, (120, 140), dtype=np.uint16))
    spoilt = lab.images / "P1_t0.tif"
    spoilt.write_bytes(spoilt.read_bytes()[:-100])
    once(lab.config(source=PLAIN))
    ledger = lab.ledger()
    tops = {series[2]: ledger.baseline(series).intensity[1] for series in ledger.series()}
    assert 39000 < tops["P1"] < 40000
    assert 3900 < tops["P2"] < 4000


def test_a_channel_that_comes_late_joins_its_frame_also_after_an_outage(lab: Lab):
    lab.film(timepoints=2, stain_every=1)
    stained = {path: path.read_bytes() for path in images_of(lab, "GFP")}
    for path in stained:
        path.unlink()
    channels = {"segment": "Bright Field", "optional": ["GFP"]}
    with lab.service(source={"channels": channels, "frame_timeout_s": 1.0}) as service:
        service.wait_for(lambda: service.committed() == 4)
        lab.images.rename(lab.root / "away")
        lab.images.mkdir()
        time.sleep(0.5)
        lab.images.rmdir()
        (lab.root / "away").rename(lab.images)
        for path, content in stained.items():
            path.write_bytes(content)
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="attached") == 4)
        assert service.terminate() == 0
    assert lab.quarantined() == {}
    assert set(files_by_frame(lab).values()) == {(0, 2)}


def test_a_channel_that_the_plate_began_without_does_not_cost_the_frame(lab: Lab):
    lab.film(timepoints=4, stain_every=2)  # GFP at some time points only, and no channel configured
    for path in images_of(lab, "GFP"):
        if path.name.endswith("_001.tif"):
            path.unlink()
    done = once(lab.config(source={"channels": {}}))
    assert (done["counted"], done["quarantined"]) == (8, 0)


def test_once_takes_what_waits_for_something_that_will_not_come(lab: Lab):
    lab.film(timepoints=2, stain_every=1)
    lacking = images_of(lab, "GFP")[0]
    lacking.unlink()
    cut = images_of(lab, "Bright Field")[-1]
    cut.write_bytes(cut.read_bytes()[:-500])
    channels = {"segment": "Bright Field", "required": ["GFP"]}
    done = once(lab.config(source={"channels": channels}))
    # The stain whose bright field is cut off is told of as stalled, and goes on waiting for it.
    assert (done["counted"], done["stalled"], done["files_waiting"]) == (3, 1, 1)
    assert lab.quarantined()[cut.name] == "truncated"


def test_files_that_are_only_touched_are_read_once_and_then_known(lab: Lab):
    lab.film(timepoints=1)
    assert once(lab.config())["counted"] == 2
    for path in images_of(lab):
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))
    for _ in range(2):
        assert sum(once(lab.config()).values()) == 0
    assert set(files_by_frame(lab).values()) == {(0, 1)}
    journal = next(lab.store.rglob("journal.jsonl")).read_text()
    assert journal.count('"kind":"files"') == 2


def test_a_file_that_is_rewritten_makes_a_revision_that_replaces_the_first(lab: Lab):
    lab.film(timepoints=2)
    once(lab.config())
    first, second = images_of(lab)[:2]
    shutil.copy(second, first.with_suffix(".new"))
    first.with_suffix(".new").rename(first)
    assert once(lab.config())["revised"] == 1
    assert sorted(files_by_frame(lab).values()) == [(0, 1), (0, 1), (0, 1), (1, 1)]


def test_a_restart_still_knows_when_the_last_frame_came(lab: Lab):
    lab.film(timepoints=1)
    once(lab.config())
    with lab.service() as service:
        assert service.value("cellvigil_last_frame_timestamp_seconds", source="scope") > time.time() - 60
        assert service.terminate() == 0


def test_a_misspelt_segmentation_channel_fails_the_check(lab: Lab, capsys: pytest.CaptureFixture[str]):
    lab.film(timepoints=1)
    path = lab.config_file(source={"channels": {"segment": "Brightfield"}})
    assert main(["check", "--config", str(path)]) == 1
    assert "did you mean 'Bright Field'?" in capsys.readouterr().out


def test_a_share_that_is_away_at_the_start_keeps_no_other_microscope_from_being_watched(lab):
    frames = lab.film(timepoints=2)
    later = [path for path in images_of(lab) if path.stem.endswith("002")]
    for path in later:
        path.rename(lab.root / path.name)
    main(["once", "--config", str(lab.config_file())])
    away = lab.root / "away"
    lab.images.rename(away)
    with lab.service() as service:
        service.wait_for(lambda: service.value("cellvigil_source_up", source="scope") == 0.0)
        away.rename(lab.images)
        for path in later:
            (lab.root / path.name).rename(path)
        service.wait_for(lambda: len(lab.ledger().frames(lab.ledger().series()[0])) == frames)
        assert service.value("cellvigil_source_up", source="scope") == 1.0
        assert service.terminate() == 0
    assert lab.quarantined() == {}


def test_a_folder_that_never_was_there_is_told_at_the_start(lab, capsys):
    assert main(["run", "--config", str(lab.config_file(source={"path": "nowhere"}))]) == 2
    assert "nowhere" in capsys.readouterr().err
