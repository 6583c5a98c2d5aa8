"""An index of channels, from labelled frames to the calls of a watched plate: real files, encoders and daemon."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellvigil import normalize
from cellvigil.bundle.encoder import open_encoder
from cellvigil.bundle.index import open_index, reference_cells
from cellvigil.bundle.ruled import ruled_sha256
from cellvigil.cli import main
from cellvigil.data import Frame, FrameKey
from cellvigil.encoder import open_session
from cellvigil.errors import BundleError, UsageError
from cellvigil.service.opening import open_bundles
from cellvigil.service.serve import once
from cellvigil.store.gone import folder_of
from cellvigil.store.planes import read_plane
from cellvigil.store.rows import read_table
from cellvigil.store.vectors import counted_rows, read_vectors
from cellvigil_indexes.cli import main as index_command
from channel_lab import (
    BRIGHT,
    CHANNELS,
    DYE,
    MATRIX,
    NUCLEI,
    PATTERN,
    UM,
    class_folders,
    fields,
    grid_bundle,
    planes,
    plate,
    write_ome,
)
from conftest import once_for_all
from lab import Lab

APART, AT_ONCE = "apart", "at_once"
LOOKS_AT = {APART: (DYE, NUCLEI), AT_ONCE: CHANNELS}


def build(out: Path, name: str, encoder: Path, frames: Path, *options: str) -> int:
    return index_command(
        ["build", name, "--frames", str(frames), "--encoder", encoder.name, "--encoders", str(encoder.parent),
         "--states", "live=alive,dead=dead", "--crop-um", "28", "--k-max", "12", "--channel", BRIGHT,
         "--channels", *options, "--out", str(out)]
    )  # fmt: skip


@pytest.fixture(scope="session")
def made(lite0: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `indexes` (one an encoder), `encoders`, `frames`; read-only by agreement."""

    def make(folder: Path) -> Path:
        frames = class_folders(folder / "frames", folder / "reference")
        (folder / "encoders").mkdir()
        (folder / "encoders" / lite0.name).symlink_to(lite0)
        grid = grid_bundle(folder / "encoders")
        assert build(folder / "indexes", APART, lite0, frames, f"{DYE},{NUCLEI}", "--per-channel") == 0
        assert build(folder / "indexes", AT_ONCE, grid, frames, ",".join(CHANNELS)) == 0
        plate(folder / "images", folder / "other")
        return folder

    return once_for_all(tmp_path_factory, "channels", make)


def settings(made: Path, index: str, **source):
    channels = {"segment": BRIGHT, "required": list(CHANNELS)}
    source = {"kind": "ometiff", "pattern": PATTERN, "index": index, "channels": channels, **source}
    folders = {"encoder": {"path": str(made / "encoders")}, "classify": {"indexes": str(made / "indexes")}}
    # Each rehearsed field has a lamp of its own: nothing is to be left out as blurred or badly exposed.
    return {"source": source, "response": {"min_focus": 0, "max_saturated": 1, "max_dark": 1}, **folders}


@pytest.fixture
def watched(tmp_path: Path, made: Path) -> Lab:
    lab = Lab(tmp_path, made / "indexes", made / "encoders")
    lab.images.mkdir()
    for path in (made / "images").iterdir():
        (lab.images / path.name).write_bytes(path.read_bytes())
    return lab


def frames_of(lab: Lab):
    ledger = lab.ledger()
    (series,) = ledger.series()
    return ledger, series, sorted(ledger.frames(series), key=lambda frame: frame.key)


def planes_of(lab: Lab, series, frame):
    field = folder_of(lab.store, series) / frame.path
    return {name: np.asarray(read_plane(field, frame.t, place)) for place, name in enumerate(CHANNELS)}


