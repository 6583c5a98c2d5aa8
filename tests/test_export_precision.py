"""Exports in fp16 and int8: what stays in single precision, what the gate says, and what becomes of those below it."""

import errno
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from cellvigil import device
from cellvigil.bundle.encoder import MODEL, open_encoder
from cellvigil.data import Fit
from cellvigil.encoder import one_minus_cosine, open_session
from cellvigil.errors import BundleError, UsageError
from cellvigil_export import gate, lowering
from cellvigil_export.cells import labelled_cells
from cellvigil_export.lowering import Lowering
from cellvigil_export.make import export
from cellvigil_export.zoo import declared
from tiny_encoder import DECLARATION, drawn_cells, weights

TINY = replace(DECLARATION, refuses={})


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_cells(tmp_path_factory.mktemp("gate") / "cells")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return weights(tmp_path / "tiny")


def plain_calls(asked, references, labels, k=5):
    """What the k nearest others call each, by loops."""
    found = []
    for row, query in enumerate(asked):
        apart = ((references.astype(np.float64) - query) ** 2).sum(axis=1)
        near = [labels[other] for other in np.argsort(apart, kind="stable") if other != row][:k]
        counts = Counter(near)
        found.append(next(label for label in near if counts[label] == max(counts.values())))
    return np.array(found)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 0.1, 1.0]))
def test_the_gate_measures_what_a_slow_twin_measures(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    wanted = (rng.normal(size=(40, 6)) + 20).astype(np.float32)
    got = (wanted + noise * rng.normal(size=wanted.shape)).astype(np.float32)
    labels = rng.integers(0, 4, 40)
    found = gate.compare(wanted, got, labels)
    mean = wanted.astype(np.float64).mean(axis=0)
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(wanted - mean, got - mean, strict=True)]
    usual = plain_calls(wanted, wanted, labels)
    assert found.cosine_percentile_1 == pytest.approx(np.quantile(cosines, 0.01), abs=2e-5)
    assert found.cosine_least == pytest.approx(min(cosines), abs=2e-5)
    assert found.agreement == pytest.approx((plain_calls(got, got, labels) == usual).mean(), abs=2e-5)
    assert found.agreement_crossed == pytest.approx((plain_calls(got, wanted, labels) == usual).mean(), abs=2e-5)
    assert found.right_fp32 == pytest.approx((usual == labels).mean(), abs=2e-5)


def test_what_plain_cosines_hide_is_seen() -> None:
    rng = np.random.default_rng(0)
    wanted = (rng.normal(size=(300, 16)) + 100).astype(np.float32)
    got = (wanted + 0.5 * rng.normal(size=wanted.shape)).astype(np.float32)
    labels = rng.integers(0, 2, 300)
    assert float(one_minus_cosine(got, wanted).max()) < 1e-4
    assert not gate.compare(wanted, got, labels).passed
    same = gate.compare(wanted, wanted, labels)
    assert same.passed
    assert same.agreement == 1.0


@pytest.mark.parametrize(
    ("declaration", "wanted", "complaint"),
    [
        (TINY, Lowering("fp8"), "no precision 'fp8'"),
        (DECLARATION, Lowering("int8", Path("cells")), "cannot be had in int8: for the test of it"),
        (TINY, Lowering("fp16"), "told by cells of yours"),
        (TINY, Lowering("int8"), "needs cells of yours"),
        (TINY, Lowering("int8", accept_below_gate=True), "needs cells of yours"),
        (TINY, Lowering("fp16", Path("nowhere")), "no such folder"),
    ],
)
def test_what_cannot_be_had_is_said_at_once(declaration, wanted, complaint) -> None:
    with pytest.raises(UsageError, match=complaint):
        lowering.check(declaration, wanted)


def test_cells_of_any_depth_and_kind_become_what_the_encoder_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for folder, planes in (("grey", 1), ("planes", 5)):
        for label in "ab":
            home = tmp_path / folder / label
            home.mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(300, 700, (planes, 20, 20), dtype=np.uint16)
                tifffile.imwrite(home / f"{number}.tif", pixels[0] if planes == 1 else pixels, photometric="minisblack")
    for folder, colours in (("grey", 3), ("planes", 5)):
        found = labelled_cells(tmp_path / folder, Fit(16), colours)
        pictures = found.pictures(np.arange(6))
        assert pictures.shape == (6, 16, 16, colours)
        assert pictures.min() < 40 < 215 < pictures.max()  # 300 to 700 fills the range
        assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_too_few_cells_cannot_judge(tmp_path: Path) -> None:
    folder = drawn_cells(tmp_path / "few", count=100)
    with pytest.raises(UsageError, match="75 cells of 2 classes are too few"):
        lowering.check(TINY, Lowering("fp16", folder))


def test_a_lower_precision_is_a_bundle_of_its_own(cells: Path, checkpoint: Path, tmp_path: Path) -> None:
    usual = export(TINY, weights=checkpoint, out=tmp_path / "out")
    bundle = export(TINY, weights=checkpoint, out=tmp_path / "out", precision="fp16", gate_images=cells)
    assert (bundle.name, bundle.precision, bundle.folder.name) == ("tiny-fp16", "fp16", "tiny-fp16")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["tiny", "tiny-fp16"]
    assert bundle.sha256 != usual.sha256
    told = bundle.manifest["gate"]
    assert (told["measured"], told["passed"], told["accepted_below_gate"]) == (True, True, False)
    assert (told["images"], told["cells"], told["classes"]) == ("cells", 248, ["bright", "dark"])
    assert told["device"] in {"cuda", "cpu, roundings written out"}
    assert told["centred_cosine"]["percentile_1"] >= 0.999
    pixels = labelled_cells(cells, Fit(16), 3).pictures(np.arange(5))
    both = [open_session(each, device="cpu").embed(pixels) for each in (usual, bundle)]
    assert 0 < float(one_minus_cosine(*both).max()) < 1e-5


