"""Labelled cells from elsewhere, embedded exactly as an index's own cells were: for scoring, tuning and adding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.bundle.index import ReferenceIndex, check_encoders
from cellvigil.data import I64
from cellvigil.errors import UsageError
from cellvigil.neighbours import ExactSearch, mean_distance
from cellvigil.segment.sam_session import open_same_sam
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.inputs.collecting import Progress, collect, open_bundles, start
from cellvigil_indexes.inputs.labelled import LabelledImage, LabelledSet, in_channels
from cellvigil_indexes.inputs.pictures import PictureRule, picture_rule


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Embedded cells of an index's classes, spelled as the index spells them."""

    collected: Collected
    not_in_index: Mapping[str, int]  # other classes -> their cells, which were left out


def embed_target(
    index: ReferenceIndex,
    found: LabelledSet,
    *,
    encoder_folder: Path,
    device: str,
    progress: Progress,
    spares: bool = False,
    new_classes: bool = False,
) -> Target:
    """Embed labelled cells by the index's encoders, through its image rule.

    `spares`: by the encoders that no call looks at too. `new_classes`: cells of classes that the index does not have
    (compared whatever their case) are kept, else counted and left out.

    Raises UsageError if no cell is left, or images and index do not fit together; BundleError for the encoders.
    """
    check_kind(index, found)
    found = _read_by(index, found)
    own = {name.casefold(): name for name in index.classes}
    images = list(found.images) if new_classes else _of_classes(found.images, own)
    if not any(image.cells for image in images):
        raise UsageError(f"no labelled cell is of the index's classes: {', '.join(index.classes)}")
    how = _rule(index, found, encoder_folder, device)
    bundles = encoders_of(index, encoder_folder, spares=spares)
    collected = collect(images, how, start(bundles, device), progress, found.gathering)
    cells = [replace(cell, class_name=own.get(cell.class_name.casefold(), cell.class_name)) for cell in collected.cells]
    foreign = Counter(c.class_name for i in found.images for c in i.cells if c.class_name.casefold() not in own)
    return Target(replace(collected, cells=cells), {} if new_classes else dict(sorted(foreign.items())))


def embed_cells(
    index: ReferenceIndex, found: LabelledSet, *, encoder_folder: Path, device: str, progress: Progress
) -> Collected:
    """Embed cells of any class or none by the encoders that calls look at, through the index's image rule.

    A class that the index has (whatever its case) is spelled as there; nothing else is done with labels. Raises as
    `embed_target` does.
    """
    check_kind(index, found)
    found = _read_by(index, found)
    own = {name.casefold(): name for name in index.classes}
    how = _rule(index, found, encoder_folder, device)
    collected = collect(found.images, how, start(encoders_of(index, encoder_folder), device), progress, found.gathering)
    cells = [replace(cell, class_name=own.get(cell.class_name.casefold(), cell.class_name)) for cell in collected.cells]
    return replace(collected, cells=cells)


def _read_by(index: ReferenceIndex, found: LabelledSet) -> LabelledSet:
    """The same images, their files read by the index's channels; the one that shows the cells is that of its build."""
    usual = str(index.manifest["provenance"].get("channel", ""))
    return replace(found, images=in_channels(found.images, index.image_rule, usual))


def _rule(index: ReferenceIndex, found: LabelledSet, encoder_folder: Path, device: str) -> PictureRule:
    """How the index's own cells were outlined, these are."""
    provenance = index.manifest["provenance"]
    diameter = provenance.get("cell_diameter_um")
    outlined = diameter or any(cell.is_every_cell for image in found.images for cell in image.cells)
    sam = open_same_sam(provenance, encoder_folder, device) if outlined else None
    return picture_rule(index.image_rule, found.images, found.pixel_size_um, diameter, sam)


def check_kind(index: ReferenceIndex, found: LabelledSet) -> None:
    """Raises UsageError for frames put to an index of ready-made pictures: they were not made by the same steps."""
    if not index.image_rule.frame_normalised and (found.pixel_size_um or "annotations" in found.provenance):
        hint = "give --images without --pixel-size"
        raise UsageError(f"index {index.name} was built from single-cell images fitted whole", hint=hint)


def encoders_of(index: ReferenceIndex, folder: Path, *, spares: bool = False) -> list[EncoderBundle]:
    """The bundles of an index's encoders. Raises BundleError for one that is missing, or is another one."""
    wanted = (*index.encoders, *index.spare_encoders) if spares else index.encoders
    bundles = open_bundles([encoder.name for encoder in wanted], folder)
    check_encoders(index, bundles, spares=spares)
    return bundles


def repeats(index: ReferenceIndex, collected: Collected) -> I64:
    """Which reference each cell repeats, (n,) i64, -1 for none: its very picture is in the index.

    Cells that lie on a reference cell but for the encoder's rounding: within 1/1000 of the usual distance. Of the
    vectors as they come: along a few discriminant axes cells lie that near to each other by chance.
    """
    names, scales = [encoder.name for encoder in index.encoders], [encoder.scale for encoder in index.encoders]
    blocks = [index.embeddings[name] for name in names]
    near = ExactSearch.of(names, blocks, scales, metric=index.metric).nearest(collected.embeddings, 1)
    usual = sum(s * mean_distance(block, index.metric) for s, block in zip(scales, blocks, strict=True))
    limit = usual**0.5 / 1000 if index.metric == "l2" else usual / 1000
    return np.where(near.distances[:, 0] <= limit, near.ids[:, 0], -1).astype(np.int64)


def _of_classes(images: Sequence[LabelledImage], own: Mapping[str, str]) -> list[LabelledImage]:
    """The images with only those cells whose class is among `own` (case-folded); images without any are left out."""
    chosen = [
        replace(image, cells=tuple(cell for cell in image.cells if cell.class_name.casefold() in own))
        for image in images
    ]
    return [image for image in chosen if image.cells]