@pytest.mark.parametrize("name", [APART, AT_ONCE])
def test_a_plate_is_called_by_its_channels(watched, made, name):
    """The dye alone tells the classes apart: the calls are right only if it is looked at, in its own range."""
    assert once(watched.config(**settings(made, name)))["counted"] == 4
    ledger, series, frames = frames_of(watched)
    held = ledger.baseline(series).channels
    assert set(held) == set(LOOKS_AT[name])
    for channel in held:  # the plate has four frames: all of them are its first
        pooled = [planes_of(watched, series, frame)[channel] for frame in frames]
        assert held[channel] == pytest.approx(tuple(np.percentile(np.stack(pooled), (0.1, 99.9))), rel=1e-3)
    known = reference_cells(open_index(made / "indexes" / name))
    right, wrong, witnesses = 0, 0, []
    for frame in frames:
        true = {"A1": "live", "B1": "dead"}[frame.key.well]
        bundle, counts = ledger.calls(frame.key, frame.revision)
        right, wrong = right + counts.get(true, 0), wrong + sum(counts.values()) - counts.get(true, 0)
        table = ledger.bundle(series, bundle).table
        rows = read_table(folder_of(watched.store, series) / frame.path, table, frame.t, frame.n_cells)
        nearest = rows["neighbour_0"][counted_rows(folder_of(watched.store, series), frame)]
        witnesses += [known[int(cell)].class_name == true for cell in nearest]
    assert right > 12
    assert right > 5 * wrong  # the segmenter finds some cells that were given no dye: those at the border
    assert sum(witnesses) > 0.8 * len(witnesses)  # every call names the cells that it rests on


def test_stored_vectors_are_each_channel_s_own_put_together(watched, made, lite0):
    """Slow twin: every channel as a grey picture of its own, embedded alone by Lite0, 1280 numbers each."""
    once(watched.config(**settings(made, APART)))
    ledger, series, frames = frames_of(watched)
    index = open_index(made / "indexes" / APART)
    encoder = open_session(open_encoder(lite0), device="cpu")
    assert [one.dimension for one in index.encoders] == [2 * 1280]
    grey = replace(index.image_rule, colour="grey", channels=(), per_channel=False)
    frame = frames[0]
    plate_folder = folder_of(watched.store, series)
    stored = read_vectors(plate_folder, frame, index.encoders)[encoder.name]
    rows = read_table(plate_folder / frame.path, "cells/features", frame.t, frame.n_cells)
    centres = np.stack([rows["centroid_y_px"], rows["centroid_x_px"]], axis=1)
    parts = []
    for name in LOOKS_AT[APART]:
        plane = planes_of(watched, series, frame)[name]
        alone = as_frame(plane)
        image = normalize.analysis_image(alone, "", grey, ledger.baseline(series).channels[name])
        parts.append(encoder.embed(normalize.crops(image, centres, grey, fit=encoder.bundle.fit).pixels))
    assert stored.shape == (frame.n_cells, 2560)
    np.testing.assert_allclose(stored, np.concatenate(parts, axis=1), rtol=2e-3, atol=2e-3)  # kept in half precision


def as_frame(plane):
    key = FrameKey("scope", "e", "p", "A1", "1", 0)
    return Frame(key, datetime(2024, 3, 1, tzinfo=UTC), plane[None], ("grey",), (UM, UM), ())


def test_the_encoder_is_named_as_the_rule_uses_it_and_cells_are_called_again_by_their_stored_vectors(watched, made):
    first = settings(made, APART)
    once(watched.config(**first))
    ledger, _, frames = frames_of(watched)
    index = open_index(made / "indexes" / APART)
    own = open_encoder(made / "encoders" / "efficientnet-lite0").sha256
    assert index.encoders[0].sha256 == ruled_sha256(own, index.image_rule) != own
    before = {frame.key: ledger.calls(frame.key, frame.revision)[1] for frame in frames}
    # Another index of the same channels, of fewer cells: only the calls are made anew, from the stored vectors.
    assert build(watched.root / "more", "other", made / "encoders" / index.encoders[0].name, made / "frames",
                 f"{DYE},{NUCLEI}", "--per-channel", "--limit", "20") == 0  # fmt: skip
    again = {**first, "classify": {"indexes": str(watched.root / "more")}}
    again["source"] = {**first["source"], "index": "other"}
    assert once(watched.config(**again), recall=True)["recalled"] == 4
    after = watched.ledger()
    for frame in frames:
        bundle, counts = after.calls(frame.key, frame.revision)
        assert bundle == open_index(watched.root / "more" / "other").sha256
        assert sum(counts.values()) == sum(before[frame.key].values())


