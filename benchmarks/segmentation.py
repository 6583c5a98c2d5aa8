"""How well cells are found: real phase contrast, real counting-chamber fields, rehearsed fields.

    python benchmarks/segmentation.py

- phase-t98g: F1 of the masks at an intersection over union of 0.5 against the instance masks, a frame and mean;
  one setting, a user's for this cell type: diameter 65 um, 300 to 10,000 um2; and what an error of 10 or 20 % in the
  diameter costs. Beside it a naive watershed on local variance, with the same size limits.
- livedead: recall and precision against the annotated boxes (a mask's centre inside a box, one to one), nominal scale
  0.75 um a pixel, default settings. Precision also without the masks that touch the border: no count includes them.
- rehearsal: recall of the detectable cells by state, and precision of the masks off the border, default settings;
  of the large crowded frames also the time, one thread.

The real images are looked for in CELLVIGIL_TEST_DATA (default ../shared/data); without them that part is skipped.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import bench_lab
import cv2
import numpy as np
import tifffile

from cellvigil import config
from cellvigil.data import Array, Cells, Frame, FrameKey, ImageRule, IntensityRule
from cellvigil.normalize import analysis_image, grey, intensity_range
from cellvigil.rehearse import holotomography, optics
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.truth import CellRow, cell_rows
from cellvigil.segment import Segmenter, cells_from_labels, opencv_segmenter

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", bench_lab.ROOT.parent / "shared" / "data"))
T98G_UM, LIVEDEAD_UM = 0.871, 0.75
LARGE = (904, 1224)


def found(
    planes: Sequence[Array], um: float, settings: config.Segment, rule: ImageRule, segmenter: Segmenter | None = None
) -> list[Cells]:
    """The cells of each plane, through the same steps as a live frame; one intensity range for all."""
    segmenter = segmenter or opencv_segmenter(settings)
    intensity = intensity_range(planes[: rule.intensity.frames], rule.intensity)
    result = []
    for number, plane in enumerate(planes):
        key = FrameKey("bench", "", "", "A1", "1", number)
        frame = Frame(key, datetime.now(UTC), plane[None], ("",), (um, um), ())
        image = analysis_image(frame, "", rule, intensity)
        result.append(cells_from_labels(segmenter(grey(image), image.pixel_size_um), plane.shape, (um, um)))
    return result


def f1_at_half(labels: Array, truth: Array) -> float:
    """2 TP / (masks + true masks); a mask is right if its intersection over union with a true one is above 0.5."""
    right, masks, cells = right_at_half(labels, truth)
    return 2 * right / (masks + cells)


def right_at_half(labels: Array, truth: Array) -> tuple[int, int, int]:
    """Right masks, masks, true masks: see `f1_at_half`."""
    overlap = np.zeros((int(truth.max()) + 1, int(labels.max()) + 1))
    np.add.at(overlap, (truth.ravel(), labels.ravel()), 1)
    union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0, keepdims=True) - overlap
    right = int((overlap / np.maximum(union, 1) > 0.5)[1:, 1:].sum())
    return right, np.count_nonzero(np.unique(labels)), np.count_nonzero(np.unique(truth))


def phase_t98g(folder: Path) -> None:
    planes = [tifffile.imread(path) for path in sorted(folder.glob("t*.tif"))]
    truths = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("t*_mask.png"))]
    for share in (0.8, 0.9, 1.0, 1.1, 1.2):
        settings = config.Segment(cell_diameter_um=65.0 * share, min_area_um2=300.0, max_area_um2=10000.0)
        cells = found(planes, T98G_UM, settings, ImageRule(pixel_size_um=T98G_UM))
        scores = [f1_at_half(one.labels, truth) for one, truth in zip(cells, truths, strict=True)]
        frames = ", ".join(f"{score:.2f}" for score in scores)
        print(f"phase-t98g, diameter {65 * share:.0f} um: F1 at IoU 0.5 mean {np.mean(scores):.3f} ({frames})")
    limits = (300.0 / T98G_UM**2, 10000.0 / T98G_UM**2)
    naive = [naive_watershed(plane, 65.0 / T98G_UM, limits) for plane in planes]
    scores = [f1_at_half(labels, truth) for labels, truth in zip(naive, truths, strict=True)]
    print(f"phase-t98g, naive local-variance watershed: F1 at IoU 0.5 mean {np.mean(scores):.3f}")


def naive_watershed(plane: Array, diameter_px: float, areas_px: tuple[float, float]) -> Array:
    """What comes to mind first: Otsu's threshold of the local variance, distance transform, OpenCV's watershed."""
    low, high = np.percentile(plane, (0.1, 99.9))
    image = np.clip((plane - low) / (high - low) * 255, 0, 255).astype(np.float32)
    side = round(diameter_px / 8) | 1
    mean = cv2.blur(image, (side, side))
    spread = np.sqrt(np.maximum(cv2.blur(image * image, (side, side)) - mean * mean, 0))
    busy = np.clip(spread / spread.max() * 255, 0, 255).astype(np.uint8)
    _, mask = cv2.threshold(busy, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    _, seeds = cv2.connectedComponents((depth > 0.5 * diameter_px / 2).astype(np.uint8))
    markers = np.where(mask > 0, seeds, 0).astype(np.int32) + (mask == 0) * np.int32(seeds.max() + 1)
    labels = cv2.watershed(cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_GRAY2BGR), markers)
    labels[(mask == 0) | (labels < 0)] = 0
    sizes = np.bincount(labels.ravel())
    return np.where((sizes >= areas_px[0]) & (sizes <= areas_px[1]), np.arange(len(sizes)), 0)[labels]


def one_to_one(near: Array) -> list[tuple[int, int]]:
    """Pairs (mask, true cell) of an (n, m) table of distances, nearest first; not finite = no pair."""
    pairs: list[tuple[int, int]] = []
    masks, cells = set(), set()
    order = np.argwhere(np.isfinite(near))[np.argsort(near[np.isfinite(near)], kind="stable")]
    for mask, cell in order.tolist():
        if mask not in masks and cell not in cells:
            masks.add(mask)
            cells.add(cell)
            pairs.append((mask, cell))
    return pairs


def livedead(folder: Path) -> None:
    notes = json.loads((folder / "annotations.coco.json").read_text())
    names = {kind["id"]: kind["name"] for kind in notes["categories"]}
    planes = [
        cv2.imread(str(folder / "images" / image["file_name"]), cv2.IMREAD_GRAYSCALE) for image in notes["images"]
    ]
    rule = ImageRule(intensity=IntensityRule("full"))
    tally: Counter[str] = Counter()
    for image, plane, cells in zip(
        notes["images"], planes, found(planes, LIVEDEAD_UM, config.Segment(), rule), strict=True
    ):
        boxes = [note for note in notes["annotations"] if note["image_id"] == image["id"]]
        scale = np.array([plane.shape[1] / image["width"], plane.shape[0] / image["height"]] * 2)
        x, y, w, h = (np.array([note["bbox"] for note in boxes]).reshape(-1, 4) * scale).T
        cy, cx = (cells.centroids_px[:, axis, None] for axis in (0, 1))
        inside = (cy >= y) & (cy <= y + h) & (cx >= x) & (cx <= x + w)
        pairs = one_to_one(np.where(inside, np.hypot(cy - y - h / 2, cx - x - w / 2), np.inf))
        tally.update(masks=len(cells), inner=int((~cells.touches_edge).sum()), right=len(pairs))
        tally.update(right_inner=sum(not cells.touches_edge[mask] for mask, _ in pairs))
        tally.update(names[note["category_id"]] for note in boxes)
        tally.update("found " + names[boxes[box]["category_id"]] for _, box in pairs)
    states = ", ".join(f"{name} {tally['found ' + name]}/{tally[name]}" for name in names.values())
    print(
        f"livedead: recall {tally['right'] / len(notes['annotations']):.3f} ({states}), "
        f"precision {tally['right'] / tally['masks']:.3f}, off the border {tally['right_inner'] / tally['inner']:.3f}"
    )


def rehearsal(name: str, assay: Assay, every: int) -> None:
    render = optics.bright_field if assay.kind == "gen5" else holotomography.refractive_index
    scenes = [scene for scene in simulate(assay) if scene.timepoint % every == 0 and not scene.defocus_um]
    planes = [np.asarray(render(scene, assay.optics)) for scene in scenes]
    um = assay.micrometres_a_pixel
    ranges = {"gen5": IntensityRule(), "nanolive": IntensityRule("range", 1.33, 1.40)}
    all_cells = found(planes, um, config.Segment(), ImageRule(intensity=ranges[assay.kind]))
    tally: Counter[str] = Counter()
    for scene, cells in zip(scenes, all_cells, strict=True):
        rows: list[CellRow] = cell_rows(scene, assay.frame_shape, um, assay.mitosis)
        y, x, radius = np.array([(row.y_px, row.x_px, row.radius_px) for row in rows]).T
        away = np.hypot(cells.centroids_px[:, :1] - y, cells.centroids_px[:, 1:] - x) / radius
        pairs = one_to_one(np.where(away < 1, away, np.inf))
        tally.update(row.state for row in rows if row.detectable)
        tally.update("found " + rows[cell].state for _, cell in pairs if rows[cell].detectable)
        tally.update(inner=int((~cells.touches_edge).sum()))
        tally.update(right=sum(not cells.touches_edge[mask] for mask, _ in pairs))
    states = [state for state in ("live", "apoptotic", "necrotic", "debris") if tally[state]]
    parts = ", ".join(f"{state} {tally['found ' + state]}/{tally[state]}" for state in states)
    recall = sum(tally["found " + state] for state in states) / sum(tally[state] for state in states)
    print(f"rehearsal, {name}: recall {recall:.3f} ({parts}), precision {tally['right'] / tally['inner']:.3f}")
    if assay.frame_shape == LARGE:
        seconds = []
        for plane in planes:
            started = time.perf_counter()
            found([plane], um, config.Segment(), ImageRule(intensity=IntensityRule("full")))
            seconds.append(time.perf_counter() - started)
        print(f"rehearsal, {name}: median {np.median(seconds):.2f} s a frame from raw pixels to measured cells")


def main() -> None:
    cv2.setNumThreads(1)
    for name, part in (("phase-t98g", phase_t98g), ("livedead", livedead)):
        if (DATA / name).is_dir():
            part(DATA / name)
        else:
            print(f"{name}: skipped, {DATA / name} is not there (set CELLVIGIL_TEST_DATA)")
    rehearsal("bright field", Assay(seed=3), 4)
    rehearsal("bright field, crowded", Assay(seed=5, shape=LARGE, cells=300, wells=("A1", "B1"), treated=("B1",)), 8)
    rehearsal("holotomography", Assay(seed=4, kind="nanolive"), 4)


if __name__ == "__main__":
    main()
