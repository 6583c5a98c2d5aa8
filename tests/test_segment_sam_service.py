"""SAM behind a running service: opened and verified, recorded, checked beforehand, and lasting when its device fails.

The model is `segmenter_fixtures`': tiny ONNX graphs run by the real session.
"""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from cellvigil import config, device, normalize
from cellvigil.bundle import segmenter as format_
from cellvigil.bundle.files import MANIFEST
from cellvigil.bundle.index import open_index
from cellvigil.bundle.segmenter import open_segmenter
from cellvigil.cli import main
from cellvigil.data import ImageRule
from cellvigil.errors import BundleError, DeviceError, UsageError
from cellvigil.rehearse.reference import write_reference
from cellvigil.segment import opencv_segmenter
from cellvigil.segment.sam import sam_segmenter
from cellvigil.segment.sam_session import BUCKETS, open_sam, open_same_sam
from cellvigil.segment.sam_tiles import tiles_of
from cellvigil.service import enduring, serve
from cellvigil.service.doubts import outline_doubts
from cellvigil.service.lasting_sam import LastingSam
from cellvigil.service.pause import Stopped
from cellvigil.service.segmenting import Pace
from cellvigil.store.reader import plate_lines
from cellvigil.store.recover import plate_folders
from cellvigil_indexes.cli import main as index_command
from cellvigil_indexes.inputs.cache import picture_key
from cellvigil_indexes.inputs.coco import read_coco
from cellvigil_indexes.inputs.folders import read_frames
from cellvigil_indexes.inputs.images import own_pixel_size, read_image
from cellvigil_indexes.inputs.pictures import picture_rule
from cellvigil_indexes.inputs.scene import analysed, segmented, with_every_cell
from encoder_fixtures import rewritten
from lab import Lab, small_assay
from segmenter_fixtures import SIDE, segmenter_bundle

SAM = {"method": "sam", "sam": {"bundle": "toy-sam"}}
BROKEN = Fail("[ONNXRuntimeError] : 1 : FAIL : CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return segmenter_bundle(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def bundle(made, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "toy-sam"))


@pytest.fixture
def samlab(lab: Lab, made, tmp_path):
    """A lab whose encoders' folder holds the toy segmenter too."""
    encoders = tmp_path / "encoders"
    encoders.mkdir()
    for folder in lab.encoders.iterdir():
        if (folder / MANIFEST).is_file():
            (encoders / folder.name).symlink_to(folder)
    shutil.copytree(made, encoders / "toy-sam")
    return replace(lab, encoders=encoders)


def made_by(lab: Lab):
    """The provenance of everything in the store."""
    lines = [line for folder in plate_folders(lab.store) for line in plate_lines(folder)]
    return [line["provenance"] for line in lines if line["kind"] == "setting"]


def cells_of(lab: Lab):
    """How many cells each frame has."""
    ledger = lab.ledger()
    return {str(frame.key): frame.n_cells for series in ledger.series() for frame in ledger.frames(series)}


# ---- the bundle


def test_a_bundle_is_opened_with_what_its_manifest_says(bundle):
    opened = open_segmenter(bundle)
    assert (opened.name, opened.input_size, opened.precision) == ("toy-sam", SIDE, "fp32")
    rewritten(bundle, tools={"onnx": "0"})
    assert open_segmenter(bundle).sha256 == opened.sha256  # other tools, the same segmenter
    rewritten(bundle, name="other")
    assert open_segmenter(bundle).sha256 != opened.sha256


def cut(folder):
    path = folder / format_.DECODER
    path.write_bytes(path.read_bytes()[:-100])


def unlisted(folder):
    (folder / f"{format_.ENCODER}.data").write_bytes(b"weights from elsewhere")


def entry_lost(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][format_.golden_name("iou")]
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (cut, "not the file its manifest describes"),
        (unlisted, "does not list encoder.onnx.data"),
        (entry_lost, "does not list golden_iou.npy"),
        (lambda folder: (folder / format_.ENCODER).unlink(), "encoder.onnx is missing"),
        (lambda folder: (folder / MANIFEST).unlink(), "no segmenter bundle here"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "cannot be read"),
        (lambda folder: rewritten(folder, kind="encoder"), "not a segmenter bundle"),
        (lambda folder: rewritten(folder, schema_version=9), "schema version 9 is not 1"),
        (lambda folder: rewritten(folder, input_size=-1), "does not describe a segmenter"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(bundle, spoil, told):
    spoil(bundle)
    with pytest.raises(BundleError, match=told):
        open_segmenter(bundle)


def other_golden(folder, part, change):
    path = folder / format_.golden_name(part)
    np.save(path, change(np.load(path)))
    rewritten(folder)


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("features", lambda a: a + np.linspace(0, 1, a.size, dtype=a.dtype).reshape(a.shape), "its golden output"),
        ("masks", lambda a: a[..., ::-1].copy(), "its golden output"),
        ("iou", lambda a: a + np.float32(0.3), "its golden output"),
        ("iou", lambda a: a[:1], "does not fit the manifest"),
        ("points", lambda a: a.astype(np.float64), "does not fit the manifest"),
        ("image", lambda a: a[:, :10], "does not fit the manifest"),
    ],
)
def test_a_golden_pair_that_does_not_come_out_is_refused(bundle, part, change, told):
    other_golden(bundle, part, change)
    with pytest.raises(BundleError, match=told):
        open_sam(open_segmenter(bundle), device="cpu", threads=1)


