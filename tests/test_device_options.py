"""What onnxruntime's providers are told; buffers that are bound; runs that are recorded, as far as a CPU can show it.

No GPU was to be had: the options are compared with what onnxruntime's pages say, and what runs on a GPU's bound buffers
runs here on the CPU's.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellvigil.encoder
from cellvigil import config, device
from cellvigil.binding import Bound
from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME, open_encoder
from cellvigil.device_options import Batches, Tuning, provider_chain, tuning_of
from cellvigil.encoder import open_session
from cellvigil.errors import DeviceError, UsageError
from cellvigil.service.admission import check_precision
from cellvigil_export import golden
from encoder_fixtures import rewritten
from lookup_encoder import DIMENSION, NAME, SIDE, lookup_bundle

CUDA = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
NEAR = {"rtol": 1e-5, "atol": 1e-5}  # sums of another batch size may be taken in another order
SHAPES = Batches("pixels", (224, 224, 3), (1, 8, 32))
PROFILE = {
    "trt_profile_min_shapes": "pixels:1x224x224x3",
    "trt_profile_opt_shapes": "pixels:32x224x224x3",
    "trt_profile_max_shapes": "pixels:32x224x224x3",
}
CACHED = {
    "trt_engine_cache_enable": "True",
    "trt_engine_cache_path": "state/tensorrt/ab",
    "trt_timing_cache_enable": "True",
    "trt_timing_cache_path": "state/tensorrt/ab",
}


@pytest.mark.parametrize(
    ("wanted", "tuning", "first", "cuda"),
    [
        ("cpu", Tuning(), {}, None),
        ("cpu", Tuning(mem_limit=1, cuda_graphs=True, half=True, engines=Path("e"), batches=SHAPES), {}, None),
        ("cuda", Tuning(), CUDA, CUDA),
        ("cuda", Tuning(mem_limit=2_500_000_000), CUDA | {"gpu_mem_limit": "2500000000"}, None),
        ("cuda", Tuning(cuda_graphs=True), CUDA | {"enable_cuda_graph": "1"}, None),
        ("cuda", Tuning(half=True, engines=Path("e"), batches=SHAPES), CUDA, None),
        ("tensorrt", Tuning(), {"trt_fp16_enable": "False"}, CUDA),
        ("tensorrt", Tuning(half=True), {"trt_fp16_enable": "True"}, CUDA),
        ("tensorrt", Tuning(cuda_graphs=True), {"trt_fp16_enable": "False"}, CUDA),
        (
            "tensorrt",
            Tuning(mem_limit=10**9),
            {"trt_fp16_enable": "False", "trt_max_workspace_size": "1000000000"},
            CUDA | {"gpu_mem_limit": "1000000000"},
        ),
        ("tensorrt", Tuning(engines=Path("state/tensorrt/ab")), {"trt_fp16_enable": "False"} | CACHED, CUDA),
        ("tensorrt", Tuning(batches=SHAPES), {"trt_fp16_enable": "False"} | PROFILE, CUDA),
    ],
)
def test_a_provider_is_told_what_was_asked_for_and_no_more(wanted, tuning, first, cuda):
    chain = provider_chain(wanted, tuning)
    assert chain[0][1] == first
    assert chain[-1] == ("CPUExecutionProvider", {})
    assert all(type(value) is str for _, options in chain for value in options.values())
    if cuda is not None:
        assert dict(chain)["CUDAExecutionProvider"] == cuda


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("cpu", ["CPUExecutionProvider"]),
        ("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("tensorrt", ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]),
    ],
)
def test_what_one_provider_cannot_do_the_next_one_does(wanted, names):
    assert [name for name, _ in provider_chain(wanted, Tuning())] == names


def configured(**encoder: object) -> config.Config:
    source = {"name": "scope", "kind": "ometiff", "path": "in", "index": "states"}
    return config.parse({"sources": [source], "encoder": encoder, "state_dir": "state"}, base=Path("/lab"))


@pytest.mark.parametrize(
    ("encoder", "model", "tuning"),
    [
        ({}, "", Tuning()),
        ({}, "ab12", Tuning(engines=Path("/lab/state/tensorrt/ab12"))),
        ({"gpu_mem_limit_gb": 2.5}, "", Tuning(mem_limit=2_500_000_000)),
        ({"cuda_graphs": True}, "", Tuning(cuda_graphs=True)),
    ],
)
def test_the_configuration_says_how_a_model_is_run(encoder, model, tuning):
    assert tuning_of(configured(**encoder), model) == tuning


def test_engines_that_cannot_be_kept_are_told_of_before_they_are_built(tmp_path: Path) -> None:
    (tmp_path / "tensorrt").write_text("a file where a folder should be")
    with pytest.raises(DeviceError, match=r"engines cannot be kept: .*state_dir"):
        device._make_folder(Tuning(engines=tmp_path / "tensorrt" / "ab"))


@pytest.fixture(scope="module")
def lookup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lookup_bundle(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def session(lookup: Path):
    return device.open_model(lookup / "model.onnx", device="cpu", threads=1)


@pytest.fixture(scope="module")
def pictures():
    return golden.pictures(8, SIDE, 3, seed=3)


def plainly(session, pixels):
    return session.session.run([OUTPUT_NAME], {INPUT_NAME: pixels})[0]


def bound_to(session, size: int, **how: object) -> Bound:
    inputs = {INPUT_NAME: np.full((size, SIDE, SIDE, 3), 77, np.uint8)}
    return Bound(
        device.runtime(), session.session, inputs, (OUTPUT_NAME, (size, DIMENSION), np.float32), on_gpu=False, **how
    )


@settings(max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.booleans())
def test_bound_runs_give_what_plain_ones_give(session, pictures, counts, is_grey):
    """Whatever was run before in the same buffers, and however few pictures there are."""
    bound = bound_to(session, 4, graph=4)
    for turn, count in enumerate(counts):
        block = np.roll(pictures, turn, axis=0)[:count, :, :, : 1 if is_grey else 3]
        batch = np.zeros((4, SIDE, SIDE, 3), np.uint8)
        batch[:count] = block
        np.testing.assert_array_equal(bound.run(block), plainly(session, batch))


def test_a_result_outlives_the_next_run_and_what_is_missing_is_black(session, pictures):
    bound = bound_to(session, 2)
    first = bound.run(pictures[:2])
    kept = first.copy()
    second = bound.run(pictures[4:5])
    np.testing.assert_array_equal(first, kept)
    batch = np.concatenate([pictures[4:5], np.zeros((1, SIDE, SIDE, 3), np.uint8)])
    np.testing.assert_array_equal(second, plainly(session, batch))


def test_runs_of_the_same_buffers_from_several_threads_wait_for_each_other(session, pictures):
    bound, found = bound_to(session, 1), {}

    def run(row: int) -> None:
        for _ in range(40):
            found[row] = bound.run(pictures[row : row + 1])

    threads = [threading.Thread(target=run, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in range(4):
        np.testing.assert_array_equal(found[row], plainly(session, pictures[row : row + 1]))


def test_an_encoder_makes_buffers_for_each_batch_size_once(lookup: Path, pictures) -> None:
    encoder = open_session(open_encoder(lookup), device="cpu", threads=1)
    opened = device.open_model(lookup / "model.onnx", device="cpu", threads=1)
    made: list[int] = []

    def bind(size: int) -> Bound:
        made.append(size)
        return bound_to(opened, size)

    as_on_a_gpu = replace(encoder, provider="cuda", buckets=(1, 8, 32), binder=bind, bound={})
    for count in (1, 3, 8, 2, 1):
        np.testing.assert_allclose(as_on_a_gpu.embed(pictures[:count]), encoder.embed(pictures[:count]), **NEAR)
    assert sorted(made) == [1, 8]


def test_buffers_that_find_no_room_halve_the_batch(lookup: Path, pictures) -> None:
    encoder = open_session(open_encoder(lookup), device="cpu", threads=1)
    opened = device.open_model(lookup / "model.onnx", device="cpu", threads=1)
    halved: list[int] = []

    def bind(size: int) -> Bound:
        if size > 1:
            raise RuntimeError("Failed to allocate memory for requested buffer")
        return bound_to(opened, size)

    tight = replace(encoder, provider="cuda", buckets=(1, 8), binder=bind, bound={}, on_halved=lambda: halved.append(1))
    np.testing.assert_allclose(tight.embed(pictures), encoder.embed(pictures), **NEAR)
    assert halved == [1]


class Recording:
    """The CPU's session as a GPU's that records runs; `stale`: a replay gives what the recorded run gave."""

    def __init__(self, session, *, records: bool, stale: bool) -> None:
        self._session, self._records, self._stale = session, records, stale
        self._seen: set[int] = set()
        self.options: list[object] = []

    def get_providers(self):
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def get_provider_options(self):
        return {"CUDAExecutionProvider": {"enable_cuda_graph": "1" if self._records else "0"}}

    def run_with_iobinding(self, binding, options=None):
        self.options.append(options)
        if self._records and self._stale and id(binding) in self._seen:
            return None
        self._seen.add(id(binding))
        return self._session.run_with_iobinding(binding, options)

    def __getattr__(self, name):
        return getattr(self._session, name)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """A "GPU" whose sessions and buffers are the CPU's; every opening is noted with its tuning."""
    real, opened = device._session, []

    class OnCpu(Bound):
        def __init__(self, *args, on_gpu, **kwargs):
            super().__init__(*args, on_gpu=False, **kwargs)

    def made(*, refuses: bool = False, stale: bool = False):
        def session(ort, path, wanted, tuning):
            opened.append((wanted, tuning))
            if refuses and tuning.cuda_graphs:
                raise RuntimeError("not all compute graph nodes have been partitioned to the CUDAExecutionProvider")
            on_cpu = real(ort, path, "cpu", tuning)
            return Recording(on_cpu, records=tuning.cuda_graphs, stale=stale) if wanted == "cuda" else on_cpu

        monkeypatch.setattr(device, "_session", session)
        monkeypatch.setattr(device, "missing", lambda *_: ())
        monkeypatch.setattr(cellvigil.encoder, "Bound", OnCpu)
        return opened

    return made


