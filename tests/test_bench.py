"""`cellvigil bench`: every bundle is measured by itself; one that is damaged is told of, and hinders no other."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from cellvigil import device
from cellvigil.bench import machine
from cellvigil.bench.figures import Batch, Measured, Report, Wanted
from cellvigil.bench.flops import flops_of
from cellvigil.bench.peak import _KINDS, _model, _values, peak_of
from cellvigil.bench.running import bench, bundles_in, with_shares
from cellvigil.bench.table import table_of
from cellvigil.binding import Bound
from cellvigil.cli import main
from cellvigil.errors import UsageError
from cellvigil.pace import timed
from lookup_encoder import lookup_bundle
from segmenter_fixtures import segmenter_bundle

BRIEFLY = ("--device", "cpu", "--seconds", "0.02")


@pytest.fixture(scope="module")
def encoders(lite0: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default encoder with its real weights, and a table-lookup encoder; read-only by agreement."""
    folder = tmp_path_factory.mktemp("bench") / "encoders"
    lookup_bundle(folder)
    shutil.copytree(lite0, folder / lite0.name)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main(["bench", *map(str, arguments)]) == code
    return capsys.readouterr().out


def test_every_encoder_is_measured_in_every_batch_size(encoders: Path, elsewhere: Path, capsys) -> None:
    said = json.loads(told(capsys, "--encoders", encoders, *BRIEFLY, "--json"))
    lite0, lookup = said["bundles"]
    assert [lite0["name"], lookup["name"]] == ["efficientnet-lite0", "lookup"]
    assert said["machine"]["cores"] >= 1
    assert said["machine"]["versions"]["onnxruntime"]
    for bundle in (lite0, lookup):
        assert (bundle["provider"], bundle["precision"], bundle["error"]) == ("cpu", "fp32", "")
        assert [batch["size"] for batch in bundle["batches"]] == [1, 2]
        for batch in bundle["batches"]:
            assert batch["milliseconds"] > 0
            assert batch["per_second"] > 0
            assert not batch["is_halved"]
    work = flops_of(encoders / "efficientnet-lite0" / "model.onnx")
    for batch in lite0["batches"]:
        assert batch["operations"] == work
        assert batch["share"] == pytest.approx(batch["per_second"] * work / lite0["peak"])
    assert lite0["memory_mb"] > 13  # the weights alone
    assert lite0["weights"] == "efficientnet-lite0 (ImageNet-1k)"


def test_people_get_a_table(encoders: Path, elsewhere: Path, capsys) -> None:
    lines = told(capsys, "lookup", "--encoders", encoders, *BRIEFLY).splitlines()
    assert "onnxruntime" in lines[0]
    assert lines[2].split()[:3] == ["bundle", "precision", "device"]
    assert lines[3].split()[:4] == ["lookup", "fp32", "cpu", "1"]
    assert not any(line.startswith("efficientnet") for line in lines)
    assert any(line.startswith("peak of cpu in fp32: ") for line in lines)


def test_a_damaged_bundle_is_told_of_and_the_others_are_measured(encoders: Path, elsewhere: Path, capsys) -> None:
    here = Path(shutil.copytree(encoders, elsewhere / "encoders"))
    with (here / "efficientnet-lite0" / "model.onnx").open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"\0\0\0\0flipped")
    (here / "none").mkdir()
    (here / "none" / "manifest.json").write_text("{")
    assert main(["bench", *BRIEFLY, "--json"]) == 1  # in the folder where encoders usually are
    output = capsys.readouterr()
    damaged, lookup, none = json.loads(output.out)["bundles"]
    assert "is not the file its manifest describes" in damaged["error"]
    assert "the manifest cannot be read" in none["error"]
    assert lookup["batches"]
    lines = output.err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["cellvigil", "efficientnet-lite0"], ["cellvigil", "none"]]


