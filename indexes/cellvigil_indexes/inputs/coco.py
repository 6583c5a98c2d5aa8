"""COCO annotation files: boxes or masks beside their images, as annotation tools export them.

Reads the annotation file only; the images stay closed. Crowd regions (`iscrowd`) are no single cells and are left out.
What contradicts itself is counted and named, all of it at once, and refused or left out as the user says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.files import sha256_of
from cellvigil.data import Bools
from cellvigil.errors import UsageError
from cellvigil_indexes.inputs.faults import Faults, one_spelling
from cellvigil_indexes.inputs.labelled import LabelledCell, LabelledImage, LabelledSet
from cellvigil_indexes.inputs.masks import mask_of

_OVER = 1.0  # pixels that a box may reach over the border unsaid: tools round outwards

Entry = Mapping[str, Any]


def read_coco(path: Path, image_root: Path | None = None, *, skip_bad: bool = False) -> LabelledSet:
    """The images of an annotation file with their cells, and all category names in the file's order.

    A pixel size is taken from `info.pixel_size_um`, which is no part of COCO but may be there. Images lie under
    `image_root`; without it beside the file, or in a folder `images` beside it. Images without any annotation are
    kept, with no cells. A box that reaches over the border is cut there, and told; its centre stays.

    Bad are: images that are not there, lack a size or are listed twice; annotations of unlisted images or categories,
    with a number used before, with a box whose centre is outside the image or an outline that covers no pixel;
    categories that differ in case only (with `skip_bad` they are one) or share a number. With `skip_bad` they are
    left out and told in the set's warnings. Raises UsageError that counts and names them if not, and for a file that
    is no COCO file or leaves no image.
    """
    content = _content(path)
    faults = Faults()
    try:
        classes = _classes(content["categories"], faults)
        root, entries = _images(content["images"], path, image_root, faults)
        notes = _notes(content["annotations"], entries, {entry["id"] for entry in content["images"]}, classes, faults)
        images = []
        for number, entry in entries.items():
            size = (int(entry["height"]), int(entry["width"]))
            cells = [_cell(note, size, classes[note["category_id"]], entry, faults) for note in notes[number]]
            name = Path(entry["file_name"]).as_posix()
            images.append(LabelledImage(root / name, name, tuple(cell for cell in cells if cell), shape=size))
        size_um = _pixel_size(content.get("info", {}).get("pixel_size_um"))
    except (KeyError, TypeError, AttributeError) as error:
        what = f"the annotation file lacks or garbles {error}"
        raise UsageError(what, where=path, hint="export it again as COCO (object detection)") from None
    left_out = faults.settle("the annotation file", where=path, skip_bad=skip_bad)
    if not images and faults.counts:
        raise UsageError("nothing is left of the annotation file", where=path, hint="; ".join(left_out))
    return LabelledSet(
        images,
        list(dict.fromkeys(classes.values())),
        size_um,
        {"annotations": path.name, "annotations_sha256": sha256_of(path), "left_out": faults.counts},
        warnings=left_out,
    )


def cell_of_mask(class_name: str, mask: Bools) -> LabelledCell:
    """The cell that a mask (height, width) of its whole image describes; the mask must not be empty."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    own = mask[y0:y1, x0:x1].copy()
    rows, columns = np.nonzero(own)
    return LabelledCell(class_name, (y0, x0, y1, x1), (y0 + float(rows.mean()), x0 + float(columns.mean())), own)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the annotation file: {error.strerror}", where=path) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the annotation file is no JSON: {error}", where=path) from None
    if not isinstance(content, dict):
        raise UsageError("the annotation file holds no COCO object", where=path)
    return content


def _classes(entries: Sequence[Entry], faults: Faults) -> dict[Any, str]:
    """Category id -> class name. Categories of the same name are one class."""
    names: dict[Any, str] = {}
    for entry in entries:
        if names.setdefault(entry["id"], str(entry["name"])) != str(entry["name"]):
            faults.add("categories whose number another one has", f"{entry['id']}: {entry['name']}")
    spelled = one_spelling(list(names.values()), faults, "category names that differ in case only")
    return {number: spelled[name] for number, name in names.items()}


