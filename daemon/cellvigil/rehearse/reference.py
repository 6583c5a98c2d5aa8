"""Writes the reference cells of a rehearsal: fields of another seed with all states mixed, annotated in COCO form.

`cellvigil-index build NAME --coco OUT/annotations.coco.json` makes an index of them.
"""

from __future__ import annotations

import io
import json
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellvigil.errors import UsageError
from cellvigil.rehearse.assay import Assay, cells_on_ground, dish_of, wells_of
from cellvigil.rehearse.cells import mixed_culture
from cellvigil.rehearse.holotomography import refractive_index
from cellvigil.rehearse.run import image_file
from cellvigil.rehearse.scene import STATES, Floats, Scene, Well
from cellvigil.rehearse.shape import outlines, shapes_of
from cellvigil.rehearse.truth import CellRow, cell_rows

ANNOTATIONS = "annotations.coco.json"
_OTHER_SEED = 1_000_003


@dataclass(frozen=True, slots=True)
class Reference:
    """What was written."""

    annotations: Path
    images: int
    cells: dict[str, int]  # by state


def write_reference(out: Path, assay: Assay, n_frames: int = 12) -> Reference:
    """Write `n_frames` annotated fields that look like those of `assay` but share no cell with them.

    Each frame is a well of its own with its own lamp, cell sizes and contrast. Annotated are the cells that the truth
    calls detectable: wholly inside and of at least 30 um2. Boxes are half-open: x, y of the first pixel, then size.

    Raises UsageError if `out` holds an annotation file already.
    """
    target = out / ANNOTATIONS
    if target.exists():
        raise UsageError(
            "there are reference cells here already", where=out, hint="remove them, or choose another folder"
        )
    if n_frames < 1:
        raise UsageError(f"{n_frames} reference frames hold no cells", where="rehearse", hint="give 1 or more")
    out.mkdir(parents=True, exist_ok=True)
    other = _other(assay, n_frames)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, well in enumerate(wells_of(other), start=1):
        scene = _scene(other, well)
        name = f"reference_{number:03d}.tif"
        (out / name).write_bytes(_image(other, scene))
        height, width = other.frame_shape
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for entry in _annotations(other, scene):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
    target.write_text(json.dumps(_coco(other, images, annotations)) + "\n", encoding="utf-8")
    counts = Counter(STATES[entry["category_id"] - 1] for entry in annotations)
    return Reference(target, len(images), {name: counts[name] for name in STATES})


def _other(assay: Assay, n_frames: int) -> Assay:
    """Settings of the same look and another seed, with a well for each frame."""
    names = tuple(f"A{number}" for number in range(1, n_frames + 1))
    return replace(assay, seed=assay.seed + _OTHER_SEED, wells=names, treated=(), fields=1, timepoints=1)


def _coco(assay: Assay, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "info": {"description": "cellvigil rehearsal", "pixel_size_um": assay.micrometres_a_pixel},
        "images": images,
        "categories": [{"id": code + 1, "name": name, "supercategory": "cell"} for code, name in enumerate(STATES)],
        "annotations": annotations,
    }


def _image(assay: Assay, scene: Scene) -> bytes:
    """The file of one reference image; Nanolive's as plain refractive index (f32), which is what its reader yields."""
    if assay.kind == "gen5":
        return image_file(assay, scene)
    file = io.BytesIO()
    pixels = refractive_index(scene, assay.optics)
    tifffile.imwrite(file, pixels, photometric="minisblack", metadata=None, software=False)
    return file.getvalue()


def _scene(assay: Assay, well: Well) -> Scene:
    rng = np.random.default_rng([assay.seed, zlib.crc32(well.name.encode()), 4])
    count = cells_on_ground(assay, well)
    culture = mixed_culture(dish_of(assay), count, well.size, rng)
    return Scene(well, 1, 0, 0.0, culture.cells, np.empty((0, 3)), 0.0)


def _annotations(assay: Assay, scene: Scene) -> list[dict[str, Any]]:
    rows = {row.cell_id: row for row in cell_rows(scene, assay.frame_shape, assay.micrometres_a_pixel, assay.mitosis)}
    borders = outlines(shapes_of(scene.cells, assay.mitosis)) / assay.micrometres_a_pixel
    return [
        _annotation(rows[cell_id], border)
        for cell_id, border in zip(scene.cells["id"].tolist(), borders, strict=True)
        if cell_id in rows and rows[cell_id].detectable
    ]


def _annotation(row: CellRow, border: Floats) -> dict[str, Any]:
    """One cell: box and outline in pixels, x before y as COCO has it; pixel 0 spans 0 to 1 there."""
    points = (border + (row.y_px, row.x_px) + 0.5)[:, ::-1]
    first, last = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    x, y = points[:, 0], points[:, 1]
    area = 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
    return {
        "category_id": STATES.index(row.state) + 1,
        "bbox": [int(value) for value in (*first, *(last - first))],
        "area": round(area, 1),
        "segmentation": [[round(float(value), 1) for value in points.ravel()]],
        "iscrowd": 0,
    }
