"""COCO annotation files: boxes or masks beside their images, as annotation tools export them.

Reads the annotation file only; the images stay closed. Crowd regions (`iscrowd`) are no single cells and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.files import sha256_of
from cellvigil.data import Bools
from cellvigil.errors import UsageError
from cellvigil_indexes.labelled import LabelledCell, LabelledImage, LabelledSet
from cellvigil_indexes.masks import mask_of


def read_coco(path: Path, image_root: Path | None = None) -> LabelledSet:
    """The images of an annotation file with their cells, and all category names in the file's order.

    A pixel size is taken from `info.pixel_size_um`, which is no part of COCO but may be there. Images lie under
    `image_root`; without it beside the file, or in a folder `images` beside it. Images without any annotation are
    kept, with no cells.

    Raises UsageError if the file is no COCO file, contradicts itself, or an image is not where it should be.
    """
    content = _content(path)
    try:
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        notes: dict[Any, list[Mapping[str, Any]]] = {entry["id"]: [] for entry in content["images"]}
        for note in content["annotations"]:
            if not note.get("iscrowd"):
                notes[note["image_id"]].append(note)
        root = _root(path, image_root, [entry["file_name"] for entry in content["images"]])
        images = [_image(entry, root, notes[entry["id"]], categories) for entry in content["images"]]
        size = content.get("info", {}).get("pixel_size_um")
    except (KeyError, TypeError, AttributeError) as error:
        what = f"the annotation file lacks or garbles {error}"
        raise UsageError(what, where=path, hint="export it again as COCO (object detection)") from None
    return LabelledSet(
        images,
        list(dict.fromkeys(categories.values())),
        float(size) if isinstance(size, int | float) and size > 0 else None,
        {"annotations": path.name, "annotations_sha256": sha256_of(path)},
    )


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the annotation file: {error.strerror}", where=path) from None
    except ValueError as error:
        raise UsageError(f"the annotation file is no JSON: {error}", where=path) from None
    if not isinstance(content, dict):
        raise UsageError("the annotation file holds no COCO object", where=path)
    return content


def _root(path: Path, image_root: Path | None, names: Sequence[str]) -> Path:
    """The folder that holds the images. Raises UsageError naming the first that is missing."""
    tried = [image_root] if image_root else [path.parent, path.parent / "images"]
    for folder in tried:
        if all((folder / name).is_file() for name in names):
            return folder
    folder = max(tried, key=lambda folder: sum((folder / name).is_file() for name in names))
    missing = next(name for name in names if not (folder / name).is_file())
    raise UsageError(f"image {missing} is not there", where=folder, hint="say where the images are with --image-root")


def _image(
    entry: Mapping[str, Any], root: Path, notes: Sequence[Mapping[str, Any]], categories: Mapping[Any, str]
) -> LabelledImage:
    name = Path(entry["file_name"]).as_posix()
    height, width = int(entry["height"]), int(entry["width"])
    try:
        cells = tuple(_cell(note, height, width, categories[note["category_id"]]) for note in notes)
    except ValueError as error:
        raise UsageError(f"an annotation of {name} is wrong: {error}", where=root) from None
    return LabelledImage(root / name, name, cells, shape=(height, width))


def _cell(note: Mapping[str, Any], height: int, width: int, class_name: str) -> LabelledCell:
    if note.get("segmentation"):
        mask = mask_of(note["segmentation"], height, width)
        if mask.any():
            return cell_of_mask(class_name, mask)
    x, y, w, h = (float(value) for value in note["bbox"])
    y0, x0 = max(0, round(y)), max(0, round(x))
    y1, x1 = min(height, round(y + h)), min(width, round(x + w))
    if y1 <= y0 or x1 <= x0:
        raise ValueError(f"box {[x, y, w, h]} covers no pixel of the image")
    centre = (y + (h - 1) / 2, x + (w - 1) / 2)
    return LabelledCell(class_name, (y0, x0, y1, x1), centre)


def cell_of_mask(class_name: str, mask: Bools) -> LabelledCell:
    """The cell that a mask (height, width) of its whole image describes; the mask must not be empty."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    own = mask[y0:y1, x0:x1].copy()
    rows, columns = np.nonzero(own)
    return LabelledCell(class_name, (y0, x0, y1, x1), (y0 + float(rows.mean()), x0 + float(columns.mean())), own)
