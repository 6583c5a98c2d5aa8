"""The harness itself: an account that could not fail would prove nothing."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accounts import account
from fast_scope import digest_of, read_truth, render, stamped, wells_of, write_frames

from cellvigil.journal import parse, seal
from cellvigil.service.serve import once
from cellvigil.store.shards import image_shard, label_chunk
from lab import Lab, build_index
from lookup_encoder import lookup_bundle

FRAMES = 6


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the truth of six frames and the store that a service made of them."""
    root = tmp_path_factory.mktemp("kept")
    bundle = lookup_bundle(root / "encoders")
    lab = Lab(root, build_index(root / "indexes", bundle), bundle.parent)
    write_frames(
        lab.images, root / "truth.jsonl", render(2), wells_of(2), numbers=itertools.count(), may_go_on=FRAMES.__gt__
    )
    done = once(lab.config(store={"min_free_mb": 0.0}))
    assert done["counted"] + done["excluded"] == FRAMES
    return root


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    for name in ("store", "truth.jsonl"):
        (shutil.copytree if (kept / name).is_dir() else shutil.copy)(kept / name, tmp_path / name)
    return tmp_path


def told(root: Path, **other: Any) -> dict[str, Any]:
    return account(root / "store", root / "truth.jsonl", **other).as_dict()


def journal_of(root: Path) -> Path:
    [journal] = (root / "store").rglob("journal.jsonl")
    return journal


def rewritten(root: Path, change: Any) -> None:
    """Change the journal's last frame line; `change` gives the lines that stand for it."""
    rows = [parse(row) for row in journal_of(root).read_bytes().splitlines()]
    assert all(rows)
    place = max(number for number, row in enumerate(rows) if row["kind"] == "frame")
    rows[place : place + 1] = change(rows[place])
    journal_of(root).write_bytes(b"".join(seal(row) for row in rows))


def test_a_store_that_holds_everything_is_whole(kept):
    found = told(kept)
    assert found["whole"], found
    assert found["written"] == found["committed"] == FRAMES
    assert found["cells_journal"] == found["cells_labels"] == found["cells_features"] == found["cells_calls"] > FRAMES
    assert found["counted_journal"] == found["counted_tables"] > 0


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        (lambda line: [], "lost"),
        (lambda line: [line, line], "doubled"),
        (lambda line: [{**line, "revision": 1}], "revisions"),
        (lambda line: [{**line, "key": [*line["key"][:5], 99]}], "strange"),
        (lambda line: [{**line, "n_cells": line["n_cells"] + 1}], "torn"),
        (lambda line: [{**line, "counts": {**line["counts"], "live": 77}}], "torn"),
        (lambda line: [{**line, "t": line["t"] + 50}], "torn"),
    ],
)
def test_what_the_journal_says_wrongly_is_found(copied, change, trouble):
    rewritten(copied, change)
    found = told(copied)
    assert not found["whole"]
    assert found[trouble], found


def test_a_swapped_image_and_a_lost_label_are_found(copied):
    [shard, *_] = (copied / "store").rglob("0/c.0.0.0.0")
    shard.write_bytes(image_shard([np.zeros((256, 256), np.uint16)]))
    [labels, *_] = (copied / "store").rglob("labels/cells/0/c.0.0.0")
    labels.write_bytes(label_chunk(np.zeros((256, 256), np.int32)))
    assert told(copied)["torn_count"] == 2


def test_a_commit_that_was_seen_and_is_gone_is_found(copied):
    assert told(copied, seen=[("scope", "x", "y", "A1", "1", 0, 0)])["undone"]


def test_no_two_frames_of_the_microscope_are_alike(kept):
    written = read_truth(kept / "truth.jsonl").values()
    assert len({one.pixels for one in written}) == len({one.file for one in written}) == FRAMES
    picture = render(1)[0]
    digests = {digest_of(stamped(picture, number)) for number in (0, 1, 16, 65_536, 2**31)}
    assert len(digests) == 5


def test_the_truth_has_no_line_that_is_being_written(tmp_path):
    line = {"path": "a", "well": "A1", "timepoint": 0, "file": "f", "pixels": "p"}
    (tmp_path / "truth.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line)[:20])
    assert list(read_truth(tmp_path / "truth.jsonl")) == ["a"]
