"""Encoder bundles on disk: what is opened is what was written, or it is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cellvigil.bundle.encoder import GOLDEN_INPUT, GOLDEN_OUTPUT, MODEL, encoder_sha256, open_encoder
from cellvigil.bundle.files import MANIFEST
from cellvigil.encoder import open_session
from cellvigil.errors import BundleError
from encoder_fixtures import rewritten


@pytest.fixture
def bundle(lite0: Path, tmp_path: Path) -> Path:
    """A copy of the default encoder's bundle, to be damaged."""
    return Path(shutil.copytree(lite0, tmp_path / "bundle"))


@pytest.fixture
def split(bundle: Path) -> Path:
    """The same encoder, its weights in a file beside the graph, as models beyond 2 GiB have them."""
    model = onnx.load(bundle / MODEL)
    onnx.save_model(model, bundle / MODEL, save_as_external_data=True, location=f"{MODEL}.data")
    rewritten(bundle)
    return bundle


def manifest(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def flip(path: Path, at: int = -9) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_bundle_opens_as_it_was_written(lite0: Path) -> None:
    bundle = open_encoder(lite0)
    assert (bundle.name, bundle.precision) == ("efficientnet-lite0", "fp32")
    assert (bundle.input_size, bundle.channels, bundle.dimension) == (224, 3, 1280)
    assert bundle.model_path == lite0 / MODEL
    assert bundle.golden_input().shape[1:] == (224, 224, 3)
    assert bundle.golden_output().shape == (len(bundle.golden_input()), 1280)


def test_a_bundle_with_its_weights_beside_runs(split: Path) -> None:
    assert (split / f"{MODEL}.data").stat().st_size > (split / MODEL).stat().st_size
    assert open_session(open_encoder(split), device="cpu").provider == "cpu"


@pytest.mark.parametrize("name", [MODEL, f"{MODEL}.data", GOLDEN_INPUT, GOLDEN_OUTPUT])
@pytest.mark.parametrize(
    "damage", [flip, Path.unlink, lambda path: os.truncate(path, 100)], ids=["flipped", "gone", "cut"]
)
def test_a_damaged_file_is_refused(split: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(split / name)
    with pytest.raises(BundleError, match=name):
        open_encoder(split)


def test_a_data_file_that_is_not_listed_is_refused(bundle: Path) -> None:
    (bundle / f"{MODEL}.data").write_bytes(b"weights of someone else")
    with pytest.raises(BundleError, match=rf"does not list {MODEL}\.data"):
        open_encoder(bundle)


@pytest.mark.parametrize("name", ["../stolen.npy", "/etc/hostname"])
def test_a_manifest_cannot_name_files_elsewhere(bundle: Path, name: str) -> None:
    (bundle.parent / "stolen.npy").write_bytes(b"x")
    content = manifest(bundle)
    content["files"][name] = {"size": 1, "sha256": "0" * 64}
    (bundle / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(BundleError, match="outside the bundle"):
        open_encoder(bundle)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema_version": 2}, "schema version 2 is not 1"),
        ({"kind": "index"}, "not a encoder bundle"),
        ({"dimension": None}, "does not describe an image encoder"),
        ({"channels": 0}, "does not describe an image encoder"),
        ({"dtype": "float64"}, "does not describe an image encoder"),
        ({"input": None}, "incomplete"),
        ({"files": None}, "incomplete"),
        ({"files": {}}, "does not list"),
        ({"files": {MODEL: 1, GOLDEN_INPUT: {}, GOLDEN_OUTPUT: {}}}, "lacks its size or sha256"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(bundle: Path, change: dict[str, object], complaint: str) -> None:
    (bundle / MANIFEST).write_text(json.dumps({**manifest(bundle), **change}))
    with pytest.raises(BundleError, match=complaint):
        open_encoder(bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_manifest_that_is_no_json_object_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError):
        open_encoder(bundle)


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        open_encoder(tmp_path)


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "write",
    [pickled, lambda path: path.write_bytes(b"no array"), lambda path: np.save(path, np.zeros((2, 7), np.float32))],
    ids=["pickle", "no array", "other shape"],
)
def test_a_golden_output_that_is_no_plain_array_is_refused(bundle: Path, write: Callable[[Path], None]) -> None:
    write(bundle / GOLDEN_OUTPUT)
    rewritten(bundle)
    with pytest.raises(BundleError, match="golden pair"):
        open_encoder(bundle).golden_output()


def test_verified_hashes_are_remembered_until_the_file_changes(bundle: Path, tmp_path: Path) -> None:
    memory = tmp_path / "state" / "verified.json"
    first = open_encoder(bundle, memory=memory)
    assert str(bundle / MODEL) in json.loads(memory.read_text())
    assert open_encoder(bundle, memory=memory).sha256 == first.sha256
    stat = (bundle / MODEL).stat()
    flip(bundle / MODEL)
    with pytest.raises(BundleError, match=MODEL):
        open_encoder(bundle, memory=memory)
    # What is remembered is trusted: path, size, time and inode as they were. Without the memory everything is hashed.
    os.utime(bundle / MODEL, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    open_encoder(bundle, memory=memory)
    with pytest.raises(BundleError, match=MODEL):
        open_encoder(bundle)


def test_the_identity_is_that_of_the_model_not_of_the_machine_that_exported_it(bundle: Path, lite0: Path) -> None:
    np.save(bundle / GOLDEN_OUTPUT, np.load(bundle / GOLDEN_OUTPUT) * np.float32(1 + 1e-6))
    rewritten(bundle, tools={"onnx": "9.9"}, parity={})
    assert open_encoder(bundle).sha256 == open_encoder(lite0).sha256


@pytest.mark.parametrize("change", [{"name": "other"}, {"dimension": 7}, {"precision": "fp16"}])
def test_what_changes_the_vectors_changes_the_identity(lite0: Path, change: dict[str, object]) -> None:
    assert encoder_sha256({**manifest(lite0), **change}) != encoder_sha256(manifest(lite0))


def test_other_weights_are_another_identity(bundle: Path, lite0: Path) -> None:
    flip(bundle / MODEL)
    rewritten(bundle)
    assert open_encoder(bundle).sha256 != open_encoder(lite0).sha256
