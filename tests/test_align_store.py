"""A daemon's store as the target of an alignment: its own vectors, of all frames or those that are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cellvigil.bundle.index import ReferenceCell, open_index
from cellvigil.data import ImageRule
from cellvigil.errors import UsageError
from cellvigil.store.writer import open_store
from cellvigil_indexes.cli import main
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.inputs.stored_rows import write_rows
from cellvigil_indexes.inputs.stored_vectors import COLUMNS, read_stored_vectors
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.writing import write_index
from store_records import key, record

SHAPE = (1, 12, 18)


@pytest.fixture
def store(tmp_path) -> Path:
    """Two wells, two time points, two fields, twelve cells a frame (four at the border); A1's first came twice."""
    opened = open_store(tmp_path / "store")
    for well in ("A1", "B2"):
        for timepoint in (0, 1):
            for field in ("1", "2"):
                opened.append(record(key(well, timepoint, field), n=12, shape=SHAPE))
    opened.append(record(key("A1", 0, "1"), n=3, shape=SHAPE, revision=1))
    opened.close()
    return tmp_path / "store"


@pytest.fixture
def index(tmp_path) -> Path:
    """An index of the store's encoder, made of vectors like its own but elsewhere."""
    rng = np.random.default_rng(5)
    names = ["live", "dead"]
    cells = [ReferenceCell(names[i % 2], f"{i}.png", (0, 0, 9, 9), str(i)) for i in range(120)]
    vectors = rng.random((120, 8)).astype(np.float32) + np.arange(120)[:, None] % 2
    draft = Draft(
        collected=Collected(cells, {"lite0": vectors}, np.zeros((120, 64, 64, 1), np.uint8)),
        set_aside=None,
        groups={"live": "alive", "dead": "dead"},
        encoders={"lite0": "ef" * 32},
        used=["lite0"],
        image_rule=ImageRule(),
        settings=IndexSettings(k_max=20),
        provenance={},
    )
    write_index(tmp_path / "indexes" / "states", draft)
    return tmp_path / "indexes" / "states"


def align(index, capsys, *words):
    code = main([str(word) for word in ("align", index, *words, "--out", index.parent, "--json")])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


@pytest.mark.parametrize(("wells", "frames"), [((), 8), (("A1",), 4), (("A1", "B2"), 8)])
def test_the_table_names_each_frame_once_at_its_last_revision(store, index, tmp_path, wells, frames):
    assert write_rows(tmp_path / "rows.csv", store, wells) == frames
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    revisions = {(row["well"], row["timepoint"], row["field"]): row["revision"] for row in rows}
    assert len(revisions) == frames
    assert revisions["A1", "0", "1"] == "1"
    found = read_stored_vectors(store, tmp_path / "rows.csv", open_index(index).encoders)
    assert len(found) == 8 * (frames - 1) + 2  # two of three cells count, in the frame that came again, too


def test_a_well_that_is_not_there_is_named(store, tmp_path):
    with pytest.raises(UsageError, match="no frame of well H12"):
        write_rows(tmp_path / "rows.csv", store, ("H12",))
    with pytest.raises(UsageError, match="no plate"):
        write_rows(tmp_path / "rows.csv", tmp_path / "nowhere")


@pytest.mark.parametrize("option", ["--store", "--target"])
def test_a_store_is_a_target_without_any_encoder(store, index, capsys, option):
    words = (option, store, "--mode", "states", "--present", "live", "--force", "--to", "carried")
    code, result, error = align(index, capsys, *words)
    assert code == 0, error
    assert result["target"]["cells"] == 58
    assert result["target"]["store"] == "store"
    assert set(result["kept"]) == {"live", "dead"}
    assert open_index(index.parent / "carried").manifest["alignment"]["of"]["sha256"] == open_index(index).sha256


def test_frames_can_be_named_and_limited(store, index, tmp_path, capsys):
    write_rows(tmp_path / "rows.csv", store)
    words = ("--store", store, "--rows", tmp_path / "rows.csv", "--limit", 50, "--to", tmp_path / "fit" / "one")
    code, result, error = align(index, capsys, *words, "--mode", "states", "--present", "live", "--force")
    assert code == 0, error
    assert result["target"]["cells"] == 50
    assert Path(result["folder"]) == tmp_path / "fit" / "one"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rows", "rows.csv", "--wells", "A1"), "one of them"),
        (("--pixel-size", 0.5), "vectors already"),
        (("--wells", "H12"), "no frame of well H12"),
        (("--rows", "nothing.csv"), "cannot be read"),
        (("--limit", 0), "leaves no cell"),
    ],
)
def test_what_a_store_cannot_be_asked_is_refused(store, index, tmp_path, capsys, words, said):
    write_rows(tmp_path / "rows.csv", store)
    named = [tmp_path / word if str(word).endswith(".csv") else word for word in words]
    code, _, error = align(index, capsys, "--store", store, *named, "--to", "carried")
    assert code == 2
    assert said in error
    assert not (index.parent / "carried").exists()
