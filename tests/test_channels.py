"""Pictures in several channels, and encoders as an image rule of channels uses them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from cellvigil import channels, normalize
from cellvigil.bundle.encoder import EncoderBundle, open_encoder
from cellvigil.bundle.index import check_encoders, open_index
from cellvigil.bundle.index_manifest import rule_as_dict, rule_from_dict
from cellvigil.bundle.ruled import misfit, ruled_bundle, ruled_sha256
from cellvigil.data import Baseline, ClaheRule, Fit, Frame, FrameKey, ImageRule, IntensityRule
from cellvigil.encoder import open_session
from cellvigil.errors import BadFile, BundleError, UsageError
from cellvigil.ledger import Ledger
from cellvigil.ruled import ruled
from cellvigil.stills import read_channels
from cellvigil.store.writer import open_store
from channel_lab import grid_bundle, grid_means
from index_fixtures import write_plain_index

APART = ImageRule(pixel_size_um=1.0, crop_um=16.0, colour="channels", channels=("GFP", "DAPI"), per_channel=True)
AT_ONCE = replace(APART, per_channel=False)
FIT = Fit(24)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Bundles of 1, 3 and 4 channels."""
    out = tmp_path_factory.mktemp("encoders")
    return {n: open_encoder(grid_bundle(out, name=f"grid{n}", channels=n)) for n in (1, 3, 4)}


def frame(**planes) -> Frame:
    key = FrameKey("scope", "e", "p", "A1", "1", 0)
    stack = np.stack(list(planes.values()))
    return Frame(key, datetime(2024, 3, 1, tzinfo=UTC), stack, tuple(planes), (1.0, 1.0), ())


def noise(seed, top=4000, shape=(60, 70)):
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint16)


# --- the rule


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "channels"},
        {"channels": ("A",)},
        {"colour": "rgb", "channels": ("A", "B")},
        {"colour": "channels", "channels": ("A", "A")},
        {"colour": "channels", "channels": ("A", "")},
        {"per_channel": True},
    ],
)
def test_rules_that_contradict_themselves(wrong):
    with pytest.raises(ValueError, match="image rule"):
        ImageRule(**wrong)


def test_a_rule_of_channels_survives_the_manifest_and_no_other_rule_tells_of_channels():
    for rule in (APART, AT_ONCE, ImageRule(clahe=ClaheRule()), ImageRule(colour="rgb")):
        assert rule_from_dict(json.loads(json.dumps(rule_as_dict(rule)))) == rule
    known = {"pixel_size_um", "crop_um", "intensity", "clahe", "colour", "mask", "pad", "frame_normalised"}
    assert set(rule_as_dict(ImageRule())) == known  # as it always was: the manifests, and so the hashes, stay


# --- pictures


@given(
    seed=st.integers(0, 999),
    mask=st.booleans(),
    clahe=st.booleans(),
    names=st.permutations(["GFP", "DAPI", "BF"]).flatmap(lambda all_: st.integers(1, 3).map(lambda n: tuple(all_[:n]))),
)
def test_each_channel_is_cut_as_if_it_were_alone(seed, mask, clahe, names):
    """Against the obvious: a grey picture of each channel, by itself."""
    made = frame(BF=noise(seed), GFP=noise(seed + 1, 900), DAPI=noise(seed + 2, 60000))
    rule = replace(APART, channels=names, mask=mask, clahe=ClaheRule(tile_um=20.0) if clahe else None)
    labels = np.zeros((60, 70), np.int32)
    labels[5:20, 8:30], labels[40:59, 50:69] = 1, 2
    centres = [(12.0, 18.0), (49.0, 59.0)]
    ranges = channels.ranges_of([made], rule)
    segmented = normalize.analysis_image(made, "BF", rule, (0.0, 4000.0))
    images = channels.picture_images(made, segmented, rule, ranges)
    got = channels.cut(images, centres, rule, fit=FIT, labels=labels).pixels
    assert got.shape == (2, 24, 24, len(names))
    grey = replace(rule, colour="grey", channels=(), per_channel=False)
    for place, name in enumerate(names):
        own = normalize.intensity_range([made.channel(name)], rule.intensity)
        alone = normalize.analysis_image(made, name, grey, own)
        wanted = normalize.crops(alone, centres, grey, fit=FIT, labels=labels).pixels
        np.testing.assert_array_equal(got[..., place : place + 1], wanted)