def test_models_of_another_kind_are_refused(bundle):
    shutil.copy(bundle / format_.DECODER, bundle / format_.ENCODER)
    rewritten(bundle)
    with pytest.raises(BundleError, match="where a segmenter has"):
        open_sam(open_segmenter(bundle), device="cpu", threads=1)


# ---- the session, and what keeps it going


class Faulty:
    """A real session that fails as a plan says: by the run's number and its prompts (0 = a picture)."""

    def __init__(self, real, plan):
        self._real, self._plan = real, plan

    def run(self, outputs, inputs):
        prompts = len(inputs["points"]) if "points" in inputs else 0
        if self._plan.armed:
            self._plan.runs += 1
            if self._plan.fails(self._plan.runs, prompts):
                if self._plan.spoil:
                    return [np.full_like(one, np.nan) for one in self._real.run(outputs, inputs)]
                raise BROKEN
        return self._real.run(outputs, inputs)

    def __getattr__(self, name):
        return getattr(self._real, name)


class Plan:
    """Which runs fail, over all sessions of the segmenter."""

    def __init__(self, fails, *, spoil=False, armed=False):
        self.fails, self.spoil, self.armed, self.runs, self.opened = fails, spoil, armed, 0, 0


@pytest.fixture
def planned(monkeypatch):
    """Makes the segmenter's sessions, and no others, follow a plan; the waits between two tries are short."""
    monkeypatch.setattr(enduring, "_BACKOFF_S", (0.01, 0.01, 0.01))
    real = device._session

    def follow(plan):
        def session(ort, path, *rest):
            made = real(ort, path, *rest)
            if "toy-sam" not in str(path):
                return made
            plan.opened += 1
            return Faulty(made, plan)

        monkeypatch.setattr(device, "_session", session)
        return plan

    return follow


def prompts_of(count):
    points = np.random.default_rng(count).uniform(0, SIDE, (count, 2, 2)).astype(np.float32)
    return np.sort(points, axis=1), np.tile(np.array([2, 3], np.int64), (count, 1))


@pytest.fixture
def picture():
    return np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 3, 16, 17, 40])
