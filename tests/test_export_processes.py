"""The processes of an export: one that has torch, one that checks and has none, and what ends them."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellvigil.errors import BundleError, UsageError
from cellvigil_export import checking, golden
from cellvigil_export.apart import apart
from cellvigil_export.make import export
from cellvigil_export.zoo import declared

SIDE = 8


def mistaken(where: Path) -> None:
    raise UsageError("the weights are not there", where=where, hint="bring them")


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
