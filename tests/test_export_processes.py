"""The processes of an export: one that has torch, one that checks and has none, and what ends them."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_encoder
from cellvigil.assays.sheet import WrongCells
from cellvigil.errors import BadFile, BundleError, CellvigilError, NotFinite, NotYet, StoreFull, UsageError
from cellvigil.install.steps import InstallError
from cellvigil_export import checking, golden
from cellvigil_export.apart import apart
from cellvigil_export.cells import labelled_cells
from cellvigil_export.make import export
from cellvigil_export.zoo import declared

SIDE = 8


def mistaken(where: Path) -> None:
    raise UsageError("the weights are not there", where=where, hint="bring them")


def broken(where: Path) -> None:
    raise BadFile("truncated", "it ends early", where=where, hint="copy it again")


def on_a_full_disk() -> None:
    raise OSError(errno.ENOSPC, "no room")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


needs_none = pytest.mark.skipif("torch" in sys.modules, reason="with torch loaded, the work is done in this process")


@needs_none
def test_what_is_made_apart_comes_back_and_its_process_is_gone() -> None:
    assert apart(os.getppid) == os.getpid()
    np.testing.assert_array_equal(apart(golden.pictures, 2, SIDE, 3, seed=1), golden.pictures(2, SIDE, 3, seed=1))
    assert apart(os.getpid) != os.getpid()


@needs_none
def test_an_error_of_what_is_made_apart_is_the_error_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        apart(mistaken, tmp_path)
    assert (caught.value.what, caught.value.where) == ("the weights are not there", str(tmp_path))
    assert caught.value.hint == "bring them"
    with pytest.raises(OSError, match="no room") as full:
        apart(on_a_full_disk)
    assert full.value.errno == errno.ENOSPC


@needs_none
def test_a_complaint_of_a_picture_keeps_its_reason_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(BadFile) as caught:
        apart(broken, tmp_path)
    error = caught.value
    assert (error.reason, error.what, error.hint) == ("truncated", "it ends early", "copy it again")
    assert (error.where, str(error)) == (str(tmp_path), f"it ends early ({tmp_path}); copy it again")


COMPLAINTS = [
    *(
        kind("it", where="there", hint="do so")
        for kind in (UsageError, BundleError, NotFinite, StoreFull, InstallError)
    ),
    BadFile("empty", "it", where="there"),
    NotYet("it", hint="do so", becomes="unreadable"),
    WrongCells(["line 2", "line 3"], Path("sheet.csv")),  # made of other things than it holds
]


@pytest.mark.parametrize("error", COMPLAINTS, ids=lambda error: type(error).__name__)
def test_every_complaint_is_the_same_after_a_trip(error: CellvigilError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert (str(back), back.args) == (str(error), error.args)


@needs_none
def test_a_broken_picture_is_named_by_an_export_that_is_made_apart(tmp_path: Path) -> None:
    cells = tiny_encoder.drawn_cells(tmp_path / "cells")
    path = labelled_cells(cells, tiny_encoder.DECLARATION.preprocessing.fit, 3).paths[
        41
    ]  # none of those looked at before
    os.truncate(path, 200)
    declaration = replace(tiny_encoder.DECLARATION, needs_torch=True)
    given = {"weights": tiny_encoder.weights(tmp_path / "tiny"), "out": tmp_path / "out"}
    with pytest.raises(BadFile) as caught:
        export(declaration, **given, precision="fp16", gate_images=cells)
    assert caught.value.where == str(path)
    assert caught.value.reason in {"truncated", "unreadable"}
    assert list((tmp_path / "out").iterdir()) == []


@needs_none
def test_what_is_made_apart_and_killed_is_told() -> None:
    with pytest.raises(BundleError, match="ended from outside; memory"):
        apart(killed)


@pytest.mark.export
def test_the_process_that_checks_has_no_torch() -> None:
    pytest.importorskip("torch", reason="needs the extra `export`")
    code = "import sys, json, cellvigil_export.checking; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


@pytest.mark.export
def test_torch_lets_go_of_the_weights_before_the_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra `export`")
    settings = {"hidden_size": 384, "num_hidden_layers": 1, "num_attention_heads": 6, "image_size": 28}
    transformers.Dinov2Model(transformers.Dinov2Config(**settings)).save_pretrained(tmp_path / "weights")
    mapped: list[bool] = []

    def looking(*arguments: Any, **options: Any) -> Any:
        mapped.append(str(tmp_path / "weights") in Path("/proc/self/maps").read_text())
        return checked(*arguments, **options)

    checked = checking.checked
    monkeypatch.setattr(checking, "checked", looking)
    export(declared("dinov2-small"), weights=tmp_path / "weights", out=tmp_path / "out")
    assert mapped == [False]


@pytest.mark.export
def test_a_process_of_its_own_makes_the_same_bundle_and_the_same_complaint(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra `export`")
    settings = {"hidden_size": 384, "num_hidden_layers": 1, "num_attention_heads": 6, "image_size": 28}
    weights = tmp_path / "weights"
    transformers.Dinov2Model(transformers.Dinov2Config(**settings)).save_pretrained(weights)
    here = export(declared("dinov2-small"), weights=weights, out=tmp_path / "here")  # torch is loaded in this process
    command = [sys.executable, "-m", "cellvigil_export", "run", "dinov2-small", "--weights", str(weights), "--out"]
    done = subprocess.run([*command, str(tmp_path / "there")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    there = tmp_path / "there" / "dinov2-small"
    assert all(path.read_bytes() == (there / path.name).read_bytes() for path in here.folder.iterdir())
    os.truncate(weights / "model.safetensors", 1000)
    done = subprocess.run([*command, str(tmp_path / "bad")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not a plain checkpoint of tensors" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "bad").iterdir()) == []
