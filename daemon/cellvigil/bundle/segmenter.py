"""A segmenter bundle on disk: SAM's image encoder and its mask decoder, and a golden pair to try them against.

    encoders/<name>/  manifest.json  encoder.onnx (+ .data)  decoder.onnx (+ .data)
                      golden_{image,extent,points,labels}.npy  golden_{features,masks,iou}.npy

This file reads and verifies; `cellvigil_export` writes, `cellvigil.segment.sam_session` runs. Kirillov et al., "Segment
Anything" (2023): an image is encoded once, each prompt (points or a box) is then decoded at little cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.files import MANIFEST, bundle_sha256, check_listed, read_manifest, verify
from cellvigil.data import F32, U8, Array, frozen_array
from cellvigil.errors import BundleError

KIND = "segmenter"
SCHEMA_VERSION = 1
ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
IMAGE, EXTENT, FEATURES = "image", "extent", "features"  # the encoder's inputs, and what passes between the two graphs
POINTS, LABELS, MASKS, IOU = "points", "labels", "masks", "iou"  # the decoder's other inputs, and its outputs
PARTS = (IMAGE, EXTENT, POINTS, LABELS, FEATURES, MASKS, IOU)  # of the golden pair, a file each
TOKENS = 4  # masks a prompt: the single one, then the three of an ambiguous prompt
STRIDE = 4  # pixels of the picture to a pixel of a mask

_IDENTITY = ("name", "precision", "input_size")
"""What of the manifest, beside the models' own files, decides which masks come out."""


def golden_name(part: str) -> str:
    """The golden pair's file for an input or output of the graphs."""
    return f"golden_{part}.npy"


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """What the exporter put in, and what it got: one picture, p prompts of k points each."""

    image: U8  # (1, S, S, 3)
    extent: npt.NDArray[np.int64]  # (2,) rows, columns of the real picture
    points: F32  # (p, k, 2) x, y
    labels: npt.NDArray[np.int64]  # (p, k)
    features: F32  # (1, channels, S / 16, S / 16)
    masks: F32  # (p, 4, S / 4, S / 4) logits
    iou: F32  # (p, 4)


@dataclass(frozen=True, slots=True, eq=False)
class SegmenterBundle:
    """A verified segmenter bundle."""

    folder: Path
    name: str
    sha256: str  # which segmenter this is, see `segmenter_sha256`: records name it
    input_size: int  # side S of the square picture, pixels
    precision: str  # "fp32", "fp16" or "int8"
    manifest: Mapping[str, Any]

    @property
    def encoder_path(self) -> Path:
        """The image encoder's graph."""
        return self.folder / ENCODER

    @property
    def decoder_path(self) -> Path:
        """The prompt encoder's and mask decoder's graph."""
        return self.folder / DECODER

    def golden(self) -> Golden:
        """The golden pair. Raises BundleError if its files are not that."""
        image, extent, points, labels, features, masks, iou = (_loaded(self.folder, part) for part in PARTS)
        side, count = self.input_size, len(points)
        # The picture may come without the batch axis that the graph wants.
        image = image[None] if image.ndim == 3 else image
        fits = (
            _is(image, np.uint8, (1, side, side, 3)),
            _is(extent, np.int64, (2,)),
            _is(points, np.float32, (count, *labels.shape[1:2], 2)),
            _is(labels, np.int64, points.shape[:2]),
            _is(features, np.float32, (1, *features.shape[1:2], side // 16, side // 16)),
            _is(masks, np.float32, (count, TOKENS, side // STRIDE, side // STRIDE)),
            _is(iou, np.float32, (count, TOKENS)),
        )
        if not all(fits) or not count:
            raise BundleError("the golden pair does not fit the manifest", where=self.folder, hint="export it again")
        return Golden(*(frozen_array(each) for each in (image, extent, points, labels, features, masks, iou)))


def segmenter_sha256(manifest: Mapping[str, Any]) -> str:
    """Which segmenter a manifest describes: a hash of its models' files and of what goes in.

    As with encoders (`bundle.encoder.encoder_sha256`), tool versions and the golden pair are left out.
    """
    files = {name: entry for name, entry in manifest["files"].items() if name.startswith((ENCODER, DECODER))}
    return bundle_sha256({**{key: manifest[key] for key in _IDENTITY}, "files": files})


def open_segmenter(folder: Path, *, memory: Path | None = None) -> SegmenterBundle:
    """The segmenter bundle in `folder`, every file's size and sha256 checked.

    `memory` is a JSON file in the state folder that remembers what was hashed before (see `files.verify`).
    Raises BundleError if the bundle is missing, incomplete, damaged, or of another schema than this version reads.
    """
    manifest = read_manifest(folder, KIND)
    bundle = _described(folder, manifest)
    models = {path.name for stem in (ENCODER, DECODER) for path in folder.glob(f"{stem}*")} | {ENCODER, DECODER}
    check_listed(folder, manifest["files"], models | {golden_name(part) for part in PARTS})
    verify(folder, manifest, memory=memory)
    return bundle


def _described(folder: Path, manifest: Mapping[str, Any]) -> SegmenterBundle:
    """The bundle as its manifest describes it, nothing hashed yet."""
    where = folder / MANIFEST
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        hint = "export the segmenter again, or update cellvigil"
        raise BundleError(f"schema version {version} is not {SCHEMA_VERSION}", where=where, hint=hint)
    try:
        name, precision, side = manifest["name"], manifest["precision"], manifest["input_size"]
        identity = segmenter_sha256(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"the manifest is incomplete: {error}", where=where, hint="export it again") from None
    if type(side) is not int or side < 16 or side % 16:
        raise BundleError("the manifest does not describe a segmenter", where=where, hint="export it again")
    return SegmenterBundle(folder, str(name), identity, side, str(precision), manifest)


def _loaded(folder: Path, part: str) -> Array:
    path = folder / golden_name(part)
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"the golden pair cannot be read: {error}", where=path, hint="export it again") from None


def _is(array: Array, dtype: type[np.generic], shape: tuple[int, ...]) -> bool:
    return bool(array.dtype == dtype and array.shape == shape)