def test_runs_are_recorded_where_they_are_bound(lookup: Path, gpu, pictures) -> None:
    opened = gpu()
    encoder = open_session(open_encoder(lookup), device="auto", batch=32, tuning=Tuning(cuda_graphs=True))
    plain = open_session(open_encoder(lookup), device="cpu")
    assert (encoder.provider, encoder.is_recorded, encoder.buckets) == ("cuda", True, (1, 8, 32))
    assert sorted(encoder.bound) == [1, 8, 32]  # every batch size was tried with the golden pair
    np.testing.assert_allclose(encoder.embed(pictures[:5]), plain.embed(pictures[:5]), **NEAR)
    (_, tuning), *_ = opened
    assert tuning.batches == Batches(INPUT_NAME, (SIDE, SIDE, 3), (1, 8, 32))
    assert not tuning.half


def test_all_runs_of_a_gpu_are_on_one_thread(lookup: Path, gpu, pictures) -> None:
    """What onnxruntime records, and its handles, belong to the thread that ran."""
    gpu()
    encoder = open_session(open_encoder(lookup), device="cuda")
    ran: set[int] = set()
    real = encoder.session.run_with_iobinding

    def noted(*args):
        ran.add(threading.get_ident())
        return real(*args)

    encoder.session.run_with_iobinding = noted
    threads = [threading.Thread(target=encoder.embed, args=(pictures,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 1
    assert threading.get_ident() not in ran


@pytest.mark.parametrize("how", [{"refuses": True}, {"stale": True}], ids=["refused", "stale"])
def test_what_cannot_be_recorded_runs_without_and_says_so(
    lookup: Path, gpu, pictures, how, caplog: pytest.LogCaptureFixture
) -> None:
    """A replay that gives the former run's vectors is found out: the golden pair is run twice in each batch size."""
    opened = gpu(**how)
    with caplog.at_level(logging.WARNING, logger="cellvigil"):
        encoder = open_session(open_encoder(lookup), device="cuda", tuning=Tuning(cuda_graphs=True))
    assert not encoder.is_recorded
    assert [tuning.cuda_graphs for _, tuning in opened] == [True, False]
    assert "CUDA graph" in caplog.text
    plain = open_session(open_encoder(lookup), device="cpu")
    np.testing.assert_allclose(encoder.embed(pictures), plain.embed(pictures), **NEAR)


@pytest.fixture
def int8(lookup: Path, tmp_path: Path) -> Path:
    """The lookup encoder as a bundle that says it is of 8 bits."""
    folder = Path(shutil.copytree(lookup, tmp_path / NAME))
    rewritten(folder, precision="int8", golden_tolerance=1e-6)
    return folder


def test_eight_bits_stay_on_the_cpu_also_where_there_is_a_gpu(int8: Path, gpu) -> None:
    gpu()
    assert open_session(open_encoder(int8), device="auto").provider == "cpu"
    with pytest.raises(UsageError, match=r"lookup is int8, which is for the CPU only .*fp16"):
        open_session(open_encoder(int8), device="cuda")


@pytest.mark.parametrize(
    ("accepted", "has", "named"),
    [
        ("fp32", ("fp32", "fp32"), None),
        ("fp16", ("fp32", "fp16"), None),
        ("int8", ("fp32", "fp16", "int8"), None),
        ("fp32", ("fp32", "fp16"), r"1 \(fp16\)"),
        ("fp16", ("int8", "fp16"), r"0 \(int8\)"),
        ("int8", ("fp8",), r"0 \(fp8\)"),
    ],
)
def test_precision_is_the_coarsest_that_is_accepted(lookup: Path, accepted: str, has, named) -> None:
    bundle = open_encoder(lookup)
    bundles = [replace(bundle, name=str(place), precision=each) for place, each in enumerate(has)]
    wanted = configured(precision=accepted).encoder
    if named is None:
        check_precision(bundles, wanted)
        return
    with pytest.raises(UsageError, match=rf"encoder\.precision is {accepted}, and coarser is {named} "):
        check_precision(bundles, wanted)


def test_nothing_is_recorded_for_who_binds_nothing(lookup: Path, gpu) -> None:
    opened = gpu()
    device.open_model(lookup / "model.onnx", device="cuda", tuning=Tuning(cuda_graphs=True))
    assert not opened[0][1].cuda_graphs


def test_tf32_stays_off_for_tensorrt_too(lookup: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has no option for it, only NVIDIA's environment variable. This build has no TensorRT, and says so."""
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    monkeypatch.setattr(os, "environ", os.environ)  # put back as it was, whatever is set in it
    tuning = Tuning(engines=tmp_path / "tensorrt" / "ab")
    with pytest.warns(UserWarning, match="is not in available provider names"):
        session = device._session(device.runtime(), lookup / "model.onnx", "tensorrt", tuning)
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert os.environ.pop("NVIDIA_TF32_OVERRIDE") == "0"
    assert (tmp_path / "tensorrt" / "ab").is_dir()
    assert open_encoder(lookup).name == NAME