def test_one_that_is_not_the_same_encoder_is_refused(cells: Path, tmp_path: Path) -> None:
    """Its weights differ in digits that half precision does not have."""
    source, out = weights(tmp_path / "far", offset=8.0), tmp_path / "out"
    with pytest.raises(BundleError, match=r"not the same encoder: centred cosine 0\.\d+ at the 1st percentile"):
        export(TINY, weights=source, out=out, precision="fp16", gate_images=cells)
    assert list(out.iterdir()) == []
    bundle = export(TINY, weights=source, out=out, precision="fp16", gate_images=cells, accept_below_gate=True)
    told = bundle.manifest["gate"]
    assert (told["passed"], told["accepted_below_gate"]) == (False, True)
    assert lowering.said(told).startswith("NOT PASSED, accepted all the same; on 248 cells of cells")
    assert told["centred_cosine"]["percentile_1"] < 0.999


def test_numbers_beyond_half_precision_are_refused_waived_or_not(cells: Path, tmp_path: Path) -> None:
    source, out = weights(tmp_path / "huge", offset=200.0), tmp_path / "out"
    with pytest.raises(BundleError, match="the model gives vectors that are not finite"):
        export(TINY, weights=source, out=out, precision="fp16", gate_images=cells, accept_below_gate=True)
    assert list(out.iterdir()) == []


def test_a_file_system_without_links_makes_no_difference(
    cells: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = export(TINY, weights=checkpoint, out=tmp_path / "fp32").model_path
    asked = []

    def refused(*files: object, **_: object) -> None:
        asked.append(files)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def halved(folder: Path) -> tuple[bytes, object]:
        folder.mkdir()
        model, beside = folder / MODEL, f"{MODEL}.data"  # the weights of a large model lie there
        onnx.save_model(onnx.load(usual), model, save_as_external_data=True, location=beside, size_threshold=64)
        told = lowering.lower(model, TINY, TINY.preprocessing, Lowering("fp16", cells))
        return model.read_bytes(), told

    linked = halved(tmp_path / "linked")
    monkeypatch.setattr(os, "link", refused)
    assert halved(tmp_path / "copied") == linked
    assert asked


@pytest.mark.filterwarnings("ignore:Specified provider")  # onnxruntime is asked for a GPU and has none
def test_what_was_measured_where_is_told(
    cells: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that says it has a GPU: int8 never asks for it, and fp16 tells what it got."""
    asked = []

    def opened(model: Path, **options: Any) -> device.Session:
        asked.append(options["device"])
        return usually(model, **options)

    usually = device.open_model
    monkeypatch.setattr(device, "open_model", opened)
    monkeypatch.setattr(gate.devices, "missing", lambda *_: ())
    given = {"weights": checkpoint, "gate_images": cells, "accept_below_gate": True}
    bundle = export(TINY, out=tmp_path / "int8", precision="int8", **given)
    assert set(asked) == {"cpu"}
    assert bundle.manifest["gate"]["device"] == "cpu"
    asked.clear()
    bundle = export(TINY, out=tmp_path / "fp16", precision="fp16", **given)
    assert "auto" in asked
    assert bundle.manifest["gate"]["device"] in {"cuda", "cpu, roundings written out"}


def test_a_waived_gate_is_told(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(TINY, weights=checkpoint, out=tmp_path / "o", precision="fp16", accept_below_gate=True)
    assert bundle.manifest["gate"] == {"measured": False, "why": "no cells were given", "accepted_below_gate": True}
    assert lowering.said(bundle.manifest["gate"]) == "not measured, no cells were given; accepted all the same"


def test_int8_does_not_depend_on_the_batch(cells: Path, checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(TINY, weights=checkpoint, out=tmp_path, precision="int8", gate_images=cells, accept_below_gate=True)
    assert bundle.manifest["golden_tolerance"] == 1e-3
    assert bundle.manifest["quantised"] == {
        "products": 2,
        "in_int8": 1,  # the other has too few weights
        "calibrated_on": 32,
        "calibration": "entropy",
    }
    weights_of = {each.name: each.data_type for each in onnx.load(bundle.model_path).graph.initializer}
    assert TensorProto.INT8 in weights_of.values()
    assert weights_of["first"] == TensorProto.FLOAT
    session = open_session(open_encoder(bundle.folder), device="auto", batch=1)
    pixels = labelled_cells(cells, Fit(16), 3).pictures(np.arange(60, 76))
    pixels[3] = 255  # of a range that the others do not have
    together = onnxruntime.InferenceSession(str(bundle.model_path)).run(None, {"pixels": pixels})[0]
    assert session.provider == "cpu"
    np.testing.assert_allclose(together, session.embed(pixels), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "mobilenetv2"])
def test_real_weights_pass_in_fp16_and_not_in_int8(real_images: Path, tmp_path: Path, name: str) -> None:
    cells = real_images / "pbc"
    told = export(declared(name), weights=None, out=tmp_path, precision="fp16", gate_images=cells).manifest["gate"]
    assert told["passed"]
    with pytest.raises(BundleError, match="is not the same encoder"):
        export(declared(name), weights=None, out=tmp_path, precision="int8", gate_images=cells)
