"""What a folder does over a weekend, file by file: real files, the real feed, and the service where it decides."""

from __future__ import annotations

import gc
import logging
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest
import tifffile

from cellvigil.data import FrameFiles
from cellvigil.service.serve import once
from feed_lab import FeedLab
from lab import Lab
from source_files import texture, write_gen5

PLATE = "240301_180000_Exp/240301_180005_Plate 1"
TIMEOUT = 100.0
BOTH = {"segment": "Bright Field", "required": ["GFP"]}


@pytest.fixture
def lab(tmp_path: Path) -> FeedLab:
    return FeedLab(tmp_path, frame_timeout_s=TIMEOUT)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("cellvigil"), "propagate", True)
    caplog.set_level(logging.INFO, logger="cellvigil")
    return caplog


def shoot(lab: FeedLab, number: int, channel: str = "Bright Field", well: str = "A1", **options: Any) -> Path:
    field, plate, seed = options.pop("field", 1), options.pop("plate", PLATE), options.pop("seed", number)
    path = lab.folder / plate / f"{well}_01_1_{field}_{channel}_{number:03d}.tif"
    return write_gen5(path, texture(seed=seed), **options)


def told(log: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in log.records if text in record.getMessage()]


# --- frames that wait ---------------------------------------------------------------------------------------------


def test_an_incomplete_frame_goes_on_without_its_channel_and_gets_it_later(tmp_path: Path) -> None:
    lab = FeedLab(tmp_path, frame_timeout_s=TIMEOUT, channels=BOTH)
    shoot(lab, 1)
    lab.settle()
    lab.now += TIMEOUT
    lab.look()
    ticket = lab.feed.peek()
    assert ticket is not None
    assert ticket.files.missing == ("GFP",)
    lab.work()
    shoot(lab, 1, "GFP")
    lab.settle()
    assert [(revision, change) for _, revision, change in lab.committed] == [(0, "new"), (1, "late")]
    assert lab.fresh == [(), ("GFP",)]
    assert lab.stalled == []


def test_a_frame_without_its_segmentation_channel_is_told_of_and_taken_should_it_come(tmp_path: Path) -> None:
    lab = FeedLab(tmp_path, frame_timeout_s=TIMEOUT, channels=BOTH)
    shoot(lab, 1, "GFP")
    lab.settle()
    lab.now += TIMEOUT
    lab.look(5)
    assert [files.missing for files in lab.stalled] == [("Bright Field",)]
    shoot(lab, 1)
    lab.settle()
    assert lab.times() == [("A1", 0, 0)]


def test_an_optional_channel_hours_later_is_late_also_after_a_restart(tmp_path: Path) -> None:
    lab = FeedLab(tmp_path, frame_timeout_s=TIMEOUT)
    for number in (1, 2, 3):
        shoot(lab, number)
    lab.settle()
    lab.now += 36_000
    shoot(lab, 1, "GFP")
    lab.settle()
    assert (lab.committed[-1][1:], lab.fresh[-1]) == ((1, "late"), ("GFP",))
    again = FeedLab(tmp_path, ledger=lab.ledger, frame_timeout_s=TIMEOUT)
    shoot(again, 2, "GFP")
    again.settle()
    assert [(key.timepoint, revision, change) for key, revision, change in again.committed] == [(1, 1, "late")]
    assert again.fresh == [("GFP",)]


def test_a_channel_that_comes_while_its_frame_still_waits_is_part_of_it(lab: FeedLab) -> None:
    shoot(lab, 1)
    lab.look(3)
    assert lab.feed.backlog == 1
    shoot(lab, 1, "GFP")
    lab.look(3)
    assert lab.feed.backlog == 1
    lab.work()
    assert [(revision, change) for _, revision, change in lab.committed] == [(0, "new")]
    assert len(lab.ledger.frame(lab.committed[0][0]).files) == 2  # type: ignore[union-attr]


