"""What is encoded here, zarr-python reads back identically."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil.errors import StoreError
from cellvigil.store import layout, shards

SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def geometry(channels: int, shape: tuple[int, int], dtype: str) -> layout.Geometry:
    names = tuple(f"c{place}" for place in range(channels))
    return layout.Geometry(names, dtype, shape, (0.5, 0.5), ((0.0, 1.0),) * channels, None)


def written(folder: Path, document: dict, key: str, data: bytes) -> zarr.Array:
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "zarr.json").write_text(json.dumps(document))
    (folder / key).write_bytes(data)
    return zarr.open_array(folder, mode="r")


@SETTINGS
@given(data=st.data(), dtype=st.sampled_from(["uint8", "uint16", "float32", ">u2"]))
def test_an_image_shard_reads_back(tmp_path, data, dtype):
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))
    pixels = data.draw(hnp.arrays(dtype, shape))
    native = np.dtype(dtype).newbyteorder("=").name
    document = layout.image_array(geometry(shape[0], shape[1:], native), shape[1:], 3)
    array = written(tmp_path / "a", document, "c.1.0.0.0", shards.image_shard(list(pixels)))
    np.testing.assert_array_equal(array[1], pixels)
    assert not array[0].any()
    assert not array[2].any()


def test_an_absent_channel_reads_as_zero(tmp_path):
    plane = np.full((5, 6), 9, dtype=np.uint16)
    document = layout.image_array(geometry(3, (5, 6), "uint16"), (5, 6), 1)
    array = written(tmp_path / "a", document, "c.0.0.0.0", shards.image_shard([None, plane, None]))
    np.testing.assert_array_equal(array[0], [plane * 0, plane, plane * 0])


@SETTINGS
@given(labels=hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_a_label_chunk_reads_back(tmp_path, labels):
    document = layout.label_array(labels.shape, 2)
    array = written(tmp_path / "a", document, "c.1.0.0", shards.label_chunk(labels))
    np.testing.assert_array_equal(array[1], labels)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000, 8192])
def test_rows_read_back_and_the_rest_is_nan(tmp_path, dtype, count):
    rows = np.random.default_rng(count).random((count, 3)).astype(dtype)
    document = layout.table_array(dtype, 3, 1, {})
    data = shards.rows_shard(rows)
    array = written(tmp_path / "a", document, "c.0.0.0", data)
    np.testing.assert_array_equal(array[0, :count], rows)
    assert np.isnan(array[0, count:]).all()
    np.testing.assert_array_equal(shards.read_rows(data, count, 3, dtype), rows)


def test_more_rows_than_fit_are_refused():
    with pytest.raises(ValueError, match="8193"):
        shards.rows_shard(np.zeros((8193, 1), dtype=np.float32))


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-3] + b"xyz", lambda _: b""])
def test_a_damaged_shard_is_told(damage):
    data = shards.rows_shard(np.ones((10, 2), dtype=np.float32))
    with pytest.raises(StoreError, match="damaged"):
        shards.read_rows(damage(data), 10, 2, np.float32)


def test_fewer_rows_than_the_journal_counts_are_told():
    data = shards.rows_shard(np.ones((10, 2), dtype=np.float32))
    with pytest.raises(StoreError, match="lacks rows"):
        shards.read_rows(data, 300, 2, np.float32)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_images_and_labels_are_read_without_zarr_too(dtype):
    planes = np.random.default_rng(0).integers(0, 200, (2, 7, 9)).astype(dtype)
    data = shards.image_shard([planes[0], None, planes[1]])
    found = shards.read_image(data, 3, (7, 9), dtype)
    np.testing.assert_array_equal(found, [planes[0], np.zeros((7, 9)), planes[1]])
    assert found.dtype == np.dtype(dtype)
    labels = np.arange(63, dtype=np.int32).reshape(7, 9)
    np.testing.assert_array_equal(shards.read_labels(shards.label_chunk(labels), (7, 9)), labels)


@pytest.mark.parametrize("harm", [lambda d: d[:-9], lambda d: b"\xff" * 40 + d[40:], lambda d: b""])
def test_damaged_images_and_labels_are_told(harm):
    planes = np.random.default_rng(0).integers(0, 200, (2, 30, 40)).astype(np.uint16)
    with pytest.raises(StoreError):
        shards.read_image(harm(shards.image_shard(list(planes))), 2, (30, 40), "uint16")
    with pytest.raises(StoreError):
        shards.read_labels(harm(shards.label_chunk(planes[0].astype(np.int32))), (30, 40))
