"""OpenCV alone, MobileSAM over a grid of points, MobileSAM asked by OpenCV's boxes: which is better, at what cost.

    python benchmarks/sam_segmentation.py [--smoke] [--bundle encoders/mobile-sam] [--points 32] [--threads 0]
        [--only livedead]

The weights are real: MobileSAM's own (`cellvigil-export run mobile-sam` makes the bundle), trained on photographs.

- phase-t98g: F1 at an intersection over union of 0.5, a frame and pooled, and seconds a frame; diameter 65 um, 300 to
  10,000 um2 for all (the OpenCV segmenter was developed on these very frames, so its figures flatter it). The grid has
  the published settings of SAM's automatic mask generator. Boxes have one choice of ours, their margin: every margin's
  F1 is shown on t01 and t02, where it was chosen, and on t03 and t04, which had no part in it (the same field of view
  hours later, so not independent). The same grid with looser filters shows what they cost.
  "Outlines": SAM asked by the boxes of the true masks: what it would be worth if every cell were found.
- livedead: F1 of the masks' bounding boxes at 0.5 against the annotated boxes, every 6th field, default settings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench_lab
import cv2
import numpy as np
import tifffile
from segmentation import DATA, LIVEDEAD_UM, T98G_UM, found, one_to_one, right_at_half

from cellvigil import config
from cellvigil.bundle.segmenter import open_segmenter
from cellvigil.data import I32, U8, Array, Cells, ImageRule, IntensityRule
from cellvigil.segment import Segmenter, opencv_segmenter, sam
from cellvigil.segment.sam_session import SamSession, open_sam

MARGINS = (0.0, 0.05, 0.1, 0.2)
CHOSEN_ON = slice(0, 2)
LOOSE = 0.8  # of predicted overlap and stability; published: 0.88 and 0.95


@dataclass(frozen=True)
class Score:
    """What one way of finding cells is worth, image by image."""

    right: Array
    masks: Array
    cells: Array
    seconds: Array

    def f1(self, part: slice = slice(None)) -> float:
        """Pooled over images."""
        return float(2 * self.right[part].sum() / (self.masks[part].sum() + self.cells[part].sum()))

    def told(self) -> str:
        """One line."""
        each = " ".join(f"{2 * r / (m + c):.3f}" for r, m, c in zip(self.right, self.masks, self.cells, strict=True))
        return (
            f"F1 {self.f1():.3f} ({each}), {self.masks.sum()} masks for {self.cells.sum()} cells, "
            f"median {np.median(self.seconds):.1f} s a frame"
        )


def scored(planes: Sequence[Array], truths: Sequence[Array], settings: config.Segment, way: Segmenter) -> Score:
    timed, seconds = clocked(way)
    cells = found(planes, T98G_UM, settings, ImageRule(pixel_size_um=T98G_UM), timed)
    counts = np.array([right_at_half(one.labels, truth) for one, truth in zip(cells, truths, strict=True)])
    return Score(*counts.T, np.array(seconds))


def clocked(way: Segmenter) -> tuple[Segmenter, list[float]]:
    """The segmenter, and how long each of its calls took."""
    seconds: list[float] = []

    def timed(image: U8, pixel_size_um: float) -> I32:
        start = time.perf_counter()
        labels = way(image, pixel_size_um)
        seconds.append(time.perf_counter() - start)
        return labels

    return timed, seconds


def ways_of(settings: config.Segment, model: SamSession, points: int) -> dict[str, Callable[[], Segmenter]]:
    plain = opencv_segmenter(settings)
    asked = {
        "boxes": {"prompts": "boxes"},
        "grid": {"prompts": "grid", "points_per_side": points},
        "loose": {"prompts": "grid", "points_per_side": points, "min_iou": LOOSE, "min_stability": LOOSE},
    }
    prompts = {
        name: settings.model_copy(update={"method": "sam", "sam": config.Sam.model_validate(told)})
        for name, told in asked.items()
    }
    return {
        "OpenCV alone": lambda: plain,
        "MobileSAM, OpenCV's boxes": lambda: sam.sam_segmenter(prompts["boxes"], model, plain),
        f"MobileSAM, grid of {points}": lambda: sam.sam_segmenter(prompts["grid"], model, plain),
        f"MobileSAM, grid of {points}, filters at {LOOSE}": lambda: sam.sam_segmenter(prompts["loose"], model, plain),
    }


def phase_t98g(folder: Path, model: SamSession, points: int, *, smoke: bool) -> None:
    settings = config.Segment(cell_diameter_um=65.0, min_area_um2=300.0, max_area_um2=10000.0)
    planes = [tifffile.imread(path) for path in sorted(folder.glob("t*.tif"))]
    truths = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("t*_mask.png"))]
    if smoke:
        planes, truths = [planes[0][:400, :400]], [truths[0][:400, :400]]
    for name, way in ways_of(settings, model, points).items():
        print(f"phase-t98g, {name}: {scored(planes, truths, settings, way()).told()}", flush=True)
    if smoke:
        return
    usual = sam.MARGIN
    for margin in MARGINS:
        sam.MARGIN = margin
        way = ways_of(settings, model, points)["MobileSAM, OpenCV's boxes"]()
        score = scored(planes, truths, settings, way)
        early, late = score.f1(CHOSEN_ON), score.f1(slice(CHOSEN_ON.stop, None))
        print(f"phase-t98g, boxes with a margin of {margin:g} diameters: F1 t01-t02 {early:.3f}, t03-t04 {late:.3f}")
    sam.MARGIN = 0.0
    perfect = []
    for plane, truth in zip(planes, truths, strict=True):
        own = sam.sam_segmenter(settings, model, lambda _image, _um, known=truth: known.astype(np.int32))
        perfect.append(scored([plane], [truth], settings, own).f1())
    sam.MARGIN = usual
    print(f"phase-t98g, outlines from the true masks' boxes: F1 mean {np.mean(perfect):.3f}")


def livedead(folder: Path, model: SamSession, points: int, *, smoke: bool) -> None:
    notes = json.loads((folder / "annotations.coco.json").read_text())
    images = notes["images"][::90] if smoke else notes["images"][::6]
    planes = [cv2.imread(str(folder / "images" / image["file_name"]), cv2.IMREAD_GRAYSCALE) for image in images]
    for name, way in list(ways_of(config.Segment(), model, points).items())[:2]:
        timed, seconds = clocked(way())
        cells = found(planes, LIVEDEAD_UM, config.Segment(), ImageRule(intensity=IntensityRule("full")), timed)
        counts = [
            boxes_right(one, plane, image, notes["annotations"])
            for one, plane, image in zip(cells, planes, images, strict=True)
        ]
        right, masks, boxes = np.sum(counts, axis=0)
        f1 = 2 * right / (masks + boxes)
        cost = f"median {np.median(seconds):.1f} s a field"
        print(
            f"livedead, {name}: F1 of boxes {f1:.3f} ({right} right of {masks}, {boxes} annotated), {cost}", flush=True
        )


def boxes_right(cells: Cells, plane: Array, image: dict, notes: Sequence[dict]) -> tuple[int, int, int]:
    """Right boxes, boxes, annotated boxes of one field; one to one, the best overlap first."""
    x, y, w, h = (
        np.array([note["bbox"] for note in notes if note["image_id"] == image["id"]], float).reshape(-1, 4)
        * np.array([plane.shape[1] / image["width"], plane.shape[0] / image["height"]] * 2)
    ).T
    y0, x0, y1, x1 = (cells.boxes_px[:, column, None].astype(float) for column in range(4))
    shared = np.clip(np.minimum(y1, y + h) - np.maximum(y0, y), 0, None)
    shared = shared * np.clip(np.minimum(x1, x + w) - np.maximum(x0, x), 0, None)
    overlap = shared / ((y1 - y0) * (x1 - x0) + w * h - shared)
    return len(one_to_one(np.where(overlap > 0.5, -overlap, np.inf))), len(cells), len(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=bench_lab.ROOT / "encoders" / "mobile-sam")
    parser.add_argument("--points", type=int, default=32, help="of the grid, along the longer side")
    parser.add_argument("--threads", type=int, default=0, help="of the model; 0 = all cores")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", choices=["phase-t98g", "livedead"])
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if not (args.bundle / "manifest.json").is_file():
        print(f"skipped: {args.bundle} is not there (`cellvigil-export run mobile-sam` makes it)")
        return
    model = open_sam(open_segmenter(args.bundle), device=args.device, threads=args.threads)
    print(f"{model.bundle.name} {model.bundle.sha256[:12]} on {model.provider}")
    points = 6 if args.smoke else args.points
    for name, part in (("phase-t98g", phase_t98g), ("livedead", livedead)):
        if args.only not in (None, name):
            continue
        if (DATA / name).is_dir():
            part(DATA / name, model, points, smoke=args.smoke)
        else:
            print(f"{name}: skipped, {DATA / name} is not there (set CELLVIGIL_TEST_DATA)")


if __name__ == "__main__":
    main()