def _images(
    entries: Sequence[Entry], path: Path, image_root: Path | None, faults: Faults
) -> tuple[Path, dict[Any, Entry]]:
    """The folder that holds the images, and those that can be used, by id."""
    good: dict[Any, Entry] = {}
    names: set[str] = set()
    for entry in entries:
        name, number = str(entry["file_name"]), entry["id"]
        if number in good or name in names:
            faults.add("images that are listed twice", name)
        elif not all(_is_length(entry.get(side)) for side in ("height", "width")):
            faults.add("images without height and width", name)
        else:
            good[number] = entry
        names.add(name)
    root = _root(path, image_root, [entry["file_name"] for entry in good.values()])
    missing = {number for number, entry in good.items() if not (root / entry["file_name"]).is_file()}
    if missing and len(missing) == len(good):
        what = f"image {next(iter(good.values()))['file_name']} is not there, nor is any other"
        raise UsageError(what, where=root, hint="say where the images are with --image-root")
    for number in missing:
        faults.add(f"images that are not in {root} (see --image-root)", good[number]["file_name"])
    return root, {number: entry for number, entry in good.items() if number not in missing}


def _pixel_size(value: Any) -> float | None:
    """Micrometres; None for what is no size."""
    told = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    return float(value) if told else None


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and 1 <= value < math.inf


def _root(path: Path, image_root: Path | None, names: Sequence[str]) -> Path:
    """The folder that holds the most of the images."""
    tried = [image_root] if image_root else [path.parent, path.parent / "images"]
    return max(tried, key=lambda folder: sum((folder / name).is_file() for name in names))


def _notes(
    entries: Sequence[Entry], images: Mapping[Any, Entry], listed: set[Any], classes: Mapping[Any, str], faults: Faults
) -> dict[Any, list[Entry]]:
    """The annotations that can be used, by image id; those of images that were left out go with them."""
    found: dict[Any, list[Entry]] = {number: [] for number in images}
    seen: set[Any] = set()
    for place, note in enumerate(entries):
        number, image = note.get("id"), note["image_id"]
        if image not in listed:
            faults.add("annotations of images that are not listed", f"image {image!r}")
        elif note.get("category_id") not in classes:
            faults.add("annotations of unknown categories", f"category {note.get('category_id')!r}")
        elif number is not None and number in seen:
            faults.add("annotations whose number was used before", f"id {number!r} at place {place}")
        elif image in found and not note.get("iscrowd"):
            found[image].append(note)
        seen.add(number)
    return found


def _cell(note: Entry, size: tuple[int, int], class_name: str, image: Entry, faults: Faults) -> LabelledCell | None:
    """The cell of one annotation; None (and noted) for one that makes no sense."""
    name = image["file_name"]
    try:
        if note.get("segmentation"):
            mask = mask_of(note["segmentation"], *size)
            if mask.any():
                return cell_of_mask(class_name, mask)
            faults.add("outlines that cover no pixel", f"{name}: annotation {note.get('id')}")
            return None
        x, y, w, h = (float(value) for value in note["bbox"])
    except (ValueError, KeyError, MemoryError) as error:  # no memory: for the size that the file says the image has
        faults.add("outlines or boxes that make no sense", f"{name}: {error}")
        return None
    places = _box((x, y, w, h), size, f"{name}: box {[x, y, w, h]}", faults)
    return LabelledCell(class_name, *places) if places else None


def _box(
    box: tuple[float, float, float, float], size: tuple[int, int], example: str, faults: Faults
) -> tuple[tuple[int, int, int, int], tuple[float, float]] | None:
    """The box (y0, x0, y1, x1), cut at the image's border, and its centre as it was drawn; None (and noted) if bad."""
    x, y, w, h = box
    height, width = size
    if not all(math.isfinite(value) for value in box) or w <= 0 or h <= 0:
        faults.add("boxes without an area", example)
        return None
    if not (0 <= y + h / 2 <= height and 0 <= x + w / 2 <= width):
        faults.add("boxes that lie outside the image", example)
        return None
    y0, x0, y1, x1 = max(0, round(y)), max(0, round(x)), min(height, round(y + h)), min(width, round(x + w))
    if y1 <= y0 or x1 <= x0:
        faults.add("boxes that cover no pixel", example)
        return None
    if max(-x, -y, x + w - width, y + h - height) > _OVER:
        faults.note("boxes reach over the image's border and were cut there", example)
    return (y0, x0, y1, x1), (y + (h - 1) / 2, x + (w - 1) / 2)
