"""An encoder bundle on disk: the model, what it takes and gives, and a golden pair to try it against.

    encoders/<name>/  manifest.json  model.onnx (+ model.onnx.data)  golden_input.npy  golden_output.npy

This file reads and verifies; `cellvigil_export` writes, `cellvigil.encoder` runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.files import MANIFEST, bundle_sha256, check_listed, read_manifest, verify
from cellvigil.bundle.fit import fit_of
from cellvigil.data import F32, U8, Array, Fit, frozen_array
from cellvigil.errors import BundleError

KIND = "encoder"
SCHEMA_VERSION = 1
MODEL = "model.onnx"
GOLDEN_INPUT = "golden_input.npy"
GOLDEN_OUTPUT = "golden_output.npy"
INPUT_NAME = "pixels"
OUTPUT_NAME = "features"

_IDENTITY = ("name", "precision", "input", "input_size", "channels", "dimension")
"""What of the manifest, beside the model's own files, decides which numbers come out."""


@dataclass(frozen=True, slots=True, eq=False)
class EncoderBundle:
    """A verified encoder bundle."""

    folder: Path
    name: str
    sha256: str  # which encoder this is, see `encoder_sha256`: indexes and records name it
    model_path: Path
    fit: Fit  # how a picture is brought to the side of its square input
    channels: int  # of the input
    dimension: int  # of the vector
    precision: str  # "fp32", "fp16" or "int8"
    manifest: Mapping[str, Any]

    @property
    def input_size(self) -> int:
        """Side of the square input, pixels."""
        return self.fit.side

    def golden_input(self) -> U8:
        """The golden images, (n, side, side, channels) u8. Raises BundleError if the file is not that."""
        side = self.input_size
        return _golden(self.folder / GOLDEN_INPUT, np.uint8, (side, side, self.channels))

    def golden_output(self) -> F32:
        """The vectors that the exporter got for them, (n, dimension) f32. Raises BundleError if they are not that."""
        return _golden(self.folder / GOLDEN_OUTPUT, np.float32, (self.dimension,))


def encoder_sha256(manifest: Mapping[str, Any]) -> str:
    """Which encoder a manifest describes: a hash of its model's files and of what goes in and comes out.

    Tool versions, parity figures and the golden pair are left out: they differ in the last digit from machine to
    machine, and an index that was built on one must open on the next, with the same weights exported there.
    A plain fit is left out too: encoders that have one are named by indexes from before there was another.
    Raises BundleError as `fit_of` does, KeyError for what the manifest lacks.
    """
    files = {name: entry for name, entry in manifest["files"].items() if name.startswith(MODEL)}
    fit = fit_of(manifest)
    fitted = {} if fit == Fit(fit.side) else {"fit": asdict(fit)}
    return bundle_sha256({**{key: manifest[key] for key in _IDENTITY}, **fitted, "files": files})


def open_encoder(folder: Path, *, memory: Path | None = None) -> EncoderBundle:
    """The encoder bundle in `folder`, every file's size and sha256 checked.

    `memory` is a JSON file in the state folder that remembers what was hashed before (see `files.verify`).
    Raises BundleError if the bundle is missing, incomplete, damaged, or of a later schema than this version reads.
    """
    manifest = read_manifest(folder, KIND)
    bundle = _described(folder, manifest)
    models = {path.name for path in folder.glob(f"{MODEL}*")}
    check_listed(folder, manifest["files"], models | {MODEL, GOLDEN_INPUT, GOLDEN_OUTPUT})
    verify(folder, manifest, memory=memory)
    return bundle


def _described(folder: Path, manifest: Mapping[str, Any]) -> EncoderBundle:
    """The bundle as its manifest describes it, nothing hashed yet."""
    where = folder / MANIFEST
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        hint = "export the encoder again, or update cellvigil"
        raise BundleError(f"schema version {version} is not {SCHEMA_VERSION}", where=where, hint=hint)
    try:
        sizes = (manifest["input_size"], manifest["channels"], manifest["dimension"])
        ends = (manifest["input"]["name"], manifest["input"]["dtype"], manifest["output"]["name"], manifest["dtype"])
        name, precision, fit = manifest["name"], manifest["precision"], fit_of(manifest, where=where)
        identity = encoder_sha256(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"the manifest is incomplete: {error}", where=where, hint="export it again") from None
    if ends != (INPUT_NAME, "uint8", OUTPUT_NAME, "float32") or any(type(n) is not int or n < 1 for n in sizes):
        raise BundleError("the manifest does not describe an image encoder", where=where, hint="export it again")
    return EncoderBundle(folder, str(name), identity, folder / MODEL, fit, *sizes[1:], str(precision), manifest)


def _golden(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"the golden pair cannot be read: {error}", where=path, hint="export it again") from None
    if array.dtype != dtype or array.shape[1:] != shape or not len(array):
        raise BundleError("the golden pair does not fit the manifest", where=path, hint="export it again")
    return frozen_array(array)
