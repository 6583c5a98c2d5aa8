"""A channel that comes hours after its frame: it joins the frame's image, whole, and nothing else changes."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil.data import FileRef, Frame, Record
from cellvigil.errors import BadFile, StoreError
from cellvigil.journal import read
from cellvigil.store import encode, shards
from cellvigil.store.layout import Geometry
from cellvigil.store.writer import SourcePlan, Store, open_store
from failing_disk import CALLS, Disk, killed_at
from store_records import SERIES, key, record
from test_store_recovery import plate_folder

CHANNELS = ("Bright Field", "GFP", "RFP")
PLANS = {"scope": SourcePlan(channels=CHANNELS)}
SHAPE = (9, 13)


def whole(timepoint: int = 0, dtype: str = "uint16", revision: int = 0) -> Record:
    """A frame with every channel."""
    one = record(key("A1", timepoint), n=4, shape=(3, *SHAPE), channels=CHANNELS, dtype=dtype, dimension=2)
    return replace(one, revision=revision)


def part(one: Record, *channels: str) -> Record:
    """The same with some of its channels only."""
    planes = [CHANNELS.index(name) for name in channels]
    return replace(one, frame=replace(one.frame, pixels=one.frame.pixels[planes], channels=channels))


def late(one: Record, *channels: str, digest: str = "77") -> Frame:
    """Those channels as they come later, from a file of their own."""
    name = f"{'_'.join(channels)}_{one.frame.key.timepoint}.tif"
    return replace(part(one, *channels).frame, files=(FileRef(name, 7, 8, digest * 32),))


@pytest.fixture
def store(memory):
    with contextlib.closing(open_store(memory / "store", plans=PLANS)) as opened:
        yield opened


def image_chunks(path: Path) -> dict[str, bytes]:
    return {f"{level}/{one.name}": one.read_bytes() for level in "01" for one in field(path).glob(f"{level}/c.*")}


def field(path: Path) -> Path:
    return plate_folder(path) / "A/1/0"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("order", [[("GFP",), ("RFP",)], [("RFP",), ("GFP",)], [("RFP", "GFP")]])
def test_a_frame_with_late_channels_is_as_if_they_had_been_there(memory, dtype, order):
    one = whole(dtype=dtype)
    with contextlib.closing(open_store(memory / "at once", plans=PLANS)) as store:
        store.append(one)
        [unit] = store.ledger.units(SERIES)
    with contextlib.closing(open_store(memory / "late", plans=PLANS)) as store:
        store.append(part(one, "Bright Field"))
        for channels in order:
            done = store.attach(late(one, *channels), missing=("RFP",))
            assert (done.t, done.revision) == (0, 0)
            assert done.line["channels"] == list(channels)
            assert done.line["missing_channels"] == ["RFP"]
        assert image_chunks(memory / "late") == image_chunks(memory / "at once")
        assert store.ledger.units(SERIES)[0].sizes == unit.sizes
    yaozarrs.validate_zarr_store(str(plate_folder(memory / "late")))
    np.testing.assert_array_equal(zarr.open_array(field(memory / "late") / "0", mode="r")[0], one.frame.pixels)


def test_nothing_is_called_again_and_the_file_is_done(memory, store):
    one = whole()
    store.append(part(one, "Bright Field"))
    calls, frame = store.ledger.calls(key(), 0), store.ledger.frame(key())
    fresh = late(one, "GFP")
    assert not store.ledger.is_done("scope", fresh.files[0].path, 7, 8)
    line = store.attach(fresh).line
    assert read(plate_folder(store.path) / "journal.jsonl")[-1] == line
    store.close()
    with contextlib.closing(open_store(store.path, plans=PLANS)) as again:
        assert again.recovered == ()
        for ledger in (store.ledger, again.ledger):
            assert ledger.is_done("scope", fresh.files[0].path, 7, 8)
            assert ledger.calls(key(), 0) == calls
            assert ledger.frame(key()) == replace(
                frame, files=(*frame.files, *fresh.files), channels=("Bright Field", "GFP")
            )
        assert again.append(part(whole(1), "Bright Field")).t == 1


def test_it_joins_the_newest_revision(store):
    one, again = whole(), whole(revision=1)
    store.append(part(one, "Bright Field"))
    rewritten = replace(again.frame.files[0], digest="55" * 32)
    store.append(part(replace(again, frame=replace(again.frame, files=(rewritten,))), "Bright Field"))
    before = image_chunks(store.path)
    done = store.attach(late(one, "GFP"))
    assert (done.t, done.revision) == (1, 1)
    after = image_chunks(store.path)
    assert {name for name in after if after[name] != before[name]} == {"0/c.1.0.0.0", "1/c.1.0.0.0"}


def test_attaching_the_same_again_writes_nothing(store):
    one = whole()
    store.append(part(one, "Bright Field"))
    store.attach(late(one, "GFP"))
    before = (plate_folder(store.path) / "journal.jsonl").read_bytes()
    again = store.attach(late(one, "GFP"))
    assert (again.t, again.revision, again.line) == (0, 0, {})
    assert (plate_folder(store.path) / "journal.jsonl").read_bytes() == before


def unknown_frame(store: Store, one: Record) -> Frame:
    return late(whole(5), "GFP")


def lost_frame(store: Store, one: Record) -> Frame:
    line = {"kind": "lost", "key": [*SERIES, "A1", "1", 0], "revision": 0, "t": 0, "why": "damaged"}
    store.journal_lines(SERIES, [{**line, "committed_at": "2024-03-02T00:00:00Z"}])
    return late(one, "GFP")


def other_file(store: Store, one: Record) -> Frame:
    store.attach(late(one, "GFP"))
    return late(one, "GFP", digest="88")


def there_from_the_start(store: Store, one: Record) -> Frame:
    return late(one, "Bright Field")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (unknown_frame, "not in the store"),
        (lost_frame, "not in the store"),
        (other_file, "has GFP already"),
        (there_from_the_start, "has Bright Field already"),
    ],
)
def test_a_channel_without_a_place_is_refused(store, make, says):
    one = whole()
    store.append(part(one, "Bright Field"))
    frame = make(store, one)
    before = image_chunks(store.path), (plate_folder(store.path) / "journal.jsonl").read_bytes()
    with pytest.raises(ValueError, match=says):
        store.attach(frame)
    assert (image_chunks(store.path), (plate_folder(store.path) / "journal.jsonl").read_bytes()) == before


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"pixels": np.zeros((1, 9, 12), dtype=np.uint16)}, "geometry_changed", "image size"),
        ({"pixels": np.zeros((1, *SHAPE), dtype=np.float32)}, "geometry_changed", "pixel type"),
        ({"pixels": np.zeros((1, *SHAPE), dtype=np.float64)}, "wrong_type", "float64"),
        ({"pixel_size_um": (0.65, 0.65)}, "geometry_changed", "pixel size"),
        ({"channels": ("CY5",)}, "geometry_changed", "CY5"),
    ],
)
def test_a_channel_that_does_not_fit_the_plate_is_refused(store, change, reason, says):
    one = whole()
    store.append(part(one, "Bright Field"))
    before = image_chunks(store.path), (plate_folder(store.path) / "journal.jsonl").read_bytes()
    with pytest.raises(BadFile, match=says) as caught:
        store.attach(replace(late(one, "GFP"), **change))
    assert caught.value.reason == reason
    assert (image_chunks(store.path), (plate_folder(store.path) / "journal.jsonl").read_bytes()) == before
    assert store.attach(late(one, "GFP")).line


def test_pixels_that_retention_deleted_stay_deleted_and_the_file_is_done(store):
    one = whole()
    store.append(part(one, "Bright Field"))
    line = {"kind": "dropped", "series": list(SERIES), "t": 0, "tiers": ["pixels"], "why": "age"}
    store.journal_lines(SERIES, [{**line, "committed_at": "2024-03-02T00:00:00Z"}])
    for path in store.chunk_paths(SERIES, 0, ["pixels"]):
        path.unlink()
    fresh = late(one, "GFP")
    assert store.attach(fresh).line["bytes"] == {"pixels": 0}
    assert image_chunks(store.path) == {}
    assert store.ledger.is_done("scope", fresh.files[0].path, 7, 8)
    assert store.ledger.units(SERIES)[0].sizes["pixels"] == 0


def test_a_channel_of_fewer_bits_is_kept_in_the_plates_type(store):
    one = whole()
    store.append(part(one, "Bright Field"))
    fresh = late(one, "GFP")
    store.attach(replace(fresh, pixels=np.full(fresh.pixels.shape, 200, dtype=np.uint8)))
    data = (field(store.path) / "0/c.0.0.0.0").read_bytes()
    assert (shards.read_image(data, len(one.frame.channels), SHAPE, "uint16")[1] == 200).all()


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: data[:-9] + b"123456789", lambda _: b""])
def test_a_damaged_shard_is_told_and_left_as_it_is(store, harm):
    one = whole()
    store.append(part(one, "Bright Field"))
    path = field(store.path) / "0/c.0.0.0.0"
    good = path.read_bytes()
    path.write_bytes(harm(good))
    with pytest.raises(BadFile, match="damaged"):
        store.attach(late(one, "GFP"))
    assert path.read_bytes() == harm(good)
    path.unlink()
    with pytest.raises(BadFile, match=r"damaged.*cellvigil repair"):
        store.attach(late(one, "GFP"))
    path.write_bytes(good)
    assert store.attach(late(one, "GFP")).line


@pytest.mark.parametrize("call", [name for name in CALLS if name != "mkdir"])
def test_killed_before_any_call_the_image_is_the_old_or_the_new_one(memory, call):
    """And the channel comes again, as it does after a restart, since its file is not done."""
    one = whole()
    good, died, levels = 0, True, states(one)
    while died:
        path = memory / f"{call}{good}"
        with contextlib.closing(open_store(path, plans=PLANS)) as store:
            store.append(part(one, "Bright Field"))
            died = killed_at(call, good, partial(store.attach, late(one, "GFP")))
        assert [image_chunks(path)["0/c.0.0.0.0"] in levels[place] for place in (0, 1)].count(True) == 1
        assert image_chunks(path)["1/c.0.0.0.0"] in levels[0] + levels[1]
        with contextlib.closing(open_store(path, plans=PLANS)) as store:
            assert store.attach(late(one, "GFP")).t == 0
            assert image_chunks(path) == dict(zip(("0/c.0.0.0.0", "1/c.0.0.0.0"), levels[1], strict=True))
            assert store.ledger.frame(key()).channels == ("Bright Field", "GFP")
        with contextlib.closing(open_store(path, plans=PLANS)) as store:
            assert store.recovered == ()
            journal = read(plate_folder(path) / "journal.jsonl")
            [line] = [line for line in journal if line["kind"] == "attached"]
            frame_bytes = next(line for line in journal if line["kind"] == "frame")["bytes"]["pixels"]
            assert frame_bytes + line["bytes"]["pixels"] == sum(len(data) for data in levels[1])
        good += 1
    assert good > 2


def states(one: Record) -> tuple[list[bytes], list[bytes]]:
    """Both levels of the image before and after GFP came: full, reduced."""
    geometry = Geometry(CHANNELS, "uint16", SHAPE, (1.0, 1.0), ((0.0, 1.0),) * 3, None)
    found = []
    for last in (1, 2):
        full = shards.image_shard([*one.frame.pixels[:last], *[None] * (3 - last)])
        found.append([full, encode.reduced_image(full, geometry)])
    return found[0], found[1]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", [name for name in CALLS if name != "mkdir"])
def test_an_error_at_any_call_costs_no_image(memory, monkeypatch, call, error):
    one = whole()
    good, failed, levels = 0, True, states(one)
    while failed:
        path = memory / f"{call}{good}"
        store = open_store(path, plans=PLANS)
        store.append(part(one, "Bright Field"))
        with Disk(call, good, error).failing(monkeypatch):
            failed = not attached(store, one)
        found = image_chunks(path)
        assert found["0/c.0.0.0.0"] in (levels[0][0], levels[1][0])
        assert found["1/c.0.0.0.0"] in (levels[0][1], levels[1][1])
        if not attached(store, one):  # the journal's fsync failed: it says so until the store is opened again
            store.close()
            store = open_store(path, plans=PLANS)
            assert attached(store, one)
        store.close()
        assert image_chunks(path) == dict(zip(("0/c.0.0.0.0", "1/c.0.0.0.0"), levels[1], strict=True))
        assert not list(path.rglob(".tmp.*"))
        good += 1
    assert good > 2


def attached(store: Store, one: Record) -> bool:
    try:
        store.attach(late(one, "GFP"))
    except StoreError:
        return False
    return True


SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@SETTINGS
@given(data=st.data(), dtype=st.sampled_from(["uint8", "uint16", "float32"]))
def test_planes_put_into_a_shard_are_those_of_a_shard_made_with_them(data, dtype):
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))
    pixels = data.draw(hnp.arrays(dtype, shape))
    first: Any = data.draw(st.lists(st.booleans(), min_size=shape[0], max_size=shape[0]))
    added = data.draw(st.sets(st.integers(0, shape[0] - 1)))
    old = shards.image_shard([plane if there else None for plane, there in zip(pixels, first, strict=True)])
    wanted = [
        plane if there or c in added else None for c, (plane, there) in enumerate(zip(pixels, first, strict=True))
    ]
    new = shards.with_planes(old, shape[0], {channel: pixels[channel] for channel in added})
    assert new == shards.image_shard(wanted)
    sizes = shards.plane_sizes(new, shape[0])
    assert [size > 0 for size in sizes] == [plane is not None for plane in wanted]
    assert sum(sizes) == len(new) - 16 * shape[0] - 4


@SETTINGS
@given(data=st.data(), dtype=st.sampled_from(["uint8", "uint16", "float32", ">u2"]), later=st.booleans())
def test_the_reduced_levels_follow_from_the_full_ones_to_the_bit(memory, data, dtype, later):
    """What opening makes anew is what the commit wrote."""
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=11))
    one = record(n=3, shape=shape, pixels=data.draw(hnp.arrays(dtype, shape)), dimension=1)
    labels = data.draw(hnp.arrays(np.int32, shape[1:]))
    one = replace(one, cells=replace(one.cells, labels=labels))
    path = memory / str(len(list(memory.iterdir())))
    plans = {"scope": SourcePlan(channels=(*one.frame.channels, *["later"] * later))}
    with contextlib.closing(open_store(path, plans=plans)) as store:
        store.append(one)
        names = store.channels(SERIES)
    native = np.dtype(dtype).newbyteorder("=").name
    geometry = Geometry(names, native, shape[1:], (1.0, 1.0), ((0.0, 1.0),) * len(names), None)
    full, labels_full = ((field(path) / name).read_bytes() for name in ("0/c.0.0.0.0", "labels/cells/0/c.0.0.0"))
    assert encode.reduced_image(full, geometry) == (field(path) / "1/c.0.0.0.0").read_bytes()
    assert encode.reduced_labels(labels_full, geometry) == (field(path) / "labels/cells/1/c.0.0.0").read_bytes()
