"""A model made of a checkpoint, and what its checkpoint gives for the pictures that it is then checked on.

The one step of an export that needs torch; `make` runs it in a process of its own. Reads the weights, writes the model.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellvigil.bundle.files import sha256_of
from cellvigil.data import F32, U8
from cellvigil.errors import BundleError, UsageError
from cellvigil_export import golden
from cellvigil_export.cells import labelled_cells
from cellvigil_export.declaration import Declaration, Family, Preprocessing
from cellvigil_export.heap import give_back_memory
from cellvigil_export.weights import Found

GOLDEN_PICTURES = 4
GOLDEN_LARGE = 2  # of encoders for whole fields: a picture takes as long as fifty cells
_LARGE = 512  # side from which an encoder is one of those, pixels
_CELLS = 12  # of `--gate-images`, checked beside those that are drawn
_SEED = 20250607  # of the golden pictures; any number, but always the same


@dataclass(frozen=True, slots=True)
class Origin:
    """What stays known of a model when torch is gone."""

    revision: str  # see `weights.Found`
    sha256: Mapping[str, str]  # of the checkpoint's files
    against: str
    preprocessing: Preprocessing
    tools: Mapping[str, str]  # versions


def is_large(declaration: Declaration) -> bool:
    """Whether its pictures are whole fields, and not cells."""
    return declaration.input_size >= _LARGE


def drawn(declaration: Declaration) -> int:
    """How many pictures are drawn, to be checked and kept as the golden ones."""
    return GOLDEN_LARGE if is_large(declaration) else GOLDEN_PICTURES


def made(declaration: Declaration, found: Found, model: Path, gate_images: Path | None) -> tuple[Origin, U8, F32]:
    """Have the family write the model, and ask its reference for the vectors; then let go of the weights.

    Returns what stays known, the pictures (n, side, side, channels) and their vectors (n, dimension). Raises UsageError
    if torch is wanted and not there, BundleError for weights that do not fit.
    """
    whole = _family(declaration)(declaration, found.path, model)
    pictures = golden.pictures(drawn(declaration), declaration.input_size, declaration.channels, seed=_SEED)
    if gate_images is not None:
        cells = labelled_cells(gate_images, whole.preprocessing.fit, declaration.channels)
        pictures = np.concatenate([pictures, cells.pictures(cells.spread(_CELLS))])
    wanted = whole.reference(pictures)
    if wanted.shape != (len(pictures), declaration.dimension):
        what = f"these weights give a vector of {wanted.shape[1]}, {declaration.name} has {declaration.dimension}"
        raise BundleError(what, hint="another encoder's weights?")
    hashes = {name: sha256_of(path) for name, path in sorted(whole.sources.items())}
    tools = versions("numpy", "onnx", *whole.tools)
    origin = Origin(found.revision, hashes, whole.against, whole.preprocessing, tools)
    whole.release()
    del whole
    give_back_memory()
    return origin, pictures, wanted


def versions(*names: str) -> dict[str, str]:
    """Those of installed distributions."""
    return {name: importlib.metadata.version(name) for name in names}


def _family(declaration: Declaration) -> Family:
    """The function that the declaration names. Raises UsageError if it needs torch and there is none."""
    module, _, function = declaration.family.partition(":")
    try:
        family: Family = getattr(importlib.import_module(module), function)
    except ImportError as error:
        if not declaration.needs_torch:
            raise
        hint = "pip install 'cellvigil[export]'"
        raise UsageError(f"{declaration.name} needs torch and transformers ({error})", hint=hint) from None
    return family