def test_an_index_of_channels_is_carried_by_stored_vectors_and_by_frames(watched, made):
    """`align` takes vectors by name and version, and frames through the index's own rule: the dimension is theirs."""
    plate(watched.images, watched.root / "more", rounds=4)
    once(watched.config(**settings(made, AT_ONCE)))
    index = open_index(made / "indexes" / AT_ONCE)
    for target in (("--store", watched.store), ("--frames", made / "frames", "--pixel-size", UM)):
        assert index_command(
            ["align", str(index.folder), *map(str, target), "--mode", "states", "--present", "live,dead", "--force",
             "--encoders", str(made / "encoders"), "--out", str(watched.root / "i"), "--to", "carried", "--replace"]
        ) == 0  # fmt: skip
        carried = open_index(watched.root / "i" / "carried")
        assert carried.image_rule == index.image_rule
        assert [(e.sha256, e.dimension) for e in carried.encoders] == [(e.sha256, 16) for e in index.encoders]
    changed = {**settings(made, "carried"), "classify": {"indexes": str(watched.root / "i")}}
    assert once(watched.config(**changed), recall=True)["recalled"] == 8


def test_a_grey_index_first_and_one_of_channels_later_keeps_what_was_fixed(watched, made, lite0):
    """The series' range and sharpness stay; ranges of channels come with the index that looks at them."""
    late = [path for path in watched.images.iterdir() if "_t1" in path.name]
    aside = {path.name: path.read_bytes() for path in late}
    for path in late:
        path.unlink()
    reference = watched.root / "grey"
    assert index_command(
        ["build", "grey", "--frames", str(grey_frames(watched.root, made)), "--encoder", lite0.name, "--encoders",
         str(lite0.parent), "--crop-um", "28", "--out", str(reference)]
    ) == 0  # fmt: skip
    grey = settings(made, "grey")
    once(watched.config(**{**grey, "classify": {"indexes": str(reference)}}))
    ledger, series, _ = frames_of(watched)
    fixed = ledger.baseline(series)
    assert fixed.channels == {}
    for name, data in aside.items():
        (watched.images / name).write_bytes(data)
    once(watched.config(**settings(made, APART)))
    ledger, series, frames = frames_of(watched)
    now = ledger.baseline(series)
    assert (now.intensity, now.focus) == (fixed.intensity, fixed.focus)
    assert set(now.channels) == set(LOOKS_AT[APART])
    names = {table for frame in frames for table in frame.tables if table.startswith("cells/embedding")}
    assert len(names) == 2  # 1280 numbers of the bright field, and 2560 of the channels: never in one table


def grey_frames(root: Path, made: Path) -> Path:
    for path in sorted((made / "frames").rglob("*.tif")):
        target = root / "grey_frames" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        resolution = (1 / UM, 1 / UM)
        tifffile.imwrite(target, tifffile.imread(path)[0], imagej=True, resolution=resolution, metadata={"unit": "um"})
    return root / "grey_frames"


# --- channels that are not there


def one_file_a_channel(lab: Lab, work: Path, *, without: str = "") -> dict[str, dict[str, np.ndarray]]:
    """The plate again, with a TIFF for each channel, as most microscopes write; returns the planes by frame."""
    found = {}
    for number, (bright, centres) in enumerate(fields(work, 2, seed=31)):
        well = "AB"[number] + "1"
        found[well] = planes(bright, centres, dead=well == "B1", seed=number)
        for name, plane in found[well].items():
            if name != without or well == "A1":
                write_channel(lab, well, name, plane)
    return found


def write_channel(lab: Lab, well: str, name: str, plane: np.ndarray) -> None:
    tifffile.imwrite(lab.images / f"{well}_{name.replace(' ', '')}_t0.tif", plane, compression="zlib")


def apart_settings(made: Path, **more):
    channels = {"segment": "BrightField", "required": [DYE, NUCLEI], "optional": [MATRIX]}
    pattern = r"(?P<well>[A-H]\d+)_(?P<channel>\w+)_t(?P<time>\d+)\.tif"
    source = {"kind": "plain", "pattern": pattern, "channels": channels, "pixel_size_um": UM, **more}
    return settings(made, APART, **source)


