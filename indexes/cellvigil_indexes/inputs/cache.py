"""Vectors, thumbnails and outlines that were made before, so that a cell is embedded once by each encoder.

    CACHE/<kind>/<key>/<ab>/<image digest>.npz     kind: an encoder's name, "thumbnail" or "outline"

The key is a hash of everything but the image's bytes that decides the numbers: encoder, how it is run, the picture rule
with its intensity range and pixel size, versions. A file holds some cells of one image, each under a hash of what
decides its picture (its centre; its outline and its neighbours', where masks count). So another choice of cells, other
classes or another name of the image find what is there. A file that is damaged or of another key is as none, and is
written again. The folder may be deleted at any time. Reads and writes below it only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import cellvigil
from cellvigil.bundle.index_manifest import rule_as_dict
from cellvigil.data import Array
from cellvigil.device import runtime
from cellvigil.ruled import Embeds
from cellvigil_indexes.inputs.labelled import LabelledImage
from cellvigil_indexes.inputs.pictures import PICTURES
from cellvigil_indexes.inputs.scene import PictureRule, channel_of, intensity_of, ranges_of, size_of

OUTLINED = 2
"""Rises when SAM outlines cells otherwise than before."""

_ABOUT = "about"  # the array that names a file's whole key


class Cache:
    """One cache folder. Where it cannot be written, `trouble` says why, once, and nothing else is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trouble = ""

    def read(self, kind: str, key: str, digest: str) -> dict[str, Array]:
        """The arrays that are kept of one image; {} if there are none, or none that can be trusted."""
        path = self._path(kind, key, digest)
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: np.asarray(file[name]) for name in file.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
            return {}
        about = arrays.pop(_ABOUT, np.empty(0, np.uint8))
        return arrays if about.tobytes() == _digest(kind, key, digest).encode() else {}

    def write(self, kind: str, key: str, digest: str, arrays: Mapping[str, Array]) -> None:
        """Keep arrays of one image in the place of what was there; a reader sees all of them or none."""
        if self.trouble:
            return
        path = self._path(kind, key, digest)
        fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        about = np.frombuffer(_digest(kind, key, digest).encode(), dtype=np.uint8)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                np.savez(file, **{**arrays, _ABOUT: about})  # type: ignore[arg-type] # numpy's stub sees allow_pickle
            fresh.replace(path)
        except OSError as error:
            self.trouble = f"nothing is cached: {error}"
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)

    def _path(self, kind: str, key: str, digest: str) -> Path:
        return self.folder / kind / key[:16] / digest[:2] / f"{digest}.npz"


def picture_key(image: LabelledImage, how: PictureRule) -> str:
    """A hash of all that decides this image's pictures, beside its bytes and the place of each cell."""
    return _hashed(
        {
            "versions": [PICTURES, cellvigil.__version__, cv2.__version__],
            "rule": rule_as_dict(how.rule),
            "pixel_size_um": size_of(image, how),
            "intensity": intensity_of(image, how),
            "channel": channel_of(image),
            "outlines": how.outlines.model_dump(mode="json") if how.outlines else None,
            "shape": image.shape,
            **({"segmenter": how.sam.bundle.sha256, "on": how.sam.provider, "outlined": OUTLINED} if how.sam else {}),
            **({"ranges": dict(ranges_of(image, how)), "planes": image.planes} if how.rule.channels else {}),
        }
    )


def encoder_key(encoder: Embeds, picture: str) -> str:
    """A hash of all that decides an encoder's vectors of such pictures; its own size is in its sha256."""
    return _hashed([picture, encoder.bundle.sha256, encoder.provider, _runtime_version()])


@functools.cache
def _runtime_version() -> str:
    return str(runtime().__version__)  # asked once: it looks through everything that is installed


def cell_keys(image: LabelledImage, how: PictureRule) -> list[bytes]:
    """What tells the pictures of one image apart, 16 bytes each, in the cells' order."""
    own = [repr((cell.box_px, cell.centre_px)).encode() for cell in image.cells]
    if image.has_label_image:
        own = [text + b" %d" % cell.number for text, cell in zip(own, image.cells, strict=True)]
    elif how.rule.mask or how.outlines is not None:  # outlines that overlap, or compete for what the segmenter finds
        masks = [b"" if cell.mask is None else cell.mask.tobytes() for cell in image.cells]
        together = hashlib.sha256(b"".join(text + mask for text, mask in zip(own, masks, strict=True))).digest()
        own = [text + together for text in own]
    return [hashlib.blake2b(text, digest_size=16).digest() for text in own]


def _hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _digest(kind: str, key: str, digest: str) -> str:
    return hashlib.sha256(f"{kind}\n{key}\n{digest}".encode()).hexdigest()
