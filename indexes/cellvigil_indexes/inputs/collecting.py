"""Labelled images -> labelled vectors: reads, cuts, embeds in batches, and keeps where each cell came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from cellvigil.bundle.encoder import EncoderBundle, open_encoder
from cellvigil.bundle.files import MANIFEST
from cellvigil.bundle.index_manifest import THUMBNAIL_PX
from cellvigil.data import U8
from cellvigil.encoder import Encoder, open_session
from cellvigil.errors import BadFile, BundleError, UsageError
from cellvigil.ruled import Embeds, ruled
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.inputs import likeness
from cellvigil_indexes.inputs.cache import Cache
from cellvigil_indexes.inputs.choosing import choose
from cellvigil_indexes.inputs.faults import Faults
from cellvigil_indexes.inputs.fitting import check_encoders_fit
from cellvigil_indexes.inputs.gathering import Gathering
from cellvigil_indexes.inputs.labelled import LabelledImage
from cellvigil_indexes.inputs.pictures import PictureRule
from cellvigil_indexes.inputs.pieces import Piece, embed, outlined, piece_of

_BATCH = 64  # cells that are gathered before the encoders run


class Progress(Protocol):
    """Told now and then how far the embedding is."""

    def __call__(self, done: int, total: int, /, cached: int = 0) -> None:
        """`done` cells of `total` (a guess, while frames are still to be outlined), `cached` of them made before."""


def open_bundles(names: Sequence[str], folder: Path) -> list[EncoderBundle]:
    """The encoder bundles of these names. Raises BundleError for one that is not there, or not what it should be."""
    for name in names:
        if not (folder / name / MANIFEST).is_file():
            hint = f"make it with `cellvigil-export run {name} --out {folder}`"
            raise BundleError(f"there is no encoder {name}", where=folder, hint=hint)
    return [open_encoder(folder / name) for name in names]


def start(bundles: Sequence[EncoderBundle], device: str) -> list[Encoder]:
    """Load the encoders. Raises DeviceError or BundleError as `open_session` does."""
    return [open_session(bundle, device=device) for bundle in bundles]


def collect(
    images: Sequence[LabelledImage],
    how: PictureRule,
    encoders: Sequence[Encoder],
    progress: Progress,
    gathering: Gathering | None = None,
) -> Collected:
    """Cut out and embed every cell of the images, in their order, or those that `gathering` chooses.

    Each of the `encoders` is used as the image rule says: see `cellvigil.ruled`.

    Frames of one class are outlined first. What was left out is told in the warnings.

    Raises BadFile for an image that does not open (unless such are skipped), DeviceError if an encoder fails,
    UsageError if no cell is left, or an encoder cannot look at such pictures.
    """
    check_encoders_fit(how.rule, [encoder.bundle for encoder in encoders])
    used = [ruled(encoder, how.rule) for encoder in encoders]
    run = _Run(how, gathering or Gathering())
    chosen, dropped = _chosen(images, run) if run.gathering.chooses else (images, [])
    pieces = _made(chosen, run, used, progress)
    cells, thumbnails = [cell for piece in pieces for cell in piece.cells], _thumbnails(pieces)
    told = [*(f"left out: {text}" for text in run.faults.told()), *dropped]
    told += [run.cache.trouble] if run.cache and run.cache.trouble else []
    return Collected(
        cells=cells,
        embeddings={e.name: np.concatenate([piece.vectors[e.name] for piece in pieces]) for e in encoders},
        thumbnails=thumbnails,
        image_rule=how.rule,
        warnings=tuple(told),
    )


class _Run:
    """What the steps of one call share."""

    def __init__(self, how: PictureRule, gathering: Gathering) -> None:
        self.how = how
        self.gathering = gathering
        self.cache = Cache(gathering.cache) if gathering.cache else None
        self.faults = Faults()

    def outlined(self, image: LabelledImage) -> LabelledImage | None:
        """The image with its cells; None (and noted) if it has none, or does not open and may be skipped."""
        if not image.cells:
            return None
        try:
            whole = outlined(image, self.how, self.cache)
        except BadFile as error:
            self._skip(image, error)
            return None
        return whole if whole.cells else None

    def piece(self, image: LabelledImage, encoders: Sequence[Embeds]) -> Piece | None:
        """The cells of an image; None as `outlined`."""
        whole = self.outlined(image)
        if whole is None:
            return None
        try:
            return piece_of(whole, self.how, encoders, self.cache)
        except BadFile as error:
            self._skip(image, error)
            return None

    def _skip(self, image: LabelledImage, error: BadFile) -> None:
        if not self.gathering.skip_bad:
            raise error
        self.faults.add("images that do not open", f"{image.name}: {error.what}")


def _made(images: Sequence[LabelledImage], run: _Run, encoders: Sequence[Embeds], progress: Progress) -> list[Piece]:
    """The cells of every image, embedded. Raises UsageError if there are none."""
    left = sum(len(image.cells) for image in images)
    pieces: list[Piece] = []
    waiting: list[Piece] = []
    done = cached = 0
    for image in images:
        left -= len(image.cells)
        piece = run.piece(image, encoders)
        if piece is None:
            continue
        pieces.append(piece)
        waiting += [piece] if piece.crops else []
        done, cached = done + len(piece), cached + piece.cached
        if sum(map(len, waiting)) >= _BATCH:
            embed(waiting, encoders)
            waiting.clear()
            progress(done, done + left, cached=cached)
    embed(waiting, encoders)
    if not pieces:
        hint = "; ".join(run.faults.told()) or "look at the annotations, --only and --exclude, or --cell-diameter"
        raise UsageError("there is no cell in these images", hint=hint)
    progress(done, done, cached=cached)
    return pieces


def _chosen(images: Sequence[LabelledImage], run: _Run) -> tuple[list[LabelledImage], list[str]]:
    """The images with only the chosen cells, and what is to be told of the choice."""
    found = [whole for whole in map(run.outlined, images) if whole is not None]
    told: list[str] = []
    if run.gathering.drop_duplicates:
        pieces = [piece for piece in (run.piece(image, ()) for image in found) if piece is not None]
        labels = [run.gathering.class_of(cell.class_name) for piece in pieces for cell in piece.cells]
        kept = likeness.firsts(likeness.copies(_thumbnails(pieces)), labels)
        found = _with_cells([piece.image for piece in pieces], np.flatnonzero(kept).tolist())
        told = [f"{np.count_nonzero(~kept)} near-copies of other cells were left out"] if not kept.all() else []
    asked = run.gathering
    cells = [(asked.class_of(cell.class_name), cell.group or image.group) for image in found for cell in image.cells]
    rows = choose(
        [name for name, _ in cells],
        [group for _, group in cells],
        limit=asked.limit,
        balance=asked.balance,
        seed=asked.seed,
    )
    return _with_cells(found, rows.tolist()), told


def _thumbnails(pieces: Sequence[Piece]) -> U8:
    parts = [piece.thumbnails for piece in pieces]
    return np.concatenate(parts) if parts else np.empty((0, THUMBNAIL_PX, THUMBNAIL_PX, 1), np.uint8)


def _with_cells(images: Sequence[LabelledImage], rows: Sequence[int]) -> list[LabelledImage]:
    """The images with only those cells whose number, counted through all of them, is among `rows`."""
    wanted = set(rows)
    found, before = [], 0
    for image in images:
        cells = tuple(cell for number, cell in enumerate(image.cells, start=before) if number in wanted)
        before += len(image.cells)
        if cells:
            found.append(replace(image, cells=cells))
    return found
