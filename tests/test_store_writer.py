"""Committing frames: what goes in comes out, once, in the right place, and nothing that does not fit gets in."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr

from cellvigil.data import Baseline
from cellvigil.errors import BadFile, StoreError
from cellvigil.journal import read
from cellvigil.ledger import shares
from cellvigil.store import columns
from cellvigil.store.recover import plate_folders
from cellvigil.store.rows import read_embedding, read_table
from cellvigil.store.writer import SourcePlan, open_store
from cellvigil.table import rows, write_table
from store_records import BUNDLE, CLASSES, GROUPS, PROFILE, SERIES, START, calls_of, cells_of, key, record


def plate_folder(store: Path) -> Path:
    return store / "scope" / "240301_run" / "Plate 1.zarr"


@pytest.fixture
def store(memory):
    opened = open_store(memory / "store")
    yield opened
    opened.close()


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", ">u2"])
def test_a_frame_comes_back_as_it_went_in(tmp_path, dtype):
    pixels = np.random.default_rng(1).integers(0, 250, (2, 13, 18)).astype(dtype)
    one = record(n=7, pixels=pixels)
    with_store = open_store(tmp_path)
    done = with_store.append(one)
    with_store.close()
    field = zarr.open_group(plate_folder(tmp_path) / "A/1/0", mode="r")
    np.testing.assert_array_equal(field["0"][done.t], pixels)
    np.testing.assert_array_equal(field["labels/cells/0"][done.t], one.cells.labels)
    assert field["1"].shape == (1, 2, 4, 5)
    assert field["labels/cells/1"].shape == (1, 4, 5)
    means = pixels[:, :12, :16].reshape(2, 3, 4, 4, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(field["1"][done.t][:, :3, :4], means, atol=0.51)
    features = read_table(plate_folder(tmp_path) / "A/1/0", "cells/features", done.t, 7)
    np.testing.assert_array_equal(features["centroid_y_px"], one.cells.centroids_px[:, 0])
    np.testing.assert_array_equal(features["box_x1_px"], one.cells.boxes_px[:, 3])
    np.testing.assert_array_equal(features["area_um2"], one.cells.areas_um2)
    np.testing.assert_array_equal(features["touches_edge"] > 0, one.cells.touches_edge)
    calls = read_table(plate_folder(tmp_path) / "A/1/0", f"cells/calls-{BUNDLE[:12]}", done.t, 7)
    np.testing.assert_array_equal(calls["best_id"], one.calls.best_ids)
    np.testing.assert_array_equal(calls["unknown"] > 0, one.calls.unknown)
    np.testing.assert_array_equal(calls["vote_share:apoptotic"], one.calls.vote_share[:, 1])
    np.testing.assert_array_equal(calls["neighbour_4"], one.calls.neighbours[:, 4])
    assert np.isnan(calls["probability:live"]).all()
    embedding = read_embedding(plate_folder(tmp_path) / "A/1/0", "cells/embedding-lite0", done.t, 7)
    np.testing.assert_array_equal(embedding, one.embeddings["lite0"].astype(np.float16).astype(np.float32))


def test_zarr_reads_the_tables_with_their_columns(store):
    one = record(n=3)
    store.append(one)
    store.publish(SERIES)
    features = zarr.open_array(plate_folder(store.path) / "A/1/0/cells/features", mode="r")
    column = features.attrs["columns"].index("area_um2")
    np.testing.assert_array_equal(features[0, :3, column], one.cells.areas_um2)
    assert np.isnan(features[0, 3:]).all()
    calls = zarr.open_array(plate_folder(store.path) / f"A/1/0/cells/calls-{BUNDLE[:12]}", mode="r")
    assert calls.attrs["classes"] == list(CLASSES)
    assert calls.attrs["bundle_sha256"] == BUNDLE


def test_the_journal_line_says_what_was_done(tmp_path):
    moment = datetime(2024, 3, 2, 1, 2, 3, tzinfo=UTC)
    store = open_store(tmp_path, now=lambda: moment)
    one = record(key("B2", 4), n=6, missing_channels=("GFP",), excluded="focus")
    done = store.append(one, folder="240301_2000", number=5)
    store.close()
    line = read(plate_folder(tmp_path) / "journal.jsonl")[-1]
    assert line == done.line
    counted = ~one.cells.touches_edge
    known = counted & ~one.calls.unknown
    assert line["counts"] == {
        **{name: int(np.sum(known & (one.calls.best_ids == place))) for place, name in enumerate(CLASSES)},
        "unknown": int(np.sum(counted & one.calls.unknown)),
    }
    assert sum(line["counts"].values()) + line["edge"] == line["n_cells"] == 6
    assert line["outcome"] == "excluded"
    assert line["quality"]["excluded"] == "focus"
    assert line["missing_channels"] == ["GFP"]
    assert line["committed_at"] == "2024-03-02T01:02:03.000000Z"
    assert line["acquired_at"] == "2024-03-01T22:00:00.000000Z"
    assert (line["folder"], line["number"]) == ("240301_2000", 5)
    assert line["files"] == [[ref.path, ref.size, ref.mtime_ns, ref.digest] for ref in one.frame.files]
    settings = [entry for entry in read(plate_folder(tmp_path) / "journal.jsonl") if entry["kind"] == "setting"]
    assert [entry["provenance"] for entry in settings] == [dict(one.provenance)]
    assert settings[0]["setting"] == line["setting"]


def test_the_same_frame_is_committed_once(store):
    first = store.append(record())
    before = files_under(store.path)
    again = store.append(record())
    assert (again.t, again.revision, again.line) == (first.t, first.revision, {})
    assert files_under(store.path) == before


def test_the_same_revision_with_other_files_is_refused(store):
    one = record()
    store.append(one)
    other = replace(one.frame, files=(replace(one.frame.files[0], digest="f" * 64),))
    with pytest.raises(StoreError, match="commit it as revision 1"):
        store.append(replace(one, frame=other))


def test_a_revision_takes_a_new_slot_and_the_old_one_stays(store):
    old = store.append(record(n=3))
    store.append(record(key(timepoint=1)))
    new = store.append(record(n=4, revision=1))
    assert (old.t, new.t) == (0, 2)
    assert new.line["supersedes"] == 0
    store.publish(SERIES)
    field = zarr.open_group(plate_folder(store.path) / "A/1/0", mode="r")
    np.testing.assert_array_equal(field["0"][0], record(n=3).frame.pixels)
    np.testing.assert_array_equal(field["0"][2], record(n=4, revision=1).frame.pixels)
    assert store.ledger.frame(key()).n_cells == 4
    assert store.ledger.frame(key(), 0).n_cells == 3


def test_no_cell_is_not_no_frame(store):
    done = store.append(record(n=0))
    store.publish(SERIES)
    [value] = store.ledger.well_times(SERIES)
    assert value.counts == {"live": 0, "apoptotic": 0, "debris": 0, "unknown": 0}
    assert value.complete
    assert shares(value.counts, GROUPS) == {}
    field = plate_folder(store.path) / "A/1/0"
    assert len(read_table(field, "cells/features", done.t, 0)["area_um2"]) == 0
    assert np.isnan(zarr.open_array(field / "cells/features", mode="r")[0]).all()


def test_every_cell_at_the_border_counts_nothing(store):
    cells = cells_of(4, (12, 18))
    one = replace(record(n=4), cells=replace(cells, touches_edge=np.ones(4, dtype=bool)))
    line = store.append(one).line
    assert (line["n_cells"], line["edge"], sum(line["counts"].values())) == (4, 4, 0)


def test_8192_cells_fit_and_8193_do_not(store):
    shape = (1, 100, 100)
    assert store.append(record(n=8192, shape=shape, dimension=1)).line["n_cells"] == 8192
    before = files_under(store.path)
    with pytest.raises(BadFile) as caught:
        store.append(record(key(timepoint=1), n=8193, shape=shape, dimension=1))
    assert caught.value.reason == "too_many_cells"
    assert files_under(store.path) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": (2, 12, 19)}, "image size"),
        ({"dtype": "uint8"}, "pixel type"),
        ({"shape": (3, 12, 18)}, "channels"),
        ({"channels": ("channel-0", "GFP")}, "GFP"),
        ({"pixel_size_um": (0.65, 0.65)}, "pixel size"),
    ],
)
def test_another_geometry_is_refused_before_anything_is_written(store, change, says):
    store.append(record())
    before = files_under(store.path)
    with pytest.raises(BadFile, match=says) as caught:
        store.append(record(key("B1"), **change))
    assert caught.value.reason == "geometry_changed"
    assert files_under(store.path) == before
    assert store.append(record(key("B1"))).t == 0


def test_pixels_no_plate_can_hold_are_refused(store):
    with pytest.raises(BadFile) as caught:
        store.append(record(pixels=np.zeros((2, 4, 4), dtype=np.float64)))
    assert caught.value.reason == "wrong_type"


def test_a_channel_that_comes_late_finds_its_place(tmp_path):
    plans = {"scope": SourcePlan(channels=("Bright Field", "GFP"), interval_s=900.0)}
    store = open_store(tmp_path, plans=plans)
    plain = record(key(timepoint=0), shape=(1, 6, 8), channels=("Bright Field",))
    both = record(key(timepoint=1), shape=(2, 6, 8), channels=("GFP", "Bright Field"))
    store.append(plain)
    store.append(both)
    store.close()
    field = zarr.open_group(plate_folder(tmp_path) / "A/1/0", mode="r")
    np.testing.assert_array_equal(field["0"][0], [plain.frame.pixels[0], np.zeros((6, 8))])
    np.testing.assert_array_equal(field["0"][1], both.frame.pixels[::-1])
    multiscale = field.attrs["ome"]["multiscales"][0]
    assert multiscale["axes"][0] == {"name": "t", "type": "time", "unit": "second"}
    assert multiscale["datasets"][0]["coordinateTransformations"][0]["scale"][0] == 900.0


def test_hostile_names_stay_inside_the_store(tmp_path):
    series = ("scope", "../../../../outside", "/etc")
    store = open_store(tmp_path / "a" / "b" / "store")
    names = ["../../x", "", "A/1", "C" * 400, "café 7", "\0", "\udcff"]
    for well in names:
        store.append(record(key(well, field="../" + well, series=series)))
    store.close()
    inside = tmp_path / "a" / "b" / "store"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(inside)] == []
    [plate] = plate_folders(inside)
    yaozarrs.validate_zarr_store(str(plate))
    assert write_table(inside, tmp_path / "cells.csv") == 5 * len(names)
    again = open_store(inside)
    assert set(again.ledger.fields(series)) == set(names)
    assert again.recovered == ()
    again.close()


def test_wells_and_fields_keep_their_places_over_a_restart(tmp_path):
    first = open_store(tmp_path)
    for field in ("ROI2", "1"):
        first.append(record(key("B2", 0, field)))
    first.close()
    second = open_store(tmp_path)
    for field in ("9", "1", "ROI2"):
        second.append(record(key("B2", 1, field)))
    second.close()
    frames = {frame.key.field: frame.path for frame in second.ledger.frames(SERIES)}
    assert frames == {"ROI2": "B/2/0", "1": "B/2/1", "9": "B/2/2"}
    well = json.loads((plate_folder(tmp_path) / "B/2/zarr.json").read_text())
    assert [image["path"] for image in well["attributes"]["ome"]["well"]["images"]] == ["0", "1", "2"]


def shown(store: Path) -> set[int]:
    return {json.loads(path.read_text())["shape"][0] for path in store.rglob("zarr.json") if is_array(path)}


def is_array(path: Path) -> bool:
    return json.loads(path.read_text())["node_type"] == "array"


def test_a_round_is_shown_when_every_field_has_committed_it(store):
    for well in ("A1", "A2"):
        store.append(record(key(well)))
    assert store.publish(SERIES) == 1
    store.append(record(key("A1", 1)))
    assert store.publish(SERIES) == 1
    assert shown(store.path) == {1}
    store.append(record(key("A2", 1)))
    assert store.publish(SERIES) == 2
    assert shown(store.path) == {2}


@pytest.mark.parametrize(
    ("later", "overdue", "expected"),
    [([], 0, 1), ([], 1, 2), ([2], -1, 1), ([2, 3], -1, 2), ([2, 3, 4], -1, 3)],
    ids=["not overdue", "overdue", "next begun", "two later begun", "three later begun"],
)
def test_a_round_that_lacks_a_well_does_not_hold_up_the_plate(store, later, overdue, expected):
    for well in ("A1", "A2"):
        store.append(record(key(well)))
    for timepoint in (1, *later):
        store.append(record(key("A1", timepoint)))
    assert store.publish(SERIES, overdue=overdue) == expected
    assert shown(store.path) == {expected}


def test_closing_shows_everything(store):
    for well in ("A1", "A2"):
        store.append(record(key(well)))
    store.append(record(key("A1", 1)))
    store.close()
    assert shown(store.path) == {2}


def test_a_new_field_shows_as_many_times_as_the_others(store):
    for timepoint in range(3):
        store.append(record(key("A1", timepoint)))
        store.publish(SERIES)
    store.append(record(key("H12", 3)))
    store.append(record(key("A1", 3)))
    assert shown(store.path) == {3}
    assert store.publish(SERIES) == 4
    assert shown(store.path) == {4}


def test_a_new_index_and_a_new_encoder_get_tables_of_their_own(store):
    store.append(record())
    newer = record(key(timepoint=1), dimension=4, calls=calls_of(5, bundle="99" * 32))
    store.append(replace(newer, provenance={**newer.provenance, "encoder:lite0": "77" * 32}))
    store.publish(SERIES)
    frames = store.ledger.frames(SERIES)
    assert frames[0].tables == (f"cells/calls-{BUNDLE[:12]}", "cells/embedding-lite0", PROFILE)
    assert frames[1].tables[:2] == ("cells/calls-999999999999", "cells/embedding-lite0-777777777777-4")
    assert frames[1].tables[2].startswith("cells/profile-")
    assert frames[1].tables[2] != PROFILE
    assert shown(store.path) == {2}
    assert [bundle.sha256 for bundle in store.ledger.bundles(SERIES)] == [BUNDLE, "99" * 32]


def test_another_call_of_the_same_cells_becomes_the_current_one(tmp_path):
    store = open_store(tmp_path)
    one = record(n=6)
    store.append(one)
    frame = store.ledger.frame(key())
    groups = {"a": "alive", "b": "dead"}
    later = calls_of(6, seed=5, bundle="12" * 32, classes=2)
    store.append_calls(frame, later, ("a", "b"), groups)
    store.close()
    again = open_store(tmp_path)
    bundle, counts = again.ledger.calls(key(), 0)
    assert bundle == "12" * 32
    counted = ~one.cells.touches_edge
    assert sum(counts.values()) == int(counted.sum())
    assert counts["a"] == int(np.sum(counted & ~later.unknown & (later.best_ids == 0)))
    assert again.ledger.bundle(SERIES, "12" * 32).groups == groups
    field = plate_folder(tmp_path) / "A/1/0"
    for sha256, calls in ((BUNDLE, one.calls), ("12" * 32, later)):
        table = again.ledger.bundle(SERIES, sha256).table
        np.testing.assert_array_equal(read_table(field, table, 0, 6)["best_id"], calls.best_ids)
    again.close()


def test_an_index_that_called_before_is_not_heard_again_but_its_calls_become_the_current_ones(tmp_path):
    store = open_store(tmp_path)
    one = record(n=6)
    store.append(one)
    frame, chunk = store.ledger.frame(key()), plate_folder(tmp_path) / f"A/1/0/cells/calls-{BUNDLE[:12]}/c.0.0.0"
    before, written = store.ledger.calls(key(), 0), chunk.read_bytes()
    store.append_calls(frame, calls_of(6, seed=5, bundle="12" * 32), CLASSES, GROUPS)
    assert store.ledger.calls(key(), 0)[0] == "12" * 32
    store.append_calls(frame, calls_of(6, seed=7), CLASSES, GROUPS)
    sure = store.ledger.well_time(SERIES, "A1", 0)
    store.close()
    assert chunk.read_bytes() == written
    again = open_store(tmp_path)
    assert again.ledger.calls(key(), 0) == before
    assert again.ledger.well_time(SERIES, "A1", 0) == sure
    assert (sure.novel, sure.typical) == pytest.approx(tuple(
        float(np.mean(part)) for part in (
            one.calls.novelty_p[~one.cells.touches_edge] <= 0.1, one.calls.novelty_p[~one.cells.touches_edge] > 0.5)
    ))  # fmt: skip
    again.close()


def test_embeddings_can_be_left_out(tmp_path):
    store = open_store(tmp_path, embeddings=False)
    store.append(record())
    store.close()
    assert not list(tmp_path.rglob("embedding-*"))


def test_the_baseline_survives_a_restart(tmp_path):
    store = open_store(tmp_path)
    assert store.baseline(SERIES) is None
    store.set_baseline(SERIES, Baseline((100.5, 4000.0), 2.25))
    store.close()
    again = open_store(tmp_path)
    assert again.baseline(SERIES) == Baseline((100.5, 4000.0), 2.25)
    assert again.append(record()).t == 0
    again.close()


def test_a_focus_that_is_no_number_is_stored_as_absent(store):
    one = record()
    line = store.append(replace(one, quality=replace(one.quality, focus=float("nan")))).line
    assert line["quality"]["focus"] is None


def test_a_second_writer_is_refused_by_name(tmp_path):
    store = open_store(tmp_path)
    program = "import sys; from cellvigil.store.writer import open_store; from pathlib import Path\n"
    program += "open_store(Path(sys.argv[1]))"
    path = os.pathsep.join(sys.path)
    other = subprocess.run(  # noqa: PLW1510 - it must fail
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert "StoreError" in other.stderr
    assert f"pid {os.getpid()}" in other.stderr
    with pytest.raises(StoreError, match=f"pid {os.getpid()}"):
        open_store(tmp_path)
    store.close()
    open_store(tmp_path).close()


def test_a_closed_store_takes_nothing(store):
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append(record())


def test_two_series_of_one_folder_are_told(tmp_path):
    store = open_store(tmp_path)
    store.append(record())
    store.close()
    journal = plate_folder(tmp_path) / "journal.jsonl"
    target = tmp_path / "scope" / "240301_run" / "Plate 2.zarr"
    plate_folder(tmp_path).rename(target)  # as a person might: the journal still says Plate 1
    assert not journal.exists()
    again = open_store(tmp_path)
    with pytest.raises(StoreError, match="one folder"):
        again.append(record(key(series=(*SERIES[:2], "Plate 2"))))
    again.close()


def test_acquisition_times_are_kept_in_utc(store):
    store.append(record(key(timepoint=2)))
    assert store.ledger.frame(key(timepoint=2)).acquired_at == START.replace(hour=21)


def test_sets_and_reasons_come_back(store):
    one = record(n=9)
    calls = replace(one.calls, unknown=np.arange(9) < 3, unknown_reason=("novel", "uncertain", "novel", *[""] * 6))
    done = store.append(replace(one, calls=calls))
    table = read_table(plate_folder(store.path) / "A/1/0", f"cells/calls-{BUNDLE[:12]}", done.t, 9)
    assert table["unknown"].tolist() == [1, 2, 1, 0, 0, 0, 0, 0, 0]
    for class_id, name in enumerate(CLASSES):
        np.testing.assert_array_equal(table[f"in_set:{name}"] > 0, calls.conformal_set[:, class_id])


def test_a_plate_of_an_older_version_goes_on_with_its_columns(tmp_path, monkeypatch):
    """Its calls tables lack the sets: what is appended has the columns that the plate began with."""
    with monkeypatch.context() as older:
        named = columns.call_columns
        older.setattr(columns, "call_columns", lambda classes: named(classes)[: -len(classes)])
        with contextlib.closing(open_store(tmp_path / "store")) as store:
            store.append(record(key(timepoint=0), n=4))
    with contextlib.closing(open_store(tmp_path / "store")) as store:
        one = record(key(timepoint=1), n=6)
        done = store.append(one)
        other = store.append(record(key(timepoint=1, series=("scope", "next", "Plate 1")), n=6))
        store.append_calls(store.ledger.frame(one.frame.key), calls_of(6, seed=3), CLASSES, GROUPS)
    field = plate_folder(tmp_path / "store") / "A/1/0"
    calls = read_table(field, f"cells/calls-{BUNDLE[:12]}", done.t, 6)
    assert not [name for name in calls if name.startswith("in_set:")]
    np.testing.assert_array_equal(calls["neighbour_4"], one.calls.neighbours[:, 4])  # that index is not heard twice
    array = zarr.open_array(field / f"cells/calls-{BUNDLE[:12]}", mode="r")
    assert array.shape[2] == len(calls)
    np.testing.assert_array_equal(array[done.t, :6, -1], calls["neighbour_4"])
    found = [row for batch in rows(tmp_path / "store") for row in batch.to_pylist()]
    sets = {(row["experiment"], row["in_set_live"] is None) for row in found}
    assert sets == {(SERIES[1], True), ("next", False)}
    assert other.t == 0


def test_the_journal_says_how_sure_the_calls_of_the_counted_cells_are(tmp_path):
    edge = np.array([False, False, True, False, False, True])  # as `cells_of` marks them
    calls = replace(
        calls_of(6),
        best_ids=np.array([0, 1, 0, 2, 0, 0], np.int16),
        probabilities=np.array(
            [[0.5, 0.3, 0.2], [0.1, 0.9, 0.0], [1, 0, 0], [0.2, 0.2, 0.6], [np.nan] * 3, [1, 0, 0]], np.float32
        ),
        novelty_p=np.array([0.1, 0.7, 0.01, 0.05, np.nan, 0.01], np.float32),
    )
    store = open_store(tmp_path)
    one = record(n=6, calls=calls)
    np.testing.assert_array_equal(one.cells.touches_edge, edge)
    line = store.append(one).line
    assert line["certainty"] == {"rated": 3, "probability": 2.0, "tested": 3, "novel": 2, "typical": 1}
    [value] = store.ledger.well_times(SERIES)
    assert value.probability == pytest.approx(2 / 3)
    assert value.novel == pytest.approx(2 / 3)
    sure = replace(calls, probabilities=np.full((6, 3), 0.9, np.float32), novelty_p=np.full(6, np.nan, np.float32))
    store.append_calls(store.ledger.frame(key()), replace(sure, bundle_sha256="12" * 32), CLASSES, GROUPS)
    store.close()
    with contextlib.closing(open_store(tmp_path)) as again:
        [value] = again.ledger.well_times(SERIES)
    assert value.probability == pytest.approx(0.9)
    assert np.isnan(value.novel)


def test_a_frame_without_cells_is_neither_sure_nor_unsure(tmp_path):
    with contextlib.closing(open_store(tmp_path)) as store:
        line = store.append(record(n=0)).line
    assert line["certainty"] == {"rated": 0, "probability": 0.0, "tested": 0, "novel": 0, "typical": 0}
