"""One image's cells on their way to vectors: what the cache has of them, and what is still to be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cellvigil.bundle.index import ReferenceCell
from cellvigil.bundle.index_manifest import THUMBNAIL_PX
from cellvigil.channels import shown
from cellvigil.data import F32, I64, U8, Array, Fit
from cellvigil.ruled import Embeds
from cellvigil_indexes.inputs.cache import Cache, cell_keys, encoder_key, picture_key
from cellvigil_indexes.inputs.labelled import LabelledImage
from cellvigil_indexes.inputs.pictures import pictures
from cellvigil_indexes.inputs.scene import PictureRule, digest_of, listed, pixels_of, with_every_cell

Box = tuple[int, int, int, int]
"""y0, x0, y1, x1."""

_SMALL = Fit(THUMBNAIL_PX)
_THUMBNAIL = "thumbnail"
_OUTLINE = "outline"


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """One image's place in the cache."""

    cache: Cache
    image: LabelledImage  # outlined
    how: PictureRule
    digest: str  # of the image's bytes
    key: str  # of its pictures

    def read(self, kind: str, key: str, names: Sequence[str]) -> tuple[dict[str, Array], I64] | None:
        """Those arrays of the image, and where each of its cells is in them (-1: nowhere); None if there are none."""
        found = self.cache.read(kind, key, self.digest)
        stored = found.get("cells")
        if stored is None or any(name not in found or len(found[name]) != len(stored) for name in names):
            return None
        rows = {row.tobytes(): place for place, row in enumerate(stored)}
        keys = cell_keys(self.image, self.how)
        return found, np.array([rows.get(cell, -1) for cell in keys], dtype=np.int64)

    def write(self, kind: str, key: str, arrays: Mapping[str, Array]) -> None:
        """Keep arrays of the image's cells, and with them those of its other cells that were there."""
        keys = b"".join(cell_keys(self.image, self.how))
        fresh = {"cells": np.frombuffer(keys, dtype=np.uint8).reshape(-1, 16), **arrays}
        there = self.read(kind, key, tuple(arrays))
        if there is not None and all(there[0][name].shape[1:] == array.shape[1:] for name, array in fresh.items()):
            old, at = there
            others = np.setdiff1d(np.arange(len(old["cells"])), at)
            fresh = {name: np.concatenate([array, old[name][others]]) for name, array in fresh.items()}
        self.cache.write(kind, key, self.digest, fresh)


@dataclass(slots=True, eq=False)
class Piece:
    """The cells of one image. Row i of everything is its cell i."""

    image: LabelledImage
    cells: Sequence[ReferenceCell]
    thumbnails: U8  # (n, 64, 64, C)
    vectors: dict[str, F32]  # encoder name -> (n, d); rows in `missing` are still to be filled
    missing: dict[str, I64]  # encoder name -> rows without a vector
    shelf: Shelf | None  # None: nothing is cached
    crops: Mapping[Fit, U8] = field(default_factory=dict)  # by fit; {} where nothing is missing

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def cached(self) -> int:
        """Cells that no encoder needs to see."""
        return len(self) - len(np.unique(np.concatenate([np.empty(0, np.int64), *self.missing.values()])))


def outlined(image: LabelledImage, how: PictureRule, cache: Cache | None) -> LabelledImage:
    """The image itself, or if it is a homogeneous frame, that with its cells. Raises BadFile if it does not open."""
    if not any(cell.is_every_cell for cell in image.cells):
        return image
    if cache is None:
        return with_every_cell(image, pixels_of(image), how)
    digest, key = digest_of(image), picture_key(image, how)
    known = cache.read(_OUTLINE, key, digest)
    if {"centres", "boxes", "numbers"} <= known.keys():
        return listed(image, known["centres"], known["boxes"], known["numbers"])
    found = with_every_cell(image, pixels_of(image), how)
    arrays = {
        "centres": np.array([cell.centre_px for cell in found.cells], dtype=np.float64).reshape(-1, 2),
        "boxes": np.array([cell.box_px for cell in found.cells], dtype=np.int64).reshape(-1, 4),
        "numbers": np.array([cell.number for cell in found.cells], dtype=np.int64),
    }
    cache.write(_OUTLINE, key, digest, arrays)
    return found