def test_a_channel_that_comes_while_its_frame_is_on_its_way_is_late_if_that_is_committed_and_new_if_not(
    lab: FeedLab,
) -> None:
    for number in (1, 2):
        shoot(lab, number)
    lab.look(3)
    inside = []
    while (ticket := lab.feed.peek()) is not None:
        lab.feed.claim(ticket.files.key)
        inside.append(ticket)
    for number in (1, 2):
        shoot(lab, number, "GFP")
    lab.look(3)
    assert lab.feed.peek() is None  # a key is never on its way twice
    lab.commit(inside[0].files)
    lab.feed.again(inside[1])  # it did not open
    lab.work()
    assert [(key.timepoint, revision, change) for key, revision, change in lab.committed[1:]] == [
        (0, 1, "late"),
        (1, 0, "new"),
    ]
    assert lab.fresh[1:] == [("GFP",), ()]


@pytest.mark.parametrize(
    ("state", "revisions"), [("resting", [0]), ("waiting", [0]), ("inside", [0, 1]), ("committed", [0, 1])]
)
def test_a_file_released_from_quarantine_while_its_frame_goes_without_it_is_not_forgotten(
    lab: FeedLab, state: str, revisions: list[int]
) -> None:
    shoot(lab, 1)
    bad = shoot(lab, 1, "GFP")
    lab.look(3)
    ticket = lab.feed.peek()
    assert ticket is not None
    lab.feed.claim(ticket.files.key)
    assert lab.feed.without(ticket, f"{PLATE}/{bad.name}")
    if state != "resting":
        lab.look()
    if state in ("inside", "committed"):
        ticket = lab.feed.peek()
        assert ticket is not None
        lab.feed.claim(ticket.files.key)
    if state == "committed":
        lab.commit(ticket.files)
    lab.feed.try_again([f"{PLATE}/{bad.name}"], lab.now)
    lab.look(4)
    if state == "inside":
        lab.commit(ticket.files)
    lab.work()
    assert [revision for _, revision, _ in lab.committed] == revisions
    frame = lab.ledger.frame(ticket.files.key)
    assert frame is not None
    assert {Path(ref.path).name for ref in frame.files} == {"A1_01_1_1_Bright Field_001.tif", bad.name}


# --- files that change, move and go -------------------------------------------------------------------------------


