"""How an export is made: checked in a process of its own, all or nothing on the disk, and refused where it must be."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cellvigil.bundle.encoder import GOLDEN_INPUT, GOLDEN_OUTPUT, INPUT_NAME, MODEL, OUTPUT_NAME, open_encoder
from cellvigil.bundle.files import read_manifest, written_whole
from cellvigil.encoder import open_session
from cellvigil.errors import BundleError
from cellvigil_export import checking, golden, parity
from cellvigil_export.make import export
from cellvigil_export.zoo import declared
from encoder_fixtures import rewritten

LITE0 = declared("efficientnet-lite0")
SIDE = 8


# Small graphs over pictures of 8 pixels: (n, 8, 8, 3) u8 -> (n, 192) f32.
def graph(path: Path, *nodes: onnx.NodeProto) -> Path:
    """A model that casts and flattens its pixels to "flat", and makes `features` of them by `nodes`."""
    start = [
        helper.make_node("Cast", [INPUT_NAME], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
    ]
    ends = (
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", SIDE * SIDE * 3])],
    )
    first = helper.make_tensor("first", TensorProto.INT64, [1], [0])
    whole = helper.make_graph([*start, *nodes], "small", *ends, initializer=[first])
    onnx.save_model(helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def faithful(path: Path) -> Path:
    return graph(path, helper.make_node("Identity", ["flat"], [OUTPUT_NAME]))


def moody(path: Path) -> Path:
    noise = helper.make_node("RandomUniformLike", ["flat"], ["noise"], low=0.0, high=0.01)
    return graph(path, noise, helper.make_node("Add", ["flat", "noise"], [OUTPUT_NAME]))


def sociable(path: Path) -> Path:
    mean = helper.make_node("ReduceMean", ["flat", "first"], ["mean"], keepdims=1)
    return graph(path, mean, helper.make_node("Sub", ["flat", "mean"], [OUTPUT_NAME]))


def invalid(path: Path) -> Path:
    return graph(path, helper.make_node("Add", ["flat", "nowhere"], [OUTPUT_NAME]))


def unknown(path: Path) -> Path:
    return graph(path, helper.make_node("Divine", ["flat"], [OUTPUT_NAME]))


def pictures() -> tuple[Any, Any]:
    pixels = golden.pictures(4, SIDE, 3, seed=1)
    return pixels, pixels.reshape(4, -1).astype(np.float32)


def test_a_model_that_gives_what_was_wanted_passes_and_its_figures_say_so(tmp_path: Path) -> None:
    pixels, wanted = pictures()
    request = checking.Request(str(faithful(tmp_path / MODEL)), "fp32", "arithmetic", drawn=3)
    alone, figures = checking.checked(request, pixels, wanted, scratch=tmp_path)
    np.testing.assert_array_equal(alone, wanted)
    assert figures == {
        "against": "arithmetic",
        "batches": [1, 3, 16],
        "pictures": 3,
        "cells": 1,
        "max_one_minus_cosine": 0.0,
        "max_abs_difference": 0.0,
        "max_one_minus_cosine_between_batches": 0.0,
        "repeated": "bit-equal in one session and in a second",
    }
    assert [path.name for path in tmp_path.iterdir()] == [MODEL]


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (moody, "other vectors when the same pictures are run again"),
        (sociable, "depends on the others in its batch|does not give what"),
        (invalid, "not valid ONNX"),
        (unknown, "not valid ONNX"),
        (lambda path: path.write_bytes(b"\x00\x01 no graph") and path, "not valid ONNX"),
    ],
    ids=["moody", "sociable", "invalid", "unknown operator", "no graph"],
)
def test_a_model_that_fails_a_check_is_refused(tmp_path: Path, model: Callable[[Path], Path], complaint: str) -> None:
    pixels, wanted = pictures()
    request = checking.Request(str(model(tmp_path / MODEL)), "fp32", "arithmetic", drawn=4)
    with pytest.raises(BundleError, match=complaint):
        checking.checked(request, pixels, wanted, scratch=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL]


def test_a_lower_precision_is_measured_against_the_checkpoint_and_still_must_not_see_its_batch(tmp_path: Path) -> None:
    pixels, wanted = pictures()
    off = np.roll(wanted, 1, axis=1)
    found = parity.measure(faithful(tmp_path / MODEL), pixels, off, against="another", precision="fp16")
    assert found.cosine > 1e-6
    with pytest.raises(BundleError, match="depends on the others in its batch"):
        parity.measure(sociable(tmp_path / MODEL), pixels, off, against="another", precision="fp16")


def test_the_golden_pair_is_what_the_fresh_process_got(lite0: Path) -> None:
    parity_ = read_manifest(lite0, "encoder")["parity"]
    assert (parity_["pictures"], parity_["cells"], parity_["batches"]) == (4, 0, [1, 3, 16])
    assert parity_["max_one_minus_cosine_between_batches"] <= 1e-6
    session = parity.opened(lite0 / MODEL, threads=1)
    again = parity.vectors(session, np.load(lite0 / GOLDEN_INPUT), batch=1)
    np.testing.assert_array_equal(again, np.load(lite0 / GOLDEN_OUTPUT))


def checking_child(parent: int) -> int:
    """The process that checks, once `parent` has started it."""
    for _ in range(20_000):
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with contextlib.suppress(OSError):
                if b"cellvigil_export.checking" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        time.sleep(0.005)
    pytest.fail("no checks were started")


def exporting(out: Path, *arguments: str, before: str = "") -> subprocess.Popen[str]:
    """`cellvigil-export run efficientnet-lite0 --out OUT` as a process."""
    code = f"import sys; from cellvigil_export.cli import main; {before}; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "run", LITE0.name, "--out", str(out), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_checks_that_are_killed_leave_nothing_and_are_told(tmp_path: Path) -> None:
    process = exporting(tmp_path / "out", before="pass")
    os.kill(checking_child(process.pid), signal.SIGKILL)
    _, complaint = process.communicate()
    assert process.returncode == 1
    assert "ended by SIGKILL" in complaint
    assert "memory" in complaint
    assert complaint.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, int], Path]]:
    """Mounts small disks over folders; they are unmounted when the test ends."""
    with contextlib.ExitStack() as mounted:

        def mount(folder: Path, size: int) -> Path:
            folder.mkdir(parents=True, exist_ok=True)
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
            return folder

        yield mount


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("share", [0.1, 0.97, 0.999], ids=["model", "check pictures", "in the process that checks"])
def test_a_disk_that_fills_up_leaves_nothing_of_the_export(
    lite0: Path, tmp_path: Path, small_disk: Callable[[Path, int], Path], share: float
) -> None:
    out = small_disk(tmp_path / "disk", int(size_of(lite0) * share))
    with pytest.raises(BundleError, match="the disk is full") as caught:
        export(LITE0, weights=None, out=out)
    assert str(out) in str(caught.value)
    assert list(out.iterdir()) == []


def test_a_disk_that_fills_up_leaves_the_earlier_bundle(
    lite0: Path, tmp_path: Path, small_disk: Callable[[Path, int], Path]
) -> None:
    out = small_disk(tmp_path / "disk", int(size_of(lite0) * 1.5))
    shutil.copytree(lite0, out / LITE0.name)
    with pytest.raises(BundleError, match="the disk is full"):
        export(LITE0, weights=None, out=out, force=True)
    assert [path.name for path in out.iterdir()] == [LITE0.name]
    open_encoder(out / LITE0.name)


def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))"
    assert resource.RLIMIT_FSIZE  # a quota, without a file system of our own
    process = exporting(tmp_path / "out", before=limit)
    _, complaint = process.communicate()
    assert process.returncode == 1
    assert "the export was not written" in complaint
    assert complaint.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / LITE0.name
    folder.mkdir()
    (folder / "notes.txt").write_text("a year's work")
    with pytest.raises(BundleError, match="no bundle"):
        export(LITE0, weights=None, out=tmp_path, force=True)
    assert (folder / "notes.txt").read_text() == "a year's work"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_in_the_place_of_a_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / LITE0.name).write_text("not a folder at all")
    with pytest.raises(BundleError, match="no bundle"), written_whole(tmp_path / LITE0.name, replace=True):
        pytest.fail("it was to be replaced")
    assert (tmp_path / LITE0.name).read_text() == "not a folder at all"


def test_only_the_hash_tells_a_flipped_bit_beside_the_graph(lite0: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lite0, tmp_path / "bundle"))
    model = onnx.load(folder / MODEL)
    onnx.save_model(model, folder / MODEL, save_as_external_data=True, location=f"{MODEL}.data")
    rewritten(folder)
    pixels = golden.pictures(1, LITE0.input_size, 3, seed=4)
    before = open_session(open_encoder(folder), device="cpu").embed(pixels)
    content = bytearray((folder / f"{MODEL}.data").read_bytes())
    content[1 << 20 | 3] ^= 0x40  # the exponent of some weight
    (folder / f"{MODEL}.data").write_bytes(content)
    loaded = parity.vectors(parity.opened(folder / MODEL, threads=1), pixels, batch=1)
    assert not np.array_equal(loaded, before)  # onnxruntime took it without a word
    with pytest.raises(BundleError, match=rf"{MODEL}\.data is not the file its manifest describes"):
        open_encoder(folder)


@pytest.mark.export
def test_weights_beside_the_graph_are_the_same_bytes_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra `export`")
    settings = {"hidden_size": 384, "num_hidden_layers": 1, "num_attention_heads": 6, "image_size": 28}
    transformers.Dinov2Model(transformers.Dinov2Config(**settings)).save_pretrained(tmp_path / "weights")
    monkeypatch.setattr("cellvigil_export.tensors.INLINE_LIMIT", 1000)
    first, second = (
        export(declared("dinov2-small"), weights=tmp_path / "weights", out=tmp_path / name).folder for name in "ab"
    )
    names = sorted(path.name for path in first.iterdir())
    assert f"{MODEL}.data" in names
    assert names == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
