"""MobileSAM, of its real weights where `make weights` has brought them. Needs the extra `export`."""

import os
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cellvigil.bundle.segmenter import (
    EXTENT,
    FEATURES,
    IMAGE,
    IOU,
    LABELS,
    MASKS,
    POINTS,
    SegmenterBundle,
    open_segmenter,
)
from cellvigil.errors import BundleError
from cellvigil_export import cli, parity
from cellvigil_export.segmenter_trial import trial

torch = pytest.importorskip("torch", reason="needs the extra `export`")
pytest.importorskip("transformers", reason="needs the extra `export`")
from cellvigil_export import sam_names, tinyvit  # noqa: E402 - imports torch

pytestmark = pytest.mark.export

WEIGHTS = Path(__file__).parents[1] / "build" / "weights" / "mobile_sam.pt"


def opened(bundle: SegmenterBundle) -> tuple[Any, Any]:
    return tuple(parity.lean(path, threads=1) for path in (bundle.encoder_path, bundle.decoder_path))


@pytest.fixture(scope="module")
def mobile(tmp_path_factory: pytest.TempPathFactory) -> SegmenterBundle:
    if not WEIGHTS.is_file():
        pytest.skip("MobileSAM's weights are not there: make weights")
    out = tmp_path_factory.mktemp("mobile")
    assert cli.main(["run", "mobile-sam", "--weights", str(WEIGHTS), "--out", str(out)]) == 0
    return open_segmenter(out / "mobile-sam")


def test_mobile_sam_finds_drawn_cells(mobile: SegmenterBundle) -> None:
    asked = trial(1024)
    encoder, decoder = opened(mobile)
    features = encoder.run([FEATURES], {IMAGE: asked.image, EXTENT: asked.extent})[0]
    for prompts in asked.prompts:
        masks, iou = decoder.run([MASKS, IOU], {FEATURES: features, POINTS: prompts.points, LABELS: prompts.labels})
        assert iou[:, 0].min() >= 0.9
        for mask, cell in zip(masks[:, 0], asked.drawn(), strict=True):
            found = cv2.resize(mask, (1024, 1024), interpolation=cv2.INTER_LINEAR) > 0
            assert (found & cell).sum() / (found | cell).sum() >= 0.95


@pytest.fixture
def authors_own(monkeypatch: pytest.MonkeyPatch) -> Any:
    """MobileSAM as the package with its weights runs it, with the three trifles of timm that it imports."""
    code = WEIGHTS.parent / "mobilesam"
    if not code.is_dir():
        pytest.skip("MobileSAM's own code is not there: make weights")
    layers, registry = types.ModuleType("timm.models.layers"), types.ModuleType("timm.models.registry")
    layers.DropPath, layers.to_2tuple = torch.nn.Identity, lambda side: (side, side)  # type: ignore[attr-defined]
    layers.trunc_normal_, registry.register_model = torch.nn.init.trunc_normal_, lambda model: model  # type: ignore[attr-defined]
    package = types.ModuleType("mobilesam")
    package.__path__ = [os.fspath(code)]
    for name, module in (
        *(("timm", types.ModuleType("timm")), ("timm.models", types.ModuleType("timm.models"))),
        *(("timm.models.layers", layers), ("timm.models.registry", registry), ("mobilesam", package)),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch, "load", lambda _, load=torch.load: load(WEIGHTS, map_location="cpu", weights_only=True))
    from mobilesam.build_sam import build_mobile_sam  # type: ignore[import-not-found] # noqa: PLC0415 - just made

    return build_mobile_sam()


def test_mobile_sam_is_that_of_its_authors(mobile: SegmenterBundle, authors_own: Any) -> None:
    asked = trial(1024)
    point, box = asked.prompts[0], asked.prompts[1]
    rows = int(asked.extent[0])
    encoder, decoder = opened(mobile)
    features = encoder.run([FEATURES], {IMAGE: asked.image, EXTENT: asked.extent})[0]
    with torch.inference_mode():
        taken = torch.from_numpy(asked.image[0, :rows]).permute(2, 0, 1).float()
        right = authors_own.image_encoder(authors_own.preprocess(taken)[None])
        assert np.abs(features - right.numpy()).max() <= 1e-4
        for prompts, theirs in (
            (point, {"points": (torch.from_numpy(point.points[:, :1]), torch.ones((16, 1))), "boxes": None}),
            (box, {"points": None, "boxes": torch.from_numpy(box.points.reshape(16, 4))}),
        ):
            sparse, dense = authors_own.prompt_encoder(masks=None, **theirs)
            wanted, scores = authors_own.mask_decoder.predict_masks(
                right, authors_own.prompt_encoder.get_dense_pe(), sparse, dense
            )
            given = {FEATURES: features, POINTS: prompts.points, LABELS: prompts.labels}
            masks, iou = decoder.run([MASKS, IOU], given)
            assert np.abs(masks - wanted.numpy()).max() <= 1e-4 * float(wanted.abs().max())
            assert np.abs(iou - scores.numpy()).max() <= 1e-4


def test_a_tinyvit_refuses_what_is_not_one() -> None:
    state = {f"image_encoder.{name}": each for name, each in tinyvit.TinyViT(tinyvit.Size()).state_dict().items()}
    state.pop("image_encoder.layers.2.blocks.5.attn.attention_biases")
    with pytest.raises(BundleError, match=r"missing: layers\.2\.blocks\.5\.attn\.attention_biases"):
        tinyvit.loaded(sam_names.renamed(state), Path("here"))