def test_a_rewritten_file_makes_a_revision_and_both_are_told(lab: FeedLab, log: pytest.LogCaptureFixture) -> None:
    shoot(lab, 1)
    lab.settle()
    for revision in (1, 2):
        shoot(lab, 1, seed=100 + revision, Date=f"02/0{revision}/25")
        lab.settle()
    assert [(revision, change) for _, revision, change in lab.committed] == [
        (0, "new"), (1, "rewritten"), (2, "rewritten")
    ]  # fmt: skip
    assert [record.replaces_revision for record in told(log, "rewritten")] == [0, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("temporary", ["A1_01_1_1_Bright Field_001.tmp", ".A1_01_1_1_Bright Field_001.tif"])
def test_a_file_that_is_renamed_into_place_is_one_frame(lab: FeedLab, temporary: str) -> None:
    path = shoot(lab, 1)
    written = path.rename(path.with_name(temporary))
    lab.settle()
    assert lab.times() == []
    written.rename(path)
    lab.settle()
    assert lab.times() == [("A1", 0, 0)]
    assert lab.refused == {}


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_folder_that_is_renamed_before_it_is_read_is_read_under_its_last_name(lab: FeedLab, looks: int) -> None:
    for number in (1, 2):
        shoot(lab, number, plate="240301_180000_Exp/240301_180005_Copying")
    lab.look(looks)
    (lab.folder / PLATE).parent.joinpath("240301_180005_Copying").rename(lab.folder / PLATE)
    lab.settle()
    lab.work()
    assert [(key.plate, key.timepoint) for key, _, _ in lab.committed] == [("Plate 1", 0), ("Plate 1", 1)]
    assert (lab.refused, lab.feed.backlog, lab.feed.unfinished) == ({}, 0, 0)


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_what_is_deleted_before_it_is_read_is_told_and_done_if_it_returns(
    lab: FeedLab, looks: int, log: pytest.LogCaptureFixture
) -> None:
    shoot(lab, 1)
    gone = shoot(lab, 2)
    lab.look(looks)  # unsettled; unsettled; complete and waiting
    kept, stat = gone.read_bytes(), gone.stat()
    gone.unlink()
    lab.look(1)
    assert len(told(log, "gone before it was read")) == 1
    lab.settle()
    lab.now += 3 * TIMEOUT
    lab.look(2)
    assert lab.times() == [("A1", 0, 0)]
    assert (lab.refused, lab.feed.backlog, lab.feed.unfinished) == ({}, 0, 0)
    gone.write_bytes(kept)
    os.utime(gone, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    lab.settle()
    assert lab.times() == [("A1", 0, 0), ("A1", 1, 0)]


def test_what_is_left_of_a_frame_waits_anew_when_one_of_its_files_is_deleted(tmp_path: Path) -> None:
    lab = FeedLab(tmp_path, frame_timeout_s=TIMEOUT, channels=BOTH)
    shoot(lab, 1)
    stain = shoot(lab, 1, "GFP")
    shoot(lab, 2)
    lab.look(3)
    stain.unlink()
    lab.look(2)
    assert (lab.work(), lab.feed.unfinished) == (0, 2)
    shoot(lab, 1, "GFP"), shoot(lab, 2, "GFP")
    lab.settle()
    assert [(key.timepoint, revision, change) for key, revision, change in lab.committed] == [
        (0, 0, "new"),
        (1, 0, "new"),
    ]
    assert lab.refused == {}


def test_a_file_that_is_deleted_while_it_waits_for_its_companions_is_waited_for_no_more(tmp_path: Path) -> None:
    lab = FeedLab(tmp_path, frame_timeout_s=TIMEOUT, channels=BOTH)
    gone = shoot(lab, 1)
    shoot(lab, 2)
    lab.settle()
    gone.unlink()
    lab.look(2)
    assert lab.feed.unfinished == 1
    lab.now += 3 * TIMEOUT
    lab.look()
    lab.work()
    assert (lab.times(), lab.refused) == ([("A1", 1, 0)], {})


def test_a_frame_whose_file_is_deleted_while_it_is_on_its_way_is_no_more(lab: FeedLab) -> None:
    shoot(lab, 1)
    gone = shoot(lab, 2)
    lab.look(3)
    gone.unlink()
    lab.work()
    assert lab.feed.backlog == 1  # it did not open, and is tried again
    lab.look()
    assert (lab.work(), lab.feed.backlog, lab.refused) == (0, 0, {})


# --- order, wells and clocks --------------------------------------------------------------------------------------


def test_time_points_that_come_in_any_order_are_what_their_names_say(lab: FeedLab) -> None:
    order = [5, 2, 9, 1, 7]
    for number in order:
        shoot(lab, number)
        lab.settle()
    assert lab.times() == [("A1", number - 1, 0) for number in order]
    lab.look(3)
    assert len(lab.committed) == 5


def test_a_well_that_is_visited_twice_in_a_round_and_again_later_is_every_frame_once(lab: FeedLab) -> None:
    for number in (1, 2):
        shoot(lab, number, field=1)
        shoot(lab, number, well="B1")
        shoot(lab, number, field=2)
        shoot(lab, number, well="A1ROI3")
        lab.settle()
    late = shoot(lab, 1, field=4)  # the first round once more
    lab.settle()
    found = [(key.well, key.field, key.timepoint) for key, _, _ in lab.committed]
    assert sorted(found[:-1]) == sorted(
        (*place, t) for t in (0, 1) for place in (("A1", "1"), ("A1", "2"), ("A1", "ROI3"), ("B1", "1"))
    )
    assert found[-1] == ("A1", "4", 0)
    assert late.exists()


@pytest.mark.parametrize("hours", [-30, -1, 1, 30])
def test_the_file_servers_clock_may_differ_and_jump(lab: FeedLab, hours: int) -> None:
    """Dates are compared for equality only: neither the future nor the past settles a file sooner or later."""
    for number in range(1, 7):
        path = shoot(lab, number)
        offset = hours * 3600 * (number % 3)  # the clock jumps to and fro between files
        now = path.stat().st_mtime_ns + offset * 10**9
        os.utime(path, ns=(now, now))
        lab.look(2)
        assert lab.feed.backlog == 0
        lab.look()
        assert lab.work() == 1
    assert lab.times() == [("A1", t, 0) for t in range(6)]
    os.utime(path, ns=(0, 0))  # the server's clock was set back and the file touched: once more, and no more
    lab.settle()
    lab.look(5)
    assert len(lab.committed) == 7
    assert lab.refused == {}


@pytest.mark.parametrize("night", ["241027", "250330"])  # the hour that comes twice, and the one that is missing
def test_the_elapsed_order_holds_through_a_night_of_the_clocks_change(lab: FeedLab, night: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    midnight = datetime.strptime(night, "%y%m%d").replace(tzinfo=zone)
    begin = midnight.astimezone(UTC) + timedelta(minutes=5)
    plate = f"{night}_000400_Exp/{night}_000500_Plate 1"
    truth = [begin + timedelta(minutes=20 * i) for i in range(18)]
    for number, at in enumerate(truth, 1):
        local = at.astimezone(zone)
        shoot(
            lab, number, plate=plate, Date=f"{local:%m/%d/%y}", Time=f"{local:%H:%M:%S}", Daylight="",
            KineticTimeMs=str(20 * 60_000 * (number - 1)), KineticSequence=str(number - 1),
        )  # fmt: skip
    lab.settle()
    found = [lab.acquired[key] for key, _, _ in sorted(lab.committed, key=lambda item: item[0].timepoint)]
    assert found == truth


# --- many files ---------------------------------------------------------------------------------------------------


def test_a_burst_of_files_is_taken_in_order_once_and_few_at_a_time(tmp_path: Path) -> None:
    lab = FeedLab(tmp_path, "plain", pattern=r"(?P<plate>P)_(?P<well>[A-H]\d+)_t(?P<time>\d+)\.png", pixel_size_um=0.3)
    done, image = cv2.imencode(".png", np.zeros((4, 4), np.uint8))
    assert done
    for i in range(2000):
        (lab.folder / f"P_{'ABCDEFGH'[i % 8]}{i // 8 % 5 + 1}_t{i // 40}.png").write_bytes(image.tobytes())
    lab.look(3)
    assert lab.feed.backlog == 2000
    inside: list[Any] = []
    while (ticket := lab.feed.peek()) is not None or inside:
        if ticket is not None and len(inside) < 8:
            lab.feed.claim(ticket.files.key)
            inside.append(ticket)
        else:
            lab.commit(inside.pop(0).files)
            if len(lab.committed) % 400 == 0:
                lab.look()
    times = lab.times()
    assert [t for _, t, _ in times] == sorted(t for _, t, _ in times)
    assert len(set(times)) == len(times) == 2000
    assert (lab.feed.backlog, lab.feed.unfinished, lab.refused) == (0, 0, {})


def test_frames_that_are_committed_are_not_kept_in_memory(lab: FeedLab) -> None:
    for number in range(1, 60):
        shoot(lab, number)
    lab.settle()
    lab.look()
    gc.collect()
    assert sum(isinstance(thing, FrameFiles) for thing in gc.get_objects()) == 0
    shoot(lab, 7, "GFP")
    lab.settle()
    assert lab.committed[-1][1:] == (1, "late")


def test_a_known_file_that_is_listed_again_after_a_restart_is_not_done_again(tmp_path: Path) -> None:
    lab = FeedLab(tmp_path)
    for number in range(1, 6):
        shoot(lab, number)
    lab.settle()
    again = FeedLab(tmp_path, ledger=lab.ledger)
    shoot(again, 6)
    again.settle()
    assert again.times() == [("A1", 5, 0)]


def test_time_points_without_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    rules = {"kind": "plain", "pattern": r"(?P<plate>P)_.*\.tif", "pixel_size_um": 0.3}
    lab = FeedLab(tmp_path, **rules)  # type: ignore[arg-type]
    for name in ("a", "b"):
        tifffile.imwrite(lab.folder / f"P_{name}.tif", texture())
    lab.settle()
    again = FeedLab(tmp_path, ledger=lab.ledger, **rules)  # type: ignore[arg-type]
    tifffile.imwrite(lab.folder / "P_c.tif", texture(seed=2))
    again.settle()
    assert [key.timepoint for key, _, _ in lab.committed + again.committed] == [0, 1, 2]
    tifffile.imwrite(lab.folder / "P_a.tif", texture(seed=3, height=30))
    again.settle()
    assert [(key.timepoint, revision, change) for key, revision, change in again.committed[1:]] == [(0, 1, "rewritten")]


def test_the_first_channel_is_still_awaited_after_a_restart_where_none_is_configured(tmp_path: Path) -> None:
    rules: dict[str, Any] = {"channels": {}, "frame_timeout_s": TIMEOUT}
    lab = FeedLab(tmp_path, **rules)
    shoot(lab, 1)
    lab.settle()
    again = FeedLab(tmp_path, ledger=lab.ledger, **rules)
    shoot(again, 2, "GFP")
    again.settle()
    assert again.times() == []  # it waits for its bright field, as the series' first frame had one
    shoot(again, 2)
    again.settle()
    assert again.times() == [("A1", 1, 0)]


# --- the whole service --------------------------------------------------------------------------------------------

PLAIN = {
    "kind": "plain", "pattern": r"(?P<plate>\w+)_t(?P<time>\d+)\.tif", "timezone": "", "channels": {},
    "experiment_rule": "source", "pixel_size_um": 0.322,
}  # fmt: skip


@pytest.fixture
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    (tmp_path / "images").mkdir()
    indexes = request.getfixturevalue("state_indexes")
    return Lab(tmp_path, indexes, request.getfixturevalue("lite0").parent)


def test_a_geometry_that_changes_in_mid_run_costs_its_frames_and_not_the_plate(whole: Lab) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        shape = (90, 140) if number in {5, 6} else (120, 140)
        tifffile.imwrite(whole.images / f"P1_t{number}.tif", rng.integers(0, 4000, shape, dtype=np.uint16))
    done = once(whole.config(source=PLAIN))
    assert done["counted"] + done["excluded"] == 6
    assert whole.quarantined() == {"P1_t5.tif": "geometry_changed", "P1_t6.tif": "geometry_changed"}
    ledger = whole.ledger()
    assert {frame.key.timepoint for frame in ledger.frames(ledger.series()[0])} == {0, 1, 2, 3, 4, 7}


def test_what_lacks_in_a_frame_that_ran_out_of_time_stands_in_the_record(whole: Lab) -> None:
    whole.film(timepoints=2, stain_every=1)
    for path in (whole.images).rglob("A1_*GFP_001.tif"):
        path.unlink()
    channels = {"segment": "Bright Field", "required": ["GFP"]}
    done = once(whole.config(source={"channels": channels}))
    assert done["counted"] + done["excluded"] == 4
    journal = next(whole.store.rglob("journal.jsonl")).read_text()
    assert journal.count('"missing_channels":["GFP"]') == 1


def test_a_folder_that_is_away_is_told_in_the_metrics(whole: Lab) -> None:
    whole.film(timepoints=1)
    with whole.service() as service:
        service.wait_for(lambda: service.committed() == 2)
        assert service.value("cellvigil_source_up", source="scope") == 1
        assert (service.value("cellvigil_scan_duration_seconds", source="scope") or 0) > 0
        whole.images.rename(whole.root / "away")
        service.wait_for(lambda: service.value("cellvigil_source_up", source="scope") == 0)
        (whole.root / "away").rename(whole.images)
        service.wait_for(lambda: service.value("cellvigil_source_up", source="scope") == 1)
        assert service.terminate() == 0


def test_once_leaves_nothing_that_was_there_when_it_began(whole: Lab) -> None:
    whole.film(timepoints=4)
    half = sorted(whole.images.rglob("*_004.tif"))
    for path in half:
        shutil.copy(path, path.with_name(path.name.replace("_004", "_005")))
    done = once(whole.config())
    assert (sum(done.values()), done["counted"] + done["excluded"]) == (10, 10)