def test_the_configuration_says_where_the_encoders_are_and_how_they_run(
    encoders: Path, elsewhere: Path, capsys
) -> None:
    source = "{name: scope, kind: ometiff, path: in, index: states}"
    how = f"{{path: {encoders}, device: cpu, threads: 1, batch: 1, gpu_mem_limit_gb: 2, cuda_graphs: true}}"
    Path("config.yaml").write_text(f"sources: [{source}]\nencoder: {how}\nstate_dir: kept\n")
    said = json.loads(told(capsys, "lookup", "--seconds", "0.02", "--json"))
    wanted = said["wanted"]
    assert (wanted["device"], wanted["threads"], wanted["mem_limit"]) == ("cpu", 1, 2_000_000_000)
    assert [batch["size"] for batch in said["bundles"][0]["batches"]] == [1]
    assert wanted["cuda_graphs"]
    assert wanted["engines"] == str(elsewhere / "kept" / "tensorrt")
    assert not (elsewhere / "kept").exists()  # nothing is written that is of no use on this device


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--encoders", "nowhere"], "there is no encoder bundle (nowhere)"),
        (["--config", "nowhere.yaml"], "cannot read the configuration"),
        (["lite", "--encoders", "{encoders}"], "there is no bundle lite ({encoders}); there are: efficientnet-lite0"),
    ],
)
def test_what_is_not_there_is_told(encoders: Path, elsewhere: Path, capsys, arguments, complaint) -> None:
    assert main(["bench", *(text.format(encoders=encoders) for text in arguments)]) == 2
    assert complaint.format(encoders=encoders) in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_times_that_mean_nothing_are_refused(seconds: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--seconds", seconds])
    assert ended.value.code == 2


def test_a_device_that_cannot_be_had_is_told_for_each(encoders: Path, elsewhere: Path, capsys) -> None:
    if machine.gpus():
        pytest.skip("this machine has a GPU")
    assert main(["bench", "lookup", "--encoders", str(encoders), "--device", "cuda"]) == 1
    assert "lookup: cuda was asked for and cannot be had" in capsys.readouterr().err


def test_a_process_that_is_killed_ends_nothing_but_itself(encoders: Path) -> None:
    """As the system does with one that takes too much memory."""
    ended: list[int] = []

    def kill_the_first() -> None:
        until = time.monotonic() + 60
        while not ended and time.monotonic() < until:
            for child in multiprocessing.active_children():
                ended.append(child.pid or 0)
                os.kill(ended[-1], signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    report = bench(bundles_in(encoders), Wanted("cpu", seconds=0.02))
    killer.join()
    killed, lookup = report.bundles
    assert len(ended) == 1
    assert "its process ended" in killed.error
    assert lookup.batches
    assert not lookup.error


def test_a_segmenter_is_timed_by_image_and_by_prompt(tmp_path: Path) -> None:
    segmenter_bundle(tmp_path, side=64)
    (found,) = bench(bundles_in(tmp_path), Wanted("cpu", seconds=0.02)).bundles
    assert found.error == ""
    assert (found.kind, [batch.of for batch in found.batches]) == ("segmenter", ["images", "prompts"])
    assert found.batches[0].size == 1
    assert all(batch.per_second > 0 for batch in found.batches)


LITE = Measured("lite", precision="fp32", provider="cpu", peak=100e9, device_note="no GPU here")
BATCH = Batch(1, "cells", 12.345678, 81.0, operations=800_000_000)


def test_shares_are_of_the_best_peak_of_the_same_device_and_precision():
    busy = replace(LITE, name="busy", peak=50e9, batches=(BATCH,))
    half = replace(busy, precision="fp16", peak=200e9)
    unknown = replace(LITE, precision="int8", peak=None, batches=(BATCH,))
    uncounted = replace(LITE, batches=(replace(BATCH, operations=None),))
    found = with_shares([LITE, busy, half, unknown, uncounted])
    assert [each.peak for each in found] == [100e9, 100e9, 200e9, None, 100e9]
    assert found[1].batches[0].share == pytest.approx(81.0 * 0.8e9 / 100e9)
    assert found[2].batches[0].share == pytest.approx(81.0 * 0.8e9 / 200e9)
    assert [each.batches[0].share for each in found[3:]] == [None, None]


def test_a_table_says_what_was_halved_recorded_or_is_not_known():
    gpu = machine.Gpu("NVIDIA H200", "580.1", 143771.0, 4.0)
    here = machine.Machine("A CPU", 16, (gpu,), {"onnxruntime": "1.31.1"})
    small = replace(BATCH, share=0.5)
    large = Batch(64, "cells", 100.0, 640.0, is_halved=True)
    recorded = replace(LITE, provider="cuda", is_recorded=True, memory_mb=512.4, batches=(small, large), device_note="")
    plain = replace(LITE, name="plain", batches=(small,), notes=("the work of a If cannot be counted",))
    broken = Measured("broken", error="damaged")
    text = table_of(Report(here, Wanted(), (recorded, plain, replace(plain, name="other"), broken)))
    assert [" ".join(line.split()) for line in text.splitlines() if line] == [
        "A CPU, 16 cores; NVIDIA H200 (140 GiB, driver 580.1); onnxruntime 1.31.1",
        "bundle precision device batch ms a batch a second GFLOP each of the peak memory",
        "lite fp32 cuda, recorded 1 12.35 81 cells 0.8 50.0% 512 MB",
        "64 (halved) 100 640 cells",
        "plain fp32 cpu 1 12.35 81 cells 0.8 50.0%",
        "other fp32 cpu 1 12.35 81 cells 0.8 50.0%",
        "peak of cuda in fp32: 100 GFLOP/s "
        "(the fastest matrix product of 8192 x 8192 x 8192 through onnxruntime, in this run)",
        "peak of cpu in fp32: 100 GFLOP/s "
        "(the fastest matrix product of 2048 x 2048 x 2048 through onnxruntime, in this run)",
        "plain, other: no GPU here",
        "plain, other: the work of a If cannot be counted",
    ]
    columns = [line for line in text.splitlines() if "cells" in line]
    assert len({line.index("cells") for line in columns}) == 1


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("is_constant", [True, False])
def test_the_peak_s_product_is_a_product(tmp_path: Path, precision: str, is_constant: bool) -> None:
    kind, rng, shape = _KINDS[precision], np.random.default_rng(1), (32, 32)
    left, right = _values(rng, shape, kind.left), _values(rng, shape, kind.right)
    onnx.save_model(_model(kind, shape, right if is_constant else None), tmp_path / "product.onnx")
    opened = device.open_model(tmp_path / "product.onnx", device="cpu")
    inputs = {"a": left} if is_constant else {"a": left, "b": right}
    bound = Bound(device.runtime(), opened.session, inputs, ("c", shape, kind.result), on_gpu=False)
    bound.repeat()
    wanted = left.astype(np.float64) @ right.astype(np.float64)
    tolerance = {"fp32": 1e-6, "fp16": 2e-3, "int8": 0.0}[precision]
    np.testing.assert_allclose(np.asarray(bound.output(), np.float64), wanted, rtol=0, atol=tolerance)


def test_a_peak_is_a_number_and_eight_bits_are_for_the_cpu():
    assert peak_of("cpu", "fp32", cores=1, seconds=0.01, side=64) > 0
    for provider, precision in (("cuda", "int8"), ("cpu", "fp64")):
        with pytest.raises(UsageError, match="no peak is measured"):
            peak_of(provider, precision, cores=1, seconds=0.01)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("NVIDIA H200, 580.159.03, 143771, 4\n", (machine.Gpu("NVIDIA H200", "580.159.03", 143771.0, 4.0),)),
        (
            "A, 1, 10, 5\nB, 1, [N/A], [Not Supported]\n",
            (machine.Gpu("A", "1", 10.0, 5.0), machine.Gpu("B", "1", 0.0, 0.0)),
        ),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", ()),
    ],
)
def test_what_the_driver_tells_is_read(text: str, found) -> None:
    assert machine.gpus_told(text) == found


@pytest.mark.parametrize(("script", "count"), [("echo 'X, 1, 10, 5'", 1), ("exit 9", 0), ("echo no devices", 0)])
def test_the_driver_s_tool_is_asked_where_it_is(tmp_path: Path, monkeypatch, script: str, count: int) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert len(machine.gpus()) == count


def test_the_memory_s_peak_begins_anew():
    machine.forget_peak()
    before = machine.peak_mb()
    block = np.ones(64 << 20, np.uint8)
    assert machine.peak_mb() - before > 50
    del block
    machine.forget_peak()
    assert machine.peak_mb() - before < 32


@pytest.mark.parametrize(("seconds", "least", "laps"), [(0.0, 1, 1), (0.0, 3, 1), (0.05, 3, None)])
def test_runs_are_timed_as_often_as_they_fit(seconds: float, least: int, laps: int | None) -> None:
    runs: list[int] = []
    found = timed(lambda: runs.append(1), seconds, least=least)
    assert len(found) == len(runs)
    assert len(found) == laps if laps else len(found) >= least
    assert all(lap >= 0 for lap in found)
