"""Bringing a cell's picture to an encoder's side: each fit beside OpenCV's plain resize and Pillow.

    python benchmarks/fits.py [--rounds 200] [--smoke]

Seeded noise, coloured and grey. CPU milliseconds a crop on one core: the ways alternate within each round, medians are
told, and whose pixels ours are. `area` beside cv2 is what it costs that encoders have fits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from statistics import median

import bench_lab  # noqa: F401 - sets the path of the sources
import cv2
import numpy as np
from PIL import Image

from cellvigil.data import U8, Fit
from cellvigil.resample import fitted

CASES = (  # side of the cell as it was cut, pixels, and the fit
    (223, Fit(224)),
    (448, Fit(224)),
    (223, Fit(224, "bicubic")),
    (224, Fit(224, "bicubic", shortest=256)),
    (363, Fit(224, "bilinear")),
    (363, Fit(192, "bicubic")),
    (224, Fit(1024, "bilinear")),
)
OPENCV = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def plain(picture: U8, fit: Fit) -> U8:
    """OpenCV's own resize, and the centre."""
    whole = fit.shortest or fit.side
    first = (whole - fit.side) // 2
    method = OPENCV[fit.resample] if fit.resample != "area" or len(picture) > whole else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(picture), (whole, whole), interpolation=method)
    return np.asarray(resized)[first : first + fit.side, first : first + fit.side]


def by_pillow(picture: U8, fit: Fit) -> U8:
    whole = fit.shortest or fit.side
    first = (whole - fit.side) // 2
    method = Image.Resampling.BICUBIC if fit.resample == "bicubic" else Image.Resampling.BILINEAR
    resized = Image.fromarray(picture).resize((whole, whole), method)
    return np.asarray(resized)[first : first + fit.side, first : first + fit.side]


def medians(works: Mapping[str, Callable[[], U8]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            taken[name].append(1e3 * (time.process_time() - start))
    return {name: median(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--smoke", action="store_true", help="a few rounds only")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{'cut':>4}  {'fit':44} {'channels':>8} {'ours':>7} {'cv2':>7} {'Pillow':>7}  pixels")
    for width, fit in CASES:
        for channels in (1, 3):
            shape = (width, width, channels) if channels > 1 else (width, width)
            picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            works: dict[str, Callable[[], U8]] = {
                "ours": lambda picture=picture, fit=fit: fitted(picture, fit),
                "cv2": lambda picture=picture, fit=fit: plain(picture, fit),
            }
            twin = plain if fit.resample == "area" else by_pillow
            if fit.resample != "area":
                works["Pillow"] = lambda picture=picture, fit=fit: by_pillow(picture, fit)
            same = np.array_equal(fitted(picture, fit), twin(picture, fit))
            took = medians(works, 5 if options.smoke else options.rounds)
            cells = " ".join(f"{took[name]:7.2f}" if name in took else f"{'':7}" for name in ("ours", "cv2", "Pillow"))
            whose = f"as {'cv2' if twin is plain else 'Pillow'}" if same else "OTHERS"
            print(f"{width:4d}  {fit!s:44} {channels:8d} {cells}  {whose}")


if __name__ == "__main__":
    main()