def test_a_rule_of_no_channels_cuts_what_was_segmented():
    made = frame(BF=noise(1), GFP=noise(2))
    grey = ImageRule(pixel_size_um=1.0, crop_um=16.0)
    segmented = normalize.analysis_image(made, "BF", grey, (0.0, 4000.0))
    assert channels.picture_images(made, segmented, grey, {}) == (segmented,)
    got = channels.cut((segmented,), [(30.0, 30.0)], grey, fit=FIT).pixels
    np.testing.assert_array_equal(got, normalize.crops(segmented, [(30.0, 30.0)], grey, fit=FIT).pixels)
    assert channels.shown(got, grey) is got


def test_a_channel_without_a_range_shows_all_that_its_type_holds_and_one_that_is_missing_is_an_error():
    made = frame(BF=noise(1), GFP=noise(2))
    segmented = normalize.analysis_image(made, "BF", APART, (0.0, 4000.0))
    told = r"no channel 'DAPI', which the index looks at.*BF, GFP.*channels\.required"
    with pytest.raises(BadFile, match=told) as bad:
        channels.picture_images(made, segmented, APART, {})
    assert bad.value.reason == "incomplete"
    (image,) = channels.picture_images(made, segmented, replace(APART, channels=("GFP",)), {})
    assert image.pixels.max() <= 4000 * 255 // 65535 + 1


def test_a_channel_s_range_is_its_own():
    first, second = (frame(BF=noise(n), GFP=noise(n, 100), DAPI=noise(n, 60000)) for n in (1, 2))
    rule = replace(APART, intensity=IntensityRule(low=5.0, high=95.0))
    ranges = channels.ranges_of([first, second], rule)
    for name in rule.channels:
        pooled = np.concatenate([first.channel(name).ravel(), second.channel(name).ravel()])
        assert ranges[name] == pytest.approx(tuple(np.percentile(pooled, (5, 95))))
    assert channels.ranges_of([], replace(rule, intensity=IntensityRule("range", 3, 9))) == dict.fromkeys(
        rule.channels, (3.0, 9.0)
    )


def test_channels_are_shown_in_hues_that_add_up():
    pixels = np.zeros((1, 1, 4, 3), np.uint8)
    pixels[0, 0] = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 200)]
    rule = replace(AT_ONCE, channels=("A", "B", "C"))
    assert channels.shown(pixels, rule)[0, 0].tolist() == [[200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 200]]
    five = replace(AT_ONCE, channels=tuple("ABCDE"))
    assert channels.shown(np.full((2, 3, 3, 5), 255, np.uint8), five).shape == (2, 3, 3, 3)
    assert channels.shown(pixels[..., :1], replace(AT_ONCE, channels=("A",))).shape == (1, 1, 4, 1)


# --- encoders


@pytest.mark.parametrize(
    ("takes", "rule", "told"),
    [
        (1, APART, ""),
        (3, APART, ""),
        (4, APART, "each channel by itself"),
        (3, AT_ONCE, "takes 3 channels, and the image rule gives 2 at once: GFP, DAPI"),
        (4, replace(AT_ONCE, channels=tuple("ABCD")), ""),
        (3, replace(AT_ONCE, channels=tuple("ABC")), ""),
        (4, ImageRule(), "takes 4 channels at once, and the image rule gives grey"),
        (1, ImageRule(colour="rgb"), "gives colour pictures"),
        (1, ImageRule(), ""),
        (3, ImageRule(colour="rgb"), ""),
    ],
)
def test_which_encoder_can_look_at_which_rule_s_pictures(grid, takes, rule, told):
    assert told in misfit(grid[takes], rule)
    assert bool(told) == bool(misfit(grid[takes], rule))
    if told:
        with pytest.raises(BundleError, match="--channels"):
            ruled_bundle(grid[takes], rule)


