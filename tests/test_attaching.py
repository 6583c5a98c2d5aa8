"""Channels that come after their frame was committed: attached, without a revision, a cell or a call made anew."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from cellvigil import config
from cellvigil.data import FileStat, FrameFiles, Slice
from cellvigil.ledger import Ledger
from cellvigil.service.attaching import late_channels
from cellvigil.service.serve import once
from cellvigil.store.writer import Filing, open_store
from lab import Lab
from store_records import key, record

OPTIONAL = {"channels": {"segment": "Bright Field", "optional": ["GFP"]}}
REQUIRED = {"channels": {"segment": "Bright Field", "required": ["GFP"]}}


def taken_away(lab: Lab, channel: str) -> dict[Path, bytes]:
    """The images of one channel, out of the folder."""
    found = {path: path.read_bytes() for path in sorted(lab.images.rglob("*.tif")) if channel in path.name}
    for path in found:
        path.unlink()
    return found


def give(files: dict[Path, bytes]) -> None:
    for path, content in files.items():
        path.write_bytes(content)


def journal(lab: Lab) -> list[dict]:
    return [json.loads(line) for line in next(lab.store.rglob("journal.jsonl")).read_text().splitlines()]


def frames(lab: Lab) -> list:
    ledger = lab.ledger()
    return [frame for series in ledger.series() for frame in ledger.frames(series)]


@pytest.mark.parametrize("source", [OPTIONAL, REQUIRED], ids=["optional", "required"])
def test_a_late_channel_joins_its_frame_and_nothing_is_called_again(lab: Lab, source):
    lab.film(timepoints=2, stain_every=1)
    stains = taken_away(lab, "GFP")
    assert once(lab.config(source=source))["counted"] == 4
    before = journal(lab)
    give(stains)
    done = once(lab.config(source=source))
    assert (done["attached"], done["revised"], done["quarantined"], done["counted"]) == (4, 0, 0, 0)
    fresh = journal(lab)[len(before) :]
    assert {line["kind"] for line in fresh} == {"attached"}
    assert {tuple(line["missing_channels"]) for line in fresh} == {()}
    for frame in frames(lab):
        assert (frame.revision, frame.channels, len(frame.files)) == (0, ("Bright Field", "GFP"), 2)
        stain = next(ref.path for ref in frame.files if "GFP" in ref.path)
        array = zarr.open_array(next(lab.store.rglob(f"*.zarr/{frame.path}")) / "0", mode="r")
        np.testing.assert_array_equal(array[frame.t, 1].squeeze(), tifffile.imread(lab.images / stain))
    assert sum(once(lab.config(source=source)).values()) == 0


def test_a_running_service_counts_and_tells_what_it_attached(lab: Lab):
    lab.film(timepoints=2, stain_every=1)
    stains = taken_away(lab, "GFP")
    with lab.service(source=OPTIONAL) as service:
        service.wait_for(lambda: service.committed() == 4)
        give(stains)
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="attached") == 4)
        assert service.value("cellvigil_stage_duration_seconds_count", stage="embed") == 4
        assert service.terminate() == 0
        assert service.log.read_text().count("channel attached") == 4


def test_a_late_channel_of_another_size_costs_that_file_alone(lab: Lab):
    lab.film(timepoints=1, stain_every=1)
    stains = taken_away(lab, "GFP")
    once(lab.config(source=OPTIONAL))
    [bad, good] = stains
    give(stains)
    with tifffile.TiffFile(bad) as tif:
        description, pixels = tif.pages[0].description, tif.asarray()
    tifffile.imwrite(bad, pixels[:50, :60], description=description)
    done = once(lab.config(source=OPTIONAL))
    assert (done["attached"], done["quarantined"], done["revised"]) == (1, 1, 0)
    assert lab.quarantined() == {bad.name: "geometry_changed"}
    assert {frame.revision for frame in frames(lab)} == {0}
    assert sum(once(lab.config(source=OPTIONAL)).values()) == 0
    assert good.exists()


def test_a_frame_whose_chunks_were_lost_is_done_again_though_its_bytes_are_the_same(lab: Lab):
    lab.film(timepoints=1)
    once(lab.config())
    lost = frames(lab)[0]
    with_store = open_store(lab.store)
    with_store.journal_lines(
        lost.key.series,
        [
            {
                "kind": "lost",
                "key": [*lost.key.series, lost.key.well, lost.key.field, lost.key.timepoint],
                "revision": 0,
                "t": lost.t,
                "why": "a test",
                "committed_at": "2024-03-01T20:00:00+00:00",
            }
        ],
    )
    with_store.close()
    assert once(lab.config())["revised"] == 1
    assert sorted(frame.revision for frame in frames(lab) if frame.key == lost.key) == [0, 1]
    assert sum(once(lab.config()).values()) == 0


CHANNELS = config.Channels(segment="channel-0", optional=("channel-1", "channel-2"))


def slice_of(channel: str, name: str = "") -> Slice:
    return Slice(channel, None, FileStat(name or f"{channel}.tif", 10, 1))


@pytest.mark.parametrize(
    ("came", "change", "attachable"),
    [
        (["channel-1"], "late", True),
        (["channel-1", "channel-2"], "late", True),
        (["channel-1"], "rewritten", False),
        (["channel-0"], "late", False),
        (["channel-1", "channel-0"], "late", False),
        ([""], "late", False),
        ([], "late", False),
    ],
)
def test_what_may_be_attached(tmp_path, came, change, attachable):
    store = open_store(tmp_path / "store")
    store.append_all([Filing(record(shape=(1, 12, 18)))])
    fresh = tuple(slice_of(channel) for channel in came)
    files = FrameFiles(key(), (slice_of("channel-0", "old.tif"), *fresh), change=change, fresh=fresh)
    found = late_channels(files, CHANNELS, store.ledger)
    assert (found is not None) == attachable
    if attachable:
        assert found == fresh
        assert late_channels(replace(files, slices=files.slices[:1]), CHANNELS, store.ledger) == ()
    assert late_channels(files, CHANNELS, Ledger()) is None
    store.close()
