"""The encoder at work on the CPU, with the real default encoder."""

import ctypes
import json
import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellvigil.bundle.encoder import GOLDEN_OUTPUT, MODEL, open_encoder
from cellvigil.data import F32, U8
from cellvigil.encoder import Encoder, one_minus_cosine, open_session
from cellvigil.errors import BundleError, DeviceError, UsageError
from cellvigil_export import golden
from encoder_fixtures import rewritten


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


no_gpu = pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")


@pytest.fixture(scope="module")
def encoder(lite0: Path) -> Encoder:
    return open_session(open_encoder(lite0), device="cpu", threads=2)


@pytest.fixture(scope="module")
def cells() -> U8:
    return golden.pictures(65, 224, 3, seed=7)


@pytest.fixture(scope="module")
def alone(encoder: Encoder, cells: U8) -> F32:
    """Each picture's vector when it is embedded by itself."""
    return np.concatenate([encoder.embed(cells[row : row + 1]) for row in range(len(cells))])


def test_it_says_what_it_is(encoder: Encoder) -> None:
    said = (encoder.name, encoder.provider, encoder.dimension, encoder.input_size, encoder.bundle.channels)
    assert said == ("efficientnet-lite0", "cpu", 1280, 224, 3)
    assert encoder.device_note == ""


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 31, 33, 65])
def test_a_vector_does_not_depend_on_its_batch_mates(encoder: Encoder, cells: U8, alone: F32, count: int) -> None:
    vectors = encoder.embed(cells[:count])
    assert vectors.shape == (count, 1280)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, alone[:count], rtol=0, atol=1e-5)


def test_a_vector_does_not_depend_on_its_place(encoder: Encoder, cells: U8, alone: F32) -> None:
    order = np.random.default_rng(1).permutation(21)
    np.testing.assert_allclose(encoder.embed(cells[order]), alone[order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_largest_batch_changes_no_vector(lite0: Path, cells: U8, alone: F32, batch: int) -> None:
    other = open_session(open_encoder(lite0), device="cpu", threads=1, batch=batch)
    assert max(other.buckets) <= batch
    np.testing.assert_allclose(other.embed(cells[:5]), alone[:5], rtol=0, atol=1e-5)


def test_vectors_tell_pictures_apart(alone: F32) -> None:
    assert float(one_minus_cosine(alone[:-1], alone[1:]).min()) > 1e-3


def test_grey_is_repeated_over_the_channels(encoder: Encoder, cells: U8) -> None:
    grey = cells[:3, :, :, :1]
    np.testing.assert_array_equal(encoder.embed(grey), encoder.embed(np.repeat(grey, 3, axis=3)))


def test_views_and_read_only_pictures_are_taken(encoder: Encoder, cells: U8) -> None:
    view = cells[:6:2, ::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(encoder.embed(view), encoder.embed(view.copy()))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 224, 224, 4), np.uint8),
        np.zeros((2, 112, 224, 3), np.uint8),
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((2, 224, 224, 3), np.float32),
    ],
    ids=["channels", "side", "axes", "dtype"],
)
def test_other_pictures_are_refused(encoder: Encoder, pixels: U8) -> None:
    with pytest.raises(UsageError, match=r"takes pictures \(n, 224, 224, 3 or 1\) uint8"):
        encoder.embed(pixels)


def test_it_runs_on_any_thread_and_on_several(encoder: Encoder, cells: U8, alone: F32) -> None:
    found: dict[int, F32] = {}

    def embed(part: int) -> None:
        found[part] = encoder.embed(cells[part * 10 : part * 10 + 10])

    threads = [threading.Thread(target=embed, args=(part,)) for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.concatenate([found[part] for part in range(3)]), alone[:30], rtol=0, atol=1e-5)


@no_gpu
def test_auto_without_a_gpu_takes_the_cpu_and_says_so(lite0: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cellvigil"):
        encoder = open_session(open_encoder(lite0), device="auto")
    assert encoder.provider == "cpu"
    assert encoder.device_note == "running on the CPU: the NVIDIA driver's library libcuda.so.1 is missing"
    assert [record.getMessage() for record in caplog.records] == [f"encoder efficientnet-lite0: {encoder.device_note}"]


@no_gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_was_asked_for_and_is_missing_is_an_error(lite0: Path, device: str) -> None:
    with pytest.raises(DeviceError, match=rf"{device} was asked for .* libcuda\.so\.1 is missing.*encoder\.device"):
        open_session(open_encoder(lite0), device=device)


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"device": "cpu", "batch": 0}])
def test_settings_that_mean_nothing_are_refused(lite0: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        open_session(open_encoder(lite0), **wrong)  # type: ignore[arg-type]


def turned(folder: Path) -> None:
    output = np.load(folder / GOLDEN_OUTPUT)
    output[1, :40] += 0.1
    np.save(folder / GOLDEN_OUTPUT, output)


def stretched(folder: Path) -> None:
    np.save(folder / GOLDEN_OUTPUT, np.load(folder / GOLDEN_OUTPUT) * np.float32(1.01))


def shortened(folder: Path) -> None:
    np.save(folder / GOLDEN_OUTPUT, np.load(folder / GOLDEN_OUTPUT)[:2])


def no_model(folder: Path) -> None:
    (folder / MODEL).write_bytes(b"this is no graph")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (turned, "does not give its golden output"),
        (stretched, "does not give its golden output"),
        (shortened, "differ in number"),
        (no_model, "the model does not load"),
    ],
)
def test_a_model_that_is_not_what_its_bundle_says_is_refused(
    lite0: Path, tmp_path: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    folder = Path(shutil.copytree(lite0, tmp_path / "bundle"))
    damage(folder)
    rewritten(folder)  # the hashes fit: only running it can tell
    with pytest.raises(BundleError, match=complaint):
        open_session(open_encoder(folder), device="cpu")


def test_a_model_of_another_shape_than_its_manifest_is_refused(lite0: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lite0, tmp_path / "bundle"))
    rewritten(folder, dimension=1000)
    with pytest.raises(BundleError, match="its manifest says"):
        open_session(open_encoder(folder), device="cpu")
    assert json.loads((folder / "manifest.json").read_text())["dimension"] == 1000


@pytest.mark.parametrize(
    ("got", "wanted", "expected"),
    [([[1, 0]], [[2, 0]], 0.0), ([[1, 0]], [[0, 1]], 1.0), ([[1, 0]], [[-1, 0]], 2.0), ([[0, 0]], [[1, 0]], 1.0)],
)
def test_one_minus_cosine(got: list[list[int]], wanted: list[list[int]], expected: float) -> None:
    assert one_minus_cosine(np.array(got), np.array(wanted)) == pytest.approx([expected])