def test_an_encoder_of_channels_is_another_one_for_other_channels(grid):
    rules = [
        ImageRule(),
        APART,
        replace(APART, channels=("DAPI", "GFP")),
        replace(APART, channels=("DAPI",)),
        replace(APART, channels=("GFP", "DAPI", "BF")),
    ]
    used = [ruled_bundle(grid[3], rule) for rule in rules]
    assert len({bundle.sha256 for bundle in used}) == len(rules)
    assert used[0] is grid[3]
    assert [bundle.dimension for bundle in used] == [12, 24, 24, 12, 36]
    assert ruled_bundle(grid[3], replace(APART, crop_um=9.0)).sha256 == used[1].sha256
    three = replace(AT_ONCE, channels=("GFP", "DAPI", "BF"))
    assert ruled_sha256(grid[3].sha256, three) != used[4].sha256


@dataclass
class Numbers:
    """An encoder in numpy: what it gives depends on the one picture alone."""

    bundle: EncoderBundle
    seen: int = 0
    name = "grid3"
    provider = "cpu"

    @property
    def fit(self):
        return self.bundle.fit

    @property
    def channels(self):
        return self.bundle.channels

    def embed(self, pixels):
        self.seen += len(pixels)
        return grid_means(np.repeat(pixels, self.channels // pixels.shape[3], axis=3))


@given(cells=st.integers(0, 5), names=st.integers(1, 5), seed=st.integers(0, 99))
def test_per_channel_is_each_channel_embedded_alone_and_put_together(grid, cells, names, seed):
    """Against the obvious: one channel after the other, replicated three times (Cell-DINO's DINOv2 baseline)."""
    rule = replace(APART, channels=tuple("ABCDE"[:names]))
    pixels = np.random.default_rng(seed).integers(0, 256, (cells, 32, 32, names), dtype=np.uint8)
    inner = Numbers(grid[3])
    used = ruled(inner, rule)
    got = used.embed(pixels)
    parts = [grid_means(np.repeat(pixels[..., c : c + 1], 3, axis=3)) for c in range(names)]
    np.testing.assert_array_equal(got, np.concatenate(parts, axis=1))
    assert got.shape == (cells, used.bundle.dimension)
    assert inner.seen == cells * names
    assert (used.name, used.provider, used.bundle.fit, used.bundle.channels) == ("grid3", "cpu", Fit(32), names)


def test_real_sessions_per_channel_and_at_once(grid):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 4), dtype=np.uint8)
    at_once = ruled(open_session(grid[4], device="cpu"), replace(AT_ONCE, channels=tuple("ABCD")))
    np.testing.assert_allclose(at_once.embed(pixels), grid_means(pixels), rtol=1e-6)
    for takes in (1, 3):
        apart = ruled(open_session(grid[takes], device="cpu"), APART)
        wanted = [np.tile(grid_means(pixels[..., c : c + 1]), takes) for c in range(2)]
        np.testing.assert_allclose(apart.embed(pixels[..., :2]), np.concatenate(wanted, axis=1), rtol=1e-6)
    with pytest.raises(UsageError, match=r"used on 2 channels, not on pictures \(5, 32, 32, 4\)"):
        apart.embed(pixels)
    plain = open_session(grid[3], device="cpu")
    assert ruled(plain, ImageRule()) is plain


def test_an_index_knows_its_encoder_as_its_rule_uses_it(tmp_path, grid):
    folder = write_plain_index(tmp_path / "index")
    index = open_index(folder)
    own = replace(grid[3], name="one", sha256="0" * 64)
    check_encoders(index, [own])
    of_channels = replace(index, image_rule=APART)
    with pytest.raises(BundleError, match="was built with encoder one"):
        check_encoders(of_channels, [own])
    known = replace(index.encoders[0], sha256=ruled_sha256(own.sha256, APART))
    check_encoders(replace(of_channels, encoders=(known,)), [own])
    with pytest.raises(BundleError, match="was built with encoder one"):
        check_encoders(replace(index, encoders=(known,)), [own])


# --- the journal


