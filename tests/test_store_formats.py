"""Other people's tools read the store: validators and OME-Zarr readers, at every instant while it is written."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr

from cellvigil.store.writer import SourcePlan, open_store
from store_records import SERIES, key, record
from test_store_recovery import plate_folder

ome_reader = pytest.importorskip("ome_zarr.reader")
ome_io = pytest.importorskip("ome_zarr.io")

WELLS = ("A1", "A2", "B1", "pos 3")


def filled(path: Path, times: int = 2) -> Path:
    store = open_store(path, plans={"scope": SourcePlan(interval_s=1800.0)})
    for timepoint in range(times):
        for well in WELLS:
            for field in ("1", "ROI2"):
                store.append(record(key(well, timepoint, field)))
                store.publish(SERIES)
    store.close()
    return plate_folder(path)


def test_a_validator_passes_every_level(tmp_path):
    plate = filled(tmp_path)
    for part in ("", "A/1", "A/1/0", "0/posZ203/1", "A/1/0/labels", "A/1/0/labels/cells"):
        yaozarrs.validate_zarr_store(str(plate / part))


def test_the_second_validator_passes(tmp_path):
    models = pytest.importorskip("ome_zarr_models")
    plate = filled(tmp_path)
    assert models.open_ome_zarr(zarr.open_group(plate / "A/1/0", mode="r")).ome_attributes.multiscales
    assert models.open_ome_zarr(zarr.open_group(plate / "A/1/0/labels/cells", mode="r")).ome_attributes.image_label


def test_ome_zarr_opens_a_field_with_its_labels(tmp_path):
    plate = filled(tmp_path)
    nodes = list(ome_reader.Reader(ome_io.parse_url(str(plate / "A/2/1")))())
    image, labels = nodes[0], nodes[-1]
    expected = record(key("A2", 1, "ROI2"))
    np.testing.assert_array_equal(np.asarray(image.data[0][1]), expected.frame.pixels)
    np.testing.assert_array_equal(np.asarray(labels.data[0][1]), expected.cells.labels)
    assert [level.shape for level in image.data] == [(2, 2, 12, 18), (2, 2, 3, 5)]
    assert image.metadata["channel_names"] == ["channel-0", "channel-1"]


def test_ome_zarr_opens_the_plate_as_one_picture(tmp_path):
    plate = filled(tmp_path)
    [node] = ome_reader.Reader(ome_io.parse_url(str(plate)))()
    whole = np.asarray(node.data[0])
    rows = [row["name"] for row in json.loads((plate / "zarr.json").read_text())["attributes"]["ome"]["plate"]["rows"]]
    place = rows.index("B") * 12
    np.testing.assert_array_equal(whole[1, :, place : place + 12, 0:18], record(key("B1", 1)).frame.pixels)


def test_scale_and_translation_put_both_levels_in_one_place(tmp_path):
    plate = filled(tmp_path)
    multiscale = json.loads((plate / "A/1/0/zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    fine, coarse = (level["coordinateTransformations"] for level in multiscale["datasets"])
    assert fine[0]["scale"] == [1800.0, 1.0, 0.322, 0.322]
    assert coarse[0]["scale"] == [1800.0, 1.0, 1.288, 1.288]
    assert fine[1]["translation"] == [0, 0, 0, 0]
    assert coarse[1]["translation"] == pytest.approx([0, 0, 0.483, 0.483])  # the middle of 4 pixels


def test_every_array_names_its_dimensions(tmp_path):
    for path in filled(tmp_path).rglob("zarr.json"):
        document = json.loads(path.read_text())
        if document["node_type"] == "array":
            assert len(document["dimension_names"]) == len(document["shape"])
            assert document["chunk_key_encoding"]["configuration"]["separator"] == "."


def test_it_is_readable_at_every_instant_while_it_is_written(tmp_path):
    plate, done, problems, rounds = plate_folder(tmp_path), threading.Event(), [], [0]

    def read() -> None:
        while not done.is_set():
            if not (plate / "zarr.json").exists():
                continue  # before its first frame a plate is not there yet
            try:
                yaozarrs.validate_zarr_store(str(plate))
                well = json.loads((plate / "A/1/zarr.json").read_text())
                for image in well["attributes"]["ome"]["well"]["images"]:
                    array = zarr.open_array(plate / "A/1" / image["path"] / "0", mode="r")
                    name = json.loads((plate / "A/1" / image["path"] / "zarr.json").read_text())
                    field = name["attributes"]["cellvigil"]["field"]
                    for t in range(array.shape[0]):
                        expected = record(key("A1", t, field)).frame.pixels
                        assert np.array_equal(array[t], expected) or t == array.shape[0] - 1
                rounds[0] += 1
            except Exception as error:  # noqa: BLE001 - whatever a reader stumbles over is what this test is after
                problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        store = open_store(tmp_path)
        for timepoint in range(6):
            for well in ("A1", "B2", "C3"):
                for field in ("1", "2"):
                    store.append(record(key(well, timepoint, field)))
                    store.publish(SERIES)
        store.close()
    finally:
        done.set()
        reader.join()
    assert problems == []
    assert rounds[0] > 0
