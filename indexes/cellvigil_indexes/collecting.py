"""Labelled images -> labelled vectors: reads, cuts, embeds in batches, and keeps where each cell came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cellvigil.bundle.encoder import EncoderBundle, open_encoder
from cellvigil.bundle.files import MANIFEST
from cellvigil.bundle.index import ReferenceCell
from cellvigil.bundle.index_manifest import THUMBNAIL_PX
from cellvigil.data import F32, U8
from cellvigil.encoder import Encoder, open_session
from cellvigil.errors import BundleError
from cellvigil_indexes.images import read_image
from cellvigil_indexes.labelled import LabelledImage
from cellvigil_indexes.pictures import PictureRule, pictures
from cellvigil_indexes.writing import Collected

_BATCH = 64  # cells that are gathered before the encoders run

Progress = Callable[[int, int], None]
"""Told (cells done, cells in all) now and then."""


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
    images: Sequence[LabelledImage], how: PictureRule, encoders: Sequence[Encoder], progress: Progress
) -> Collected:
    """Cut out and embed every cell of the images, in their order.

    Raises BadFile for an image that does not open, DeviceError if an encoder fails.
    """
    total = sum(len(image.cells) for image in images)
    sizes = sorted({THUMBNAIL_PX, *(encoder.input_size for encoder in encoders)})
    cells: list[ReferenceCell] = []
    thumbnails: list[U8] = []
    vectors: dict[str, list[F32]] = {encoder.name: [] for encoder in encoders}
    waiting: list[Mapping[int, U8]] = []
    for image in images:
        if image.cells:
            pixels = read_image(image.path)
            waiting.append(pictures(image, pixels, how, sizes))
            cells += _references(image, pixels.shape[1:])
            thumbnails.append(waiting[-1][THUMBNAIL_PX])
        if waiting and (image is images[-1] or sum(len(each[THUMBNAIL_PX]) for each in waiting) >= _BATCH):
            for encoder in encoders:
                batch: U8 = np.concatenate([each[encoder.input_size] for each in waiting])
                vectors[encoder.name].append(encoder.embed(batch))
            waiting.clear()
            progress(len(cells), total)
    return Collected(
        cells=cells,
        embeddings={name: np.concatenate(parts) for name, parts in vectors.items()},
        thumbnails=np.concatenate(thumbnails),
    )


def _references(image: LabelledImage, shape: tuple[int, ...]) -> list[ReferenceCell]:
    return [ReferenceCell(cell.class_name, image.name, cell.box_in(shape), image.group) for cell in image.cells]