def test_a_prompt_s_mask_does_not_depend_on_the_others(made, picture, count):
    sam = open_sam(open_segmenter(made), device="cpu", threads=1)
    features = sam.encode(picture, (SIDE, SIDE))
    points, labels = prompts_of(count)
    masks, iou = sam.decode(features, points, labels)
    assert masks.shape == (count, 4, SIDE // 4, SIDE // 4)
    alone = [sam.decode(features, points[i : i + 1], labels[i : i + 1]) for i in range(count)]
    np.testing.assert_allclose(masks, np.concatenate([one[0] for one in alone]), rtol=0, atol=1e-4)
    np.testing.assert_allclose(iou, np.concatenate([one[1] for one in alone]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("largest", [1, 4])
def test_prompts_that_do_not_fit_the_memory_are_cut_down(made, picture, planned, largest):
    plan = planned(Plan(lambda run, prompts: prompts > largest))
    halved = []
    sam = open_sam(open_segmenter(made), device="cpu", threads=1, on_halved=lambda: halved.append(1))
    features = sam.encode(picture, (SIDE, SIDE))
    points, labels = prompts_of(11)
    wanted = sam.decode(features, points, labels)
    plan.armed = True
    masks, iou = sam.decode(features, points, labels)
    np.testing.assert_allclose(masks, wanted[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(iou, wanted[1], rtol=0, atol=1e-6)
    assert halved


@pytest.mark.parametrize(
    ("points", "labels"),
    [
        (np.zeros((0, 2, 2), np.float32), np.zeros((0, 2), np.int64)),
        (np.zeros((2, 2, 2), np.float32), np.zeros((2, 3), np.int64)),
        (np.zeros((2, 2, 2), np.float32), np.full((2, 2), 4, np.int64)),
    ],
)
def test_prompts_that_are_none_are_refused(made, points, labels):
    sam = open_sam(open_segmenter(made), device="cpu", threads=1)
    with pytest.raises(UsageError):
        sam.decode(np.zeros((1, 4, SIDE // 16, SIDE // 16), np.float32), points, labels)


@pytest.mark.parametrize(
    ("failing", "spoil", "rebuilt"),
    [(1, False, 1), (3, False, 3), (1, True, 0), (3, True, 1)],  # numbers that are none are asked for again first
)
def test_a_device_that_fails_for_a_while_gets_fresh_sessions(made, picture, planned, failing, spoil, rebuilt):
    plan, told = planned(Plan(lambda run, prompts: run <= failing, spoil=spoil)), Counter()
    opened = open_segmenter(made)
    first = open_sam(opened, device="cpu", threads=1)

    def anew(on):
        plan.armed, sam = False, open_sam(opened, device=on, threads=1)
        plan.armed = True
        return sam

    lasting = LastingSam(
        first, anew, may_degrade=False, told=lambda name, did: told.update([did]), wait=lambda _seconds: None
    )
    wanted = first.encode(picture, (SIDE, SIDE))
    plan.armed = True
    np.testing.assert_array_equal(lasting.encode(picture, (SIDE, SIDE)), wanted)
    assert told["rebuilt"] == rebuilt == told.total()
    assert plan.opened == 2 * (rebuilt + 1)  # both models each time


def test_a_device_that_fails_for_good_ends_the_tries(made, picture, planned):
    plan = planned(Plan(lambda run, prompts: True))
    opened = open_segmenter(made)
    first = open_sam(opened, device="cpu", threads=1)
    lasting = LastingSam(
        first,
        lambda on: open_sam(opened, device=on, threads=1),
        may_degrade=True,
        told=lambda *_: None,
        wait=lambda _seconds: None,
    )
    plan.armed = True
    with pytest.raises(DeviceError, match="toy-sam failed"):
        lasting.encode(picture, (SIDE, SIDE))


def test_a_fresh_session_that_gives_other_output_is_the_device_s_failure_and_no_frame_s(made, picture, planned):
    """The golden pair came out at the start: a BundleError here would be taken for an error of the frame in hand."""
    plan = planned(Plan(lambda run, prompts: True))
    opened = open_segmenter(made)
    first = open_sam(opened, device="cpu", threads=1)

    def anew(on):
        raise BundleError(f"segmenter toy-sam on {on} does not give its golden output", where=made)

    lasting = LastingSam(first, anew, may_degrade=False, told=lambda *_: None, wait=lambda _seconds: None)
    plan.armed = True
    with pytest.raises(DeviceError, match="golden output"):
        lasting.encode(picture, (SIDE, SIDE))


def test_a_closed_segmenter_is_not_opened_again(made, picture):
    """A thread that still prepares a frame while the service ends goes no further."""
    opened = open_segmenter(made)
    first = open_sam(opened, device="cpu", threads=1)
    lasting = LastingSam(
        first, lambda on: pytest.fail("opened again"), may_degrade=False, told=lambda *_: None, wait=lambda _: None
    )
    lasting.encode(picture, (SIDE, SIDE))
    lasting.close()
    with pytest.raises(Stopped):
        lasting.encode(picture, (SIDE, SIDE))


# ---- the service


def test_frames_are_outlined_by_sam_and_the_record_says_so(samlab, tmp_path):
    samlab.film(timepoints=2)
    plain = replace(samlab, root=tmp_path / "plain")
    plain.root.mkdir()
    (plain.root / "images").symlink_to(samlab.images)
    assert serve.once(plain.config())["counted"] == 4
    assert serve.once(samlab.config(segment=SAM))["counted"] == 4
    sha256 = open_segmenter(samlab.encoders / "toy-sam").sha256
    assert [made["segmenter:toy-sam"] for made in made_by(samlab)] == [sha256]
    assert [name for made in made_by(plain) for name in made if name.startswith("segmenter:")] == []
    assert cells_of(samlab) == cells_of(plain)
    assert sum(cells_of(samlab).values()) > 10


def test_a_device_that_fails_for_good_ends_the_service_and_costs_no_frame(samlab, planned):
    """Neither in the first frames of a series nor later; a healthy start takes them all."""
    frames = samlab.film(timepoints=3)
    plan = planned(Plan(lambda run, prompts: True))
    armed = samlab.config(segment=SAM)
    opening = serve.open_told_kitchen

    def then_arm(*args, **kwargs):
        kitchen = opening(*args, **kwargs)
        plan.armed = True
        return kitchen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "open_told_kitchen", then_arm)
        with pytest.raises(DeviceError, match="toy-sam"):
            serve.once(armed)
    assert samlab.quarantined() == {}
    plan.armed, plan.runs = False, 0
    plan.fails = lambda run, prompts: run > 20  # past the baseline, in the midst of the frames
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "open_told_kitchen", then_arm)
        with pytest.raises(DeviceError, match="toy-sam"):
            serve.once(armed)
    assert samlab.quarantined() == {}
    plan.armed = False
    serve.once(armed)
    assert len(cells_of(samlab)) == frames
    assert samlab.quarantined() == {}


def findings(lab, capsys, *, code, **changes):
    path = lab.config_file(**changes)
    assert main(["check", "--config", str(path), "--json"]) == code
    found = {}
    for item in json.loads(capsys.readouterr().out):
        found.setdefault(item["subject"], []).append((item["level"], item["text"]))
    return found


PACED = {"interval_s": 3600.0, "expect": {"wells": 2, "fields": 1, "cells": 100}}


def speed_of(found):
    [(_, text)] = found["capacity"]
    return float(text.split()[0])


def test_check_tells_of_the_segmenter_and_counts_its_time(samlab, capsys):
    plain = findings(samlab, capsys, code=0, source=PACED)
    grid = {**SAM, "sam": {**SAM["sam"], "prompts": "grid", "points_per_side": 100}}
    found = findings(samlab, capsys, code=0, source=PACED, segment=grid)
    assert "segmenter" not in plain
    [(level, text)] = found["segmenter"]
    assert level == "ok"
    assert text.startswith("toy-sam ")
    assert "Apache-2.0" in text
    assert speed_of(found) < speed_of(plain)  # ten thousand prompts a frame


def test_check_tells_of_frames_that_take_longer_than_the_watchdog_waits(samlab, capsys, monkeypatch):
    monkeypatch.setattr("cellvigil.check_capacity.pace_of", lambda sam: Pace(0.1, 6.0))
    by_boxes = findings(samlab, capsys, code=0, source=PACED, segment=SAM)
    (level, text) = by_boxes["scope"][-1]
    assert level == "warn"
    assert text.startswith("a frame takes 60")
    assert "restarts a service that is silent for 600 s" in text
    monkeypatch.setattr("cellvigil.check_capacity.pace_of", lambda sam: Pace(0.1, 2.0))
    quick = findings(samlab, capsys, code=0, source=PACED, segment=SAM)
    assert not any("silent" in text for _, text in quick["scope"])


@pytest.mark.parametrize("watched", [False, True])
def test_check_counts_a_picture_for_every_tile_of_the_frames_that_are_there(samlab, capsys, monkeypatch, watched):
    """A picture that takes very long tells how many of them a frame was reckoned at: without a frame, one."""
    if watched:
        samlab.film(timepoints=1)
    monkeypatch.setattr("cellvigil.check_capacity.pace_of", lambda sam: Pace(1e6, 0.0))
    found = findings(samlab, capsys, code=1, source=PACED, segment={**SAM, "cell_diameter_um": 3.0})
    um = open_index(samlab.indexes / samlab.config().sources[0].index).image_rule.pixel_size_um
    counted = 1
    if watched:
        image = tifffile.imread(next(samlab.images.rglob("*.tif")))
        scale = samlab.config().sources[0].pixel_size_um or own_pixel_size(next(samlab.images.rglob("*.tif")))
        shape = tuple(round(side * size / um) for side, size in zip(image.shape[-2:], scale, strict=True))
        counted = len(tiles_of(shape, 3.0 / um, SIDE))
        assert counted > 1
    assert speed_of(found) == pytest.approx(100 / (counted * 1e6), rel=0.01)


def test_a_segmenter_that_is_not_there_is_told_with_what_to_do(samlab, capsys):
    lost = {"method": "sam", "sam": {"bundle": "sam-vit-huge-segmenter"}}
    [(level, text)] = findings(samlab, capsys, code=1, segment=lost)["encoders"]
    assert level == "fail"
    assert "cellvigil-export run sam-vit-huge-segmenter" in text
    assert "toy-sam" in text
    with pytest.raises(BundleError, match="is not there"):
        serve.once(samlab.config(segment=lost))


def test_a_licence_that_forbids_the_use_is_refused(samlab):
    segmenter_bundle(samlab.encoders, name="toy-sam", licence="CC-BY-NC-4.0")
    with pytest.raises(BundleError, match="toy-sam must not be used commercially"):
        serve.once(samlab.config(segment=SAM, encoder={"path": str(samlab.encoders), "licence_use": "commercial"}))


def test_the_configuration_knows_sam():
    assert config.Segment.model_validate(SAM).sam.prompts == "boxes"
    assert BUCKETS["cpu"][0] == 1


# ---- indexes


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Simulated fields of one class, and their micrometres a pixel."""
    base = tmp_path_factory.mktemp("fields")
    found = read_coco(write_reference(base / "reference", small_assay(), 2).annotations)
    for number, image in enumerate(found.images[:2]):
        (base / "frames" / "control").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(base / "frames" / "control" / f"{number}.tif", read_image(image.path)[0])
    return base / "frames", found.pixel_size_um


def test_an_index_s_cells_are_outlined_as_the_service_outlines_them(frames, made):
    """The same cells as with OpenCV alone, blanked along SAM's outline; and never taken from the other's cache."""
    folder, um = frames
    found = read_frames(folder, um)
    rule = ImageRule(pixel_size_um=um, crop_um=28.0, mask=True)
    sam = open_sam(open_segmenter(made), device="cpu", threads=1)
    by_sam = picture_rule(rule, found.images, um, 16.0, sam)
    plain = picture_rule(rule, found.images, um, 16.0)
    for image in found.images:
        pixels = read_image(image.path)
        one, other = (with_every_cell(image, pixels, how) for how in (by_sam, plain))
        assert abs(len(one.cells) - len(other.cells)) <= 2  # some may reach the border now
        assert len(one.cells) > 1
        scaled = analysed(image, pixels, by_sam)
        wanted = config.Segment(method="sam", cell_diameter_um=16.0)
        labels = sam_segmenter(wanted, sam, opencv_segmenter(wanted))(normalize.grey(scaled), um)
        np.testing.assert_array_equal(segmented(image, scaled, labels.shape, by_sam).labels > 0, labels > 0)
        assert picture_key(image, by_sam) != picture_key(image, plain)


def test_a_segmenter_without_anything_to_outline_is_refused(frames, made, lab):
    folder, um = frames
    sam = open_sam(open_segmenter(made), device="cpu", threads=1)
    annotated = [replace(image, cells=()) for image in read_frames(folder, um).images]
    with pytest.raises(UsageError, match="nothing for a segmenter to do"):
        picture_rule(ImageRule(pixel_size_um=um), annotated, um, None, sam)


def test_an_index_names_the_segmenter_and_wants_it_again(frames, samlab, capsys):
    folder, um = frames
    build = [
        "build",
        "one",
        "--frames",
        str(folder),
        "--pixel-size",
        str(um),
        "--cell-diameter",
        "16",
        "--crop-um",
        "28",
    ]
    build += ["--encoder", "efficientnet-lite0", "--encoders", str(samlab.encoders), "--out", str(samlab.root / "own")]
    assert index_command([*build, "--mask", "--segmenter", "toy-sam", "--set-aside", "0", "--k-max", "3"]) == 0
    provenance = open_index(samlab.root / "own" / "one").manifest["provenance"]
    sha256 = open_segmenter(samlab.encoders / "toy-sam").sha256
    assert provenance["segmenter"] == {"name": "toy-sam", "sha256": sha256}
    assert open_same_sam(provenance, samlab.encoders, "cpu").bundle.sha256 == sha256
    told = {**provenance, "segmenter": {"name": "toy-sam", "sha256": "0" * 64}}
    with pytest.raises(BundleError, match="another segmenter"):
        open_same_sam(told, samlab.encoders, "cpu")
    assert open_same_sam({}, samlab.encoders, "cpu") is None


OUTLINED = {"cell_diameter_um": 16.0}
BY_TOY = {**OUTLINED, "segmenter": {"name": "toy-sam", "sha256": "the same"}}


@pytest.mark.parametrize(
    ("mask", "by", "live", "told"),
    [
        (True, OUTLINED, {"method": "opencv"}, ""),
        (True, OUTLINED, {}, "OpenCV outlined, and live ones are outlined by toy-sam"),
        (True, BY_TOY, {}, ""),
        (True, BY_TOY, {"method": "opencv"}, "toy-sam outlined, and live ones are outlined by OpenCV"),
        (True, {**OUTLINED, "segmenter": {"name": "toy-sam", "sha256": "0"}}, {}, "another segmenter toy-sam"),
        (True, BY_TOY, {"sam": {**SAM["sam"], "prompts": "grid"}}, "prompts: boxes"),
        (True, OUTLINED, {"method": "opencv", "cell_diameter_um": 12.0}, "at a diameter of 16 um"),
        (True, OUTLINED, {"method": "opencv", "cell_diameter_um": 18.0}, ""),
        (True, {"cell_diameter_um": None}, {}, ""),
        (False, OUTLINED, {}, ""),
    ],
)
def test_other_outlines_than_the_index_s_are_told_of(samlab, mask, by, live, told):
    index = open_index(samlab.indexes / "states")
    bundle = open_segmenter(samlab.encoders / "toy-sam")
    if "segmenter" in by and by["segmenter"]["sha256"] == "the same":
        by = {**by, "segmenter": {"name": "toy-sam", "sha256": bundle.sha256}}
    manifest = {**index.manifest, "provenance": {**index.manifest["provenance"], **by}}
    other = replace(index, image_rule=replace(index.image_rule, mask=mask), manifest=manifest)
    settings = samlab.config(segment={**SAM, "cell_diameter_um": 16.0, **live}).segment
    doubts = list(outline_doubts(settings, other, bundle if settings.method == "sam" else None))
    assert len(doubts) == bool(told)
    assert all(told in doubt for doubt in doubts)
