"""The whole service from outside: a real process, real files that grow, a real scrape, real signals."""

import threading

import pytest

from cellvigil.data import UNKNOWN
from cellvigil.rehearse.run import run as film
from cellvigil.service.serve import once
from cellvigil.store.reader import plate_lines
from cellvigil.store.recover import plate_folders
from lab import Lab, small_assay


def test_a_folder_that_is_written_to_becomes_counts_and_every_frame_is_there_once(lab: Lab):
    assay = small_assay(timepoints=3, fields=2)
    with lab.service() as service:
        writer = threading.Thread(target=film, args=(assay, lab.root), kwargs={"pieces": 4, "pause_s": 0.02})
        writer.start()
        service.wait_for(lambda: service.committed() == 12)
        writer.join()
        service.tallied()
        plate = service.wait_for(lambda: _plate(service))
        counted = {
            well: sum(service.value("cellvigil_cells", plate=plate, well=well, state=state) for state in
                      ("live", "apoptotic", "necrotic", "debris", UNKNOWN)) for well in assay.wells
        }  # fmt: skip
        assert service.value("cellvigil_fields_missing", plate=plate, well="A1") == 0
        assert service.value("cellvigil_device_info", provider="cpu") == 1
        assert service.value("cellvigil_backlog_frames", source="scope") == 0
        assert service.value("cellvigil_frame_delay_seconds_count") == 12
        for stage in ("read", "normalize", "segment", "crop", "quality", "embed", "call", "store"):
            assert service.value("cellvigil_stage_duration_seconds_count", stage=stage) == 12
        assert '"ok": true' in service.get("/healthz")
        assert service.terminate() == 0
    ledger = lab.ledger()
    [series] = ledger.series()
    keys = [frame.key for frame in ledger.frames(series)]
    assert len(keys) == len(set(keys)) == 12
    last = {v.well: v for v in ledger.well_times(series) if v.timepoint == 2}
    assert {well: sum(value.counts.values()) for well, value in last.items()} == counted
    assert all(counted.values())


def test_a_killed_service_goes_on_where_it_was_and_its_gauges_come_back(lab: Lab):
    lab.film(timepoints=6)
    with lab.service() as service:
        service.wait_for(lambda: service.committed() >= 3)
        service.kill()
    before = len(lab.ledger().frames(lab.ledger().series()[0]))
    assert before >= 3
    with lab.service() as service:
        plate = service.wait_for(lambda: _plate(service))  # from the ledger, or from the first new frame
        assert service.value("cellvigil_well_acquired_timestamp_seconds", plate=plate, well="A1") > 0
        service.wait_for(lambda: before + service.committed() >= 12)
        assert service.terminate() == 0
    frames = lab.ledger().frames(lab.ledger().series()[0])
    assert len(frames) == len({frame.key for frame in frames}) == 12
    assert lab.quarantined() == {}


def test_a_restart_with_nothing_new_shows_the_old_values_and_does_nothing(lab: Lab):
    lab.film(timepoints=1)
    with lab.service() as service:
        service.wait_for(lambda: service.committed() == 2)
        service.tallied()
        cells = {key: v for key, v in service.samples().items() if key[0] == "cellvigil_cells"}
        assert service.terminate() == 0
    with lab.service() as service:
        assert {key: v for key, v in service.samples().items() if key[0] == "cellvigil_cells"} == cells
        assert service.terminate() == 0
    assert len(lab.ledger().frames(lab.ledger().series()[0])) == 2


def test_sigterm_commits_what_is_inside_and_leaves_the_rest_in_the_folder(lab: Lab):
    lab.film(timepoints=20)
    with lab.service() as service:
        service.wait_for(lambda: service.committed() >= 1)
        assert service.terminate() == 0
        log = service.log.read_text(encoding="utf-8")
    frames = lab.ledger().frames(lab.ledger().series()[0])
    assert 1 <= len(frames) < 40
    assert "drained" in log
    assert log.count("frame committed") == len(frames)


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_a_backlog_is_worked_off_in_the_configured_order(lab: Lab, order: str):
    lab.film(timepoints=6)
    with lab.service(source={"order": order}) as service:
        service.wait_for(lambda: service.committed() >= 12)
        service.terminate()
    ledger = lab.ledger()
    [series] = ledger.series()
    by_slot = [frame.key.timepoint for frame in sorted(ledger.frames(series), key=lambda frame: frame.committed_at)]
    assert by_slot == sorted(by_slot, reverse=order == "newest")


def _plate(service):
    found = [dict(labels)["plate"] for name, labels in service.samples() if name == "cellvigil_cells"]
    return found[0] if found else None


def test_a_frame_that_is_mostly_debris_is_kept_and_left_out_of_the_counts(lab: Lab):
    lab.film(timepoints=4)
    once(lab.config(response={"max_debris": 0.0}))  # any debris is too much
    [folder] = plate_folders(lab.store)
    lines = [line for line in plate_lines(folder) if line["kind"] == "frame"]
    debris = [
        line["counts"]["debris"] > 0 and line["quality"]["excluded"] not in ("focus", "exposure") for line in lines
    ]
    assert any(debris)
    assert not all(debris)
    assert [line["quality"]["excluded"] == "debris" for line in lines] == debris
    for line in lines:
        assert line["outcome"] == ("excluded" if line["quality"]["excluded"] else "counted")
        assert set(line["certainty"]) >= {"rated", "probability", "tested", "novel"}