def test_ranges_of_channels_are_journaled_and_lines_from_before_are_read(tmp_path):
    series = ("scope", "240301_run", "Plate 1")
    held = Baseline((100.0, 4000.0), 2.0, {"GFP": (3.0, 90.0), "µ/é": (0.5, 1.5)})
    store = open_store(tmp_path / "store")
    store.set_baseline(series, Baseline((1.0, 2.0), 3.0))
    assert "channels" not in store.ledger.baseline(series).channels
    store.set_baseline(series, held)
    store.close()
    again = open_store(tmp_path / "store")
    assert again.baseline(series) == held
    again.close()
    ledger = Ledger()
    line = {"kind": "baseline", "series": list(series), "intensity": [1, 2], "focus": 3, "seq": 1, "committed_at": "x"}
    ledger.add(line)
    assert ledger.baseline(series) == Baseline((1.0, 2.0), 3.0)


# --- files of several channels


def stack(count, dtype=np.uint16):
    return np.arange(count * 20 * 30).reshape(count, 20, 30).astype(dtype)


def ome_names(path, planes, names):
    tifffile.imwrite(path, planes, metadata={"axes": "CYX", "Channel": {"Name": names}}, ome=True)


def page_by_page(path, planes):
    with tifffile.TiffWriter(path) as file:
        for plane in planes:
            file.write(plane)


def pages(path, planes):
    tifffile.imwrite(path, planes, photometric="minisblack")


def planar(path, planes):
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")


def imagej(path, planes, **more):
    tifffile.imwrite(path, planes, imagej=True, metadata={"axes": "CYX", **more})


@pytest.mark.parametrize(
    ("write", "wanted", "order"),
    [
        (lambda p: ome_names(p, stack(3), ["BF", "GFP", "DAPI"]), ("DAPI", "GFP"), (2, 1)),
        (lambda p: ome_names(p, stack(2), ["", ""]), ("DAPI", "GFP"), (0, 1)),
        (lambda p: page_by_page(p, stack(2)), ("DAPI", "GFP"), (0, 1)),
        (lambda p: pages(p, stack(5)), tuple("ABCDE"), range(5)),
        (lambda p: planar(p, stack(3, np.uint8)), "ABC", range(3)),
        (lambda p: imagej(p, stack(2), Labels=["GFP", "DAPI"]), ("DAPI",), (1,)),
        (lambda p: imagej(p, stack(2)), ("DAPI", "GFP"), (0, 1)),
        (lambda p: tifffile.imwrite(p, stack(1)[0]), ("GFP",), (0,)),
        (lambda p: pages(p, stack(3, np.float32)), "ABC", range(3)),
    ],
)
def test_planes_by_name_or_else_by_order(tmp_path, write, wanted, order):
    path = tmp_path / "cells.tif"
    write(path)
    got = read_channels(path, wanted)
    np.testing.assert_array_equal(got, stack(max(order) + 1, got.dtype)[list(order)])


@pytest.mark.parametrize(
    ("write", "reason", "told"),
    [
        (lambda p: ome_names(p, stack(2), ["BF", "GFP"]), "incomplete", "no channel 'DAPI', the file has BF, GFP"),
        (lambda p: pages(p, stack(3)), "wrong_type", "3 planes without names"),
        (lambda p: imagej(p, stack(4).reshape(2, 2, 20, 30), axes="ZCYX"), "wrong_type", "one plane a channel"),
        (lambda p: imagej(p, stack(2), axes="ZYX"), "wrong_type", "one plane a channel"),
        (lambda p: tifffile.imwrite(p, stack(2), ome=True, metadata={"axes": "TYX"}), "wrong_type", "one plane a"),
        (lambda p: tifffile.imwrite(p, stack(2, np.int64)), "wrong_type", "int64"),
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40)), "wrong_type", "no TIFF of several channels"),
        (lambda p: p.write_bytes(b""), "empty", "no bytes"),
        (lambda p: p.write_bytes(b"II*\0" + bytes(60)), "truncated", "no page"),
    ],
)
def test_files_that_are_not_the_channels(tmp_path, write, reason, told):
    path = tmp_path / "cells.tif"
    write(path)
    with pytest.raises(BadFile, match=told) as bad:
        read_channels(path, ("DAPI", "GFP"))
    assert bad.value.reason == reason