@pytest.fixture
def empty(tmp_path: Path, made: Path) -> Lab:
    lab = Lab(tmp_path, made / "indexes", made / "encoders")
    lab.images.mkdir()
    return lab


def test_a_frame_without_a_channel_that_is_looked_at_is_put_aside_and_taken_when_it_comes(empty, made):
    found = one_file_a_channel(empty, empty.root / "work", without=DYE)
    done = once(empty.config(**apart_settings(made)))
    assert (done["counted"], done["stalled"]) == (1, 1)
    assert set(empty.quarantined().values()) == {"incomplete"}
    assert all(name.startswith("B1") for name in empty.quarantined())
    write_channel(empty, "B1", DYE, found["B1"][DYE])
    assert once(empty.config(**apart_settings(made)))["counted"] == 1
    ledger, _, frames = frames_of(empty)
    assert [frame.key.well for frame in frames] == ["A1", "B1"]
    assert ledger.calls(frames[1].key, frames[1].revision)[1].get("dead", 0) == frames[1].n_cells - frames[1].edge > 0


def test_a_bad_file_of_a_channel_that_is_looked_at_costs_the_frame_and_another_one_only_the_channel(empty, made):
    one_file_a_channel(empty, empty.root / "work")
    for name in (f"B1_{DYE}_t0.tif", f"A1_{MATRIX}_t0.tif"):
        path = empty.images / name
        data = path.read_bytes()
        path.write_bytes(data[:1000] + b"\xff" * 500 + data[1500:])
    done = once(empty.config(**apart_settings(made)))
    _, _, frames = frames_of(empty)
    assert [frame.key.well for frame in frames] == ["A1"]
    assert done["counted"] == 1
    assert set(frames[0].channels) == {"BrightField", DYE, NUCLEI}
    assert f"B1_{DYE}_t0.tif" in empty.quarantined()


def test_a_file_whose_content_lacks_a_channel_is_incomplete(empty, made):
    for number, (bright, centres) in enumerate(fields(empty.root / "work", 2, seed=31)):
        names = CHANNELS if number else (BRIGHT, NUCLEI, MATRIX)
        write_ome(empty.images / f"{'AB'[number]}1_t0.ome.tif", planes(bright, centres, dead=False), names)
    done = once(empty.config(**settings(made, APART)))
    assert (done["counted"], done["quarantined"]) == (1, 1)
    assert empty.quarantined() == {"A1_t0.ome.tif": "incomplete"}


# --- what does not fit


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        ({"segment": BRIGHT}, "does not wait for GFP, DAPI"),
        ({"segment": BRIGHT, "required": ["GFP"], "optional": ["DAPI"]}, "DAPI (as an optional channel it may"),
        ({"segment": BRIGHT, "required": ["GFP", "DAPI2"]}, "DAPI (is it the 'DAPI2' there?)"),
        ({}, "does not wait for GFP, DAPI"),
    ],
)
def test_a_source_must_wait_for_the_channels_that_its_index_looks_at(empty, made, channels, told, capsys):
    changed = settings(made, APART, channels=channels)
    with pytest.raises(UsageError) as refused:
        open_bundles(empty.config(**changed))
    assert told in str(refused.value)
    assert "channels.required" in str(refused.value)
    assert main(["check", "--config", str(empty.config_file(**changed)), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert any(each["level"] == "fail" and told in each["text"] for each in found)


def test_check_counts_a_picture_for_every_channel(empty, made, capsys):
    changed = settings(made, APART, interval_s=3600.0)
    assert main(["check", "--config", str(empty.config_file(**changed)), "--json"]) == 0
    assert all(each["level"] != "fail" for each in json.loads(capsys.readouterr().out))


def test_an_encoder_that_does_not_fit_is_refused_when_it_is_opened(empty, made, tmp_path):
    """The index is right, but the encoder of its name there takes other channels: it is another encoder."""
    grid_bundle(tmp_path / "encoders", channels=5)
    changed = {**settings(made, AT_ONCE), "encoder": {"path": str(tmp_path / "encoders")}}
    with pytest.raises(BundleError, match="was built with encoder grid4"):
        open_bundles(empty.config(**changed))
