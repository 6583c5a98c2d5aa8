"""A convolutional network as a table of its layers, which both the ONNX graph and its plain twin are built from.

One convolution after another, a batch norm after each, ReLU6 after most, an addition across some: that is all there is
to the MobileNets. Each network is one small file that writes its table. The block is the inverted bottleneck of Sandler
et al., MobileNetV2 (2018), section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Padding = Callable[[int, int, int], tuple[int, int, int]]
"""(size, kernel, stride) along one axis -> pixels before, pixels after, and the output's size."""

Names = Callable[[int, str, int], tuple[str, str]]
"""(block, "expand" | "depthwise" | "project", its position in the block) -> keys of the weight and the batch norm."""


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


@dataclass(frozen=True, slots=True)
class Chain:
    """A network: its vector is the global average of the last layer's output."""

    title: str  # for a message: "an EfficientNet-Lite0"
    layers: tuple[Layer, ...]  # in the order they run
    padding: Padding
    epsilon: float  # of the batch norms
    unused: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # tensors of a checkpoint that have no part

    @property
    def dimension(self) -> int:
        """Of the vector."""
        return self.layers[-1].shape[0]

    def expected_tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of a checkpoint, those that are not used included."""
        expected = dict(self.unused)
        for layer in self.layers:
            expected[f"{layer.conv}.weight"] = layer.shape
            for part in ("weight", "bias", "running_mean", "running_var"):
                expected[f"{layer.norm}.{part}"] = layer.shape[:1]
            expected[f"{layer.norm}.num_batches_tracked"] = ()
        return expected


@dataclass(frozen=True, slots=True)
class Stage:
    """Inverted bottlenecks that follow one another."""

    repeats: int
    kernel: int
    stride: int  # of the first; the others have 1
    expansion: int
    channels: int  # out


def bottlenecks(stages: Iterable[Stage], channels: int, names: Names) -> list[Layer]:
    """The layers of all stages; `channels` go into the first."""
    found: list[Layer] = []
    block = 0
    for stage in stages:
        for repeat in range(stage.repeats):
            found += _bottleneck(stage, 1 if repeat else stage.stride, channels, block, names)
            channels, block = stage.channels, block + 1
    return found


def _bottleneck(stage: Stage, stride: int, inside: int, block: int, names: Names) -> list[Layer]:
    """Expand (unless by 1), depthwise, project; skipped across where the sizes are alike."""
    wide, skips = inside * stage.expansion, stride == 1 and inside == stage.channels
    layers: list[Layer] = []
    if stage.expansion > 1:
        layers.append(Layer(*names(block, "expand", 0), (wide, inside, 1, 1), opens=skips))
    kernel, opens, at = (stage.kernel, stage.kernel), skips and not layers, len(layers)
    layers.append(Layer(*names(block, "depthwise", at), (wide, 1, *kernel), stride, groups=wide, opens=opens))
    layers.append(Layer(*names(block, "project", at + 1), (stage.channels, wide, 1, 1), clipped=False, adds=skips))
    return layers


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """TensorFlow's "same": the odd pixel goes to the bottom and right. See `Padding`."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, out


def even_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """PyTorch's usual (kernel - 1) / 2 on both sides, for odd kernels. See `Padding`."""
    pad = (kernel - 1) // 2
    return pad, pad, (size + 2 * pad - kernel) // stride + 1
