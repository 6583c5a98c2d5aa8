"""Cells of a daemon's earlier runs, labelled in its own table, as reference cells."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from cellvigil.bundle.encoder import open_encoder
from cellvigil.bundle.index import open_index
from cellvigil.data import Baseline, ImageRule
from cellvigil.encoder import open_session
from cellvigil.errors import BadFile, UsageError
from cellvigil.service.serve import once
from cellvigil.store.recover import plate_folders
from cellvigil.store.rows import read_embedding
from cellvigil.store.writer import open_store
from cellvigil.table import rows, write_table
from cellvigil_indexes.inputs.collecting import collect
from cellvigil_indexes.inputs.gathering import Gathering
from cellvigil_indexes.inputs.labelled import grouped
from cellvigil_indexes.inputs.pictures import picture_rule, settled
from cellvigil_indexes.inputs.stored import read_store
from store_records import key, record

COLUMNS = ("experiment", "plate", "well", "field", "timepoint", "cell", "class")
FIRST = ("240301_run", "Plate 1", "A1", "1", 0, 1, "live")


def quiet(done, total, /, cached=0):
    pass


def table(path, *labelled, columns=COLUMNS):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *labelled])
    return path


@pytest.fixture
def store(tmp_path):
    """Two wells with two fields each, one channel; cells of one pixel. A1/1 at 0 was rewritten and has fewer cells."""
    opened = open_store(tmp_path / "store")
    for well in ("A1", "B2"):
        for field in ("1", "2"):
            opened.append(record(key(well, 0, field), n=6, shape=(1, 12, 18)))
    opened.append(record(key("A1", 0, "1"), n=4, shape=(1, 12, 18), revision=1))
    opened.set_baseline(("scope", "240301_run", "Plate 1"), Baseline((100.0, 60000.0), 1.0))
    opened.close()
    return tmp_path / "store"


def test_a_run_s_own_vectors_come_back_from_its_labelled_table(lab, lite0, tmp_path):
    """End to end: watched, stored, exported, labelled, read, cut and embedded anew; the stored vectors are those."""
    lab.film(timepoints=1)
    once(lab.config(segment={"cell_diameter_um": 18.0}))
    write_table(lab.store, tmp_path / "cells.csv")
    exported = pyarrow.csv.read_csv(tmp_path / "cells.csv")
    classes = [f"{best} again" if place % 3 else "" for place, best in enumerate(exported["best"].to_pylist())]
    pyarrow.csv.write_csv(exported.append_column("class", [classes]), tmp_path / "labelled.csv")
    found = read_store(lab.store, tmp_path / "labelled.csv")
    assert Counter(c.class_name for i in found.images for c in i.cells) == Counter(name for name in classes if name)
    assert not found.warnings
    index = open_index(lab.indexes / "states")
    how = picture_rule(index.image_rule, found.images, found.pixel_size_um)
    encoder = open_session(open_encoder(lite0), device="cpu")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        got = collect(grouped(found.images, None), how, [encoder], quiet, Gathering(cache=cache))
        assert {cell.group.rsplit("/", 1)[1] for cell in got.cells} == {"A1", "B1"}
        before = 0
        for image in found.images:
            stored = image.stored
            count = sum(
                1 for row in exported.to_pylist() if (row["well"], row["field"]) == (stored.key.well, _field(stored))
            )
            vectors = read_embedding(stored.folder, f"cells/embedding-{encoder.name}", stored.t, count)
            numbers = [cell.number - 1 for cell in image.cells]
            fresh = got.embeddings[encoder.name][before : before + len(numbers)]
            np.testing.assert_allclose(fresh, vectors[numbers], rtol=2e-3, atol=2e-3)
            before += len(numbers)


def _field(stored):
    return int(stored.key.field) if stored.key.field.isdigit() else stored.key.field


def test_rows_name_frames_cells_and_groups(store, tmp_path):
    path = table(
        tmp_path / "labels.csv",
        (*FIRST, ""),
        ("240301_run", "Plate 1", "A1", "1", "0.0", 4, "dead", "donor 7"),
        ("240301_run", "Plate 1", "B2", "2", 0, 6, "dead", ""),
        ("240301_run", "Plate 1", "B2", "2", 0, 5, " ", ""),
        columns=(*COLUMNS, "group"),
    )
    found = read_store(store, path)
    images = grouped(found.images, None)
    assert [image.name for image in images] == [
        "scope/240301_run/Plate 1/A1/1/t0.r1",
        "scope/240301_run/Plate 1/B2/2/t0",
    ]
    cells = collect(images, picture_rule(ImageRule(pixel_size_um=0.322), images, 0.322), [], quiet).cells
    assert [(cell.class_name, cell.group) for cell in cells] == [
        ("live", "scope/240301_run/Plate 1/A1"),
        ("dead", "donor 7"),
        ("dead", "scope/240301_run/Plate 1/B2"),
    ]
    by = {rule: [i.group for i in grouped(found.images, rule)] for rule in ("plate", "experiment", "well", "folder")}
    assert by["plate"] == ["scope/240301_run/Plate 1"] * 2
    assert by["experiment"] == ["scope/240301_run"] * 2
    assert by["folder"] == ["scope/240301_run/Plate 1/A1/1", "scope/240301_run/Plate 1/B2/2"]
    assert found.classes == ["live", "dead"]
    assert found.pixel_size_um == pytest.approx(0.322)


def test_parquet_and_revisions(store, tmp_path):
    whole = [row for batch in rows(store) for row in batch.to_pylist()]
    for row in whole:
        row["class"] = "live"
    names = (*COLUMNS, "revision", "source")
    columns = {name: [row[name] for row in whole] for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
    found = read_store(store, tmp_path / "labels.parquet")
    assert sorted(len(image.cells) for image in found.images) == [4, 6, 6, 6, 6]
    assert sum(image.name.endswith(".r1") for image in found.images) == 1


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            ("240301_run", "Plate 1", "A1", "1", 9, 1, "dead"),
            "rows that name no frame: 1 (row 2: 240301_run/Plate 1/A1",
        ),
        (
            ("240301_run", "Plate 1", "A1", "1", 0, 5, "dead"),
            "rows that name no cell: 1 (row 2: cell 5 of a frame with 4",
        ),
        (("240301_run", "Plate 1", "A1", "1", 0, 0, "dead"), "rows that name no cell: 1"),
        (("240301_run", "Plate 1", "A1", "1", 0, 1, "dead"), "rows that give a cell another class: 1 (row 2: dead)"),
        (("240301_run", "Plate 1", "A1", "1", 0, 2, "Live"), "class names that differ in case only: 1"),
        (("240301_run", "Plate 1", "A1", "1", 0, "two", "dead"), "rows with a number that is none: 1"),
        (("240301_run", "Plate 1", "A1", "1", "0.5", 2, "dead"), "rows with a number that is none: 1"),
    ],
)
def test_rows_that_make_no_sense_are_refused_or_left_out(store, tmp_path, row, told):
    path = table(tmp_path / "labels.csv", FIRST, row)
    with pytest.raises(UsageError) as caught:
        read_store(store, path)
    assert told in str(caught.value)
    found = read_store(store, path, skip_bad=True)
    assert {cell.class_name for image in found.images for cell in image.cells} == {"live"}
    assert told in found.warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.write_text("a,b\n1,2\n"), "no column experiment, plate"),
        (lambda p: table(p, (*FIRST[:-1], "")), "no row of the table has a class"),
        (lambda p: p.rename(p.with_suffix(".txt")), "neither .parquet nor .csv"),
        (lambda p: p.write_bytes(b""), "cannot be read"),
        (lambda p: p.unlink(), "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(store, tmp_path, change, message):
    path = table(tmp_path / "labels.csv", FIRST)
    change(path)
    path = path if path.exists() or not path.with_suffix(".txt").exists() else path.with_suffix(".txt")
    with pytest.raises(UsageError, match=message):
        read_store(store, path)


def test_a_store_without_a_plate(tmp_path):
    with pytest.raises(UsageError, match="no plate"):
        read_store(tmp_path, table(tmp_path / "labels.csv", FIRST))


def test_which_channel_must_be_told_and_two_sources_are_told_apart(tmp_path):
    opened = open_store(tmp_path / "store")
    opened.append(record(key(), n=2))
    opened.append(record(key(series=("other", *key().series[1:])), n=2))
    opened.close()
    path = table(tmp_path / "labels.csv", FIRST)
    with pytest.raises(UsageError, match="several sources"):
        read_store(tmp_path / "store", path, channel="channel-1")
    path = table(tmp_path / "labels.csv", (*FIRST, "other"), columns=(*COLUMNS, "source"))
    with pytest.raises(UsageError, match=r"which channel.*channel-0, channel-1"):
        read_store(tmp_path / "store", path)
    with pytest.raises(UsageError, match="channel 'GFP' is not there"):
        read_store(tmp_path / "store", path, channel="GFP")
    (image,) = read_store(tmp_path / "store", path, channel="channel-1").images
    wanted = record(key(series=("other", *key().series[1:]))).frame.pixels
    np.testing.assert_array_equal(image.stored.pixels(), wanted)


def test_pictures_are_mapped_as_they_were_when_they_were_live(store, tmp_path):
    images = read_store(store, table(tmp_path / "labels.csv", FIRST)).images
    rule = settled(ImageRule(), images, intensity="auto", colour="auto")
    assert (rule.intensity.kind, rule.colour) == ("percentiles", "grey")
    assert images[0].stored.intensity == (100.0, 60000.0)
    assert picture_rule(rule, images, 0.322).ranges == {}


def test_frames_that_retention_deleted_are_refused_or_left_out(store, tmp_path):
    found = read_store(store, table(tmp_path / "labels.csv", FIRST, (*FIRST[:2], "B2", "1", 0, 2, "dead")))
    images = grouped(found.images, None)
    how = picture_rule(ImageRule(pixel_size_um=0.322), images, 0.322)
    (plate_folders(store)[0] / "A/1/0/0").joinpath(f"c.{images[0].stored.t}.0.0.0").unlink()
    with pytest.raises(BadFile, match="not in the store any more"):
        collect(images, how, [], quiet)
    for cache in (None, tmp_path / "cache"):
        got = collect(images, how, [], quiet, Gathering(skip_bad=True, cache=cache))
        assert [cell.class_name for cell in got.cells] == ["dead"]
        assert "do not open: 1" in got.warnings[0]
