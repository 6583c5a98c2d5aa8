"""Image work of a large frame, stage by stage: CPU seconds on one core, medians. No encoder, no file, no store.

    python benchmarks/frame_cpu.py [--rounds 7]

A simulated bright-field frame of 904 x 1224 pixels with about 300 cells, crops of 224 x 224.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import TypeVar

import bench_lab  # noqa: F401 - sets the path of the sources
import cv2
import numpy as np

from cellvigil import config
from cellvigil.data import ClaheRule, Fit, Frame, FrameKey, ImageRule
from cellvigil.normalize import analysis_image, crops, grey, intensity_range
from cellvigil.quality import measure
from cellvigil.rehearse import optics
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.segment import cells_from_labels, opencv_segmenter

T = TypeVar("T")
UM = (0.322, 0.322)


def frame_of_300() -> Frame:
    assay = Assay(seed=5, shape=(904, 1224), cells=300.0, wells=("A1",), treated=(), timepoints=1, defocus_rate=0.0)
    plane = optics.bright_field(next(iter(simulate(assay))), assay.optics)
    return Frame(FrameKey("bench", "", "", "A1", "1", 0), datetime.now(UTC), plane[None], ("Bright Field",), UM, ())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    frame = frame_of_300()
    total = 0.0

    def timed(stage: str, work: Callable[[], T], *, counts: bool = True) -> T:
        nonlocal total
        seconds = []
        for _ in range(rounds):
            start = time.process_time()
            result = work()
            seconds.append(time.process_time() - start)
        total += median(seconds) if counts else 0.0
        print(f"{stage:34s} {1e3 * median(seconds):7.1f} ms")
        return result

    rule = ImageRule(clahe=ClaheRule())
    plane = frame.pixels[0]
    intensity = intensity_range([plane], rule.intensity)
    image = timed("intensity map, scale, CLAHE", lambda: analysis_image(frame, "", rule, intensity))
    plain = analysis_image(frame, "", ImageRule(), intensity)
    segmenter = opencv_segmenter(config.Segment())
    labels = timed("segment", lambda: segmenter(grey(plain), plain.pixel_size_um))
    cells = timed("labels to cells", lambda: cells_from_labels(labels, plane.shape, UM))
    timed("crops of 224 px", lambda: crops(image, cells.centroids_px, rule, fit=Fit(224)))
    masked = ImageRule(mask=True)
    timed(
        "(crops with the mask blanked)",
        lambda: crops(plain, cells.centroids_px, masked, fit=Fit(224), labels=cells.labels),
        counts=False,
    )
    timed("focus, exposure, coverage", lambda: measure(plane, cells, intensity, pixel_size_um=UM[0]))
    print(
        f"{'together':34s} {1e3 * total:7.1f} ms a frame of {len(cells)} cells ({np.prod(plane.shape) / 1e6:.1f} Mpx)"
    )


if __name__ == "__main__":
    main()