def piece_of(image: LabelledImage, how: PictureRule, encoders: Sequence[Embeds], cache: Cache | None) -> Piece:
    """Look up the cells of an outlined image, and cut those pictures that are missing.

    Raises BadFile as `pixels_of` and `pictures` do, UsageError as `pictures` does.
    """
    shelf = Shelf(cache, image, how, digest_of(image), picture_key(image, how)) if cache else None
    vectors, missing = _vectors(len(image.cells), shelf, encoders)
    seen = _seen(shelf) if shelf else None
    if seen is not None and not any(len(rows) for rows in missing.values()):
        boxes, thumbnails = seen
        return Piece(image, _references(image, boxes), thumbnails, vectors, missing, shelf)
    pixels = pixels_of(image)
    crops = pictures(image, pixels, how, (_SMALL, *(encoder.bundle.fit for encoder in encoders)))
    thumbnails = shown(crops[_SMALL], how.rule)
    boxes = [cell.box_in(pixels.shape[1:]) for cell in image.cells]
    if shelf and seen is None:
        places = np.array(boxes, dtype=np.int64).reshape(-1, 4)
        shelf.write(_THUMBNAIL, shelf.key, {"values": thumbnails, "boxes": places})
    piece = Piece(image, _references(image, boxes), thumbnails, vectors, missing, shelf)
    piece.crops = crops if encoders else {}
    return piece


def embed(pieces: Sequence[Piece], encoders: Sequence[Embeds]) -> None:
    """Fill in the vectors that are missing, all pieces' in one go for each encoder, and let their pictures go.

    Raises DeviceError if an encoder fails.
    """
    for encoder in encoders:
        name = encoder.name
        waiting = [piece for piece in pieces if len(piece.missing[name])]
        if not waiting:
            continue
        batch: U8 = np.concatenate([piece.crops[encoder.bundle.fit][piece.missing[name]] for piece in waiting])
        ends = np.cumsum([len(piece.missing[name]) for piece in waiting])[:-1]
        for piece, vectors in zip(waiting, np.split(encoder.embed(batch), ends), strict=True):
            piece.vectors[name][piece.missing[name]] = vectors
            if piece.shelf:
                piece.shelf.write(name, encoder_key(encoder, piece.shelf.key), {"values": piece.vectors[name]})
    for piece in pieces:
        piece.crops = {}


def _seen(shelf: Shelf) -> tuple[list[Box], U8] | None:
    """Boxes and thumbnails of the image's cells as the cache has them; None if one is missing."""
    there = shelf.read(_THUMBNAIL, shelf.key, ("values", "boxes"))
    if there is None or (there[1] < 0).any():
        return None
    thumbnails, boxes = (there[0][name][there[1]] for name in ("values", "boxes"))
    return [(y0, x0, y1, x1) for y0, x0, y1, x1 in boxes.tolist()], np.asarray(thumbnails, dtype=np.uint8)


def _vectors(count: int, shelf: Shelf | None, encoders: Sequence[Embeds]) -> tuple[dict[str, F32], dict[str, I64]]:
    """Each encoder's vectors of `count` cells as far as the cache has them, and the rows that it lacks."""
    vectors, missing = {}, {}
    for encoder in encoders:
        block = np.empty((count, encoder.bundle.dimension), np.float32)
        known = np.zeros(count, dtype=bool)
        found = shelf.read(encoder.name, encoder_key(encoder, shelf.key), ("values",)) if shelf else None
        if found is not None:
            known = found[1] >= 0
            block[known] = found[0]["values"][found[1][known]]
        vectors[encoder.name], missing[encoder.name] = block, np.flatnonzero(~known)
    return vectors, missing


def _references(image: LabelledImage, boxes: Sequence[Box]) -> list[ReferenceCell]:
    return [
        ReferenceCell(cell.class_name, image.name, box, cell.group or image.group)
        for cell, box in zip(image.cells, boxes, strict=True)
    ]
