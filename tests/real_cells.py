"""Real photographs as analysis images: coloured blood cells, and grey phase contrast mapped from 16 bits."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellvigil.data import Frame, FrameKey, ImageRule, IntensityRule
from cellvigil.normalize import RED_GREEN_BLUE, AnalysisImage, analysis_image, intensity_range
from cellvigil.stills import read_image

RULE = ImageRule(pixel_size_um=0.5, crop_um=112.0)
Centres = npt.NDArray[np.float64]


def photographs(root: Path, *, blood: int = 3, phase: int = 1) -> list[tuple[AnalysisImage, ImageRule, Centres]]:
    """Images at 0.5 um a pixel (nothing is resized), the rule that they are cut by, and some centres (n, 2) y, x."""
    coloured = sorted(root.glob("pbc/*/*.jpg"))
    paths = [*coloured[:: len(coloured) // blood][:blood], *sorted(root.glob("phase-t98g/*.tif"))[:phase]]
    return [photograph(path) for path in paths]


def photograph(path: Path) -> tuple[AnalysisImage, ImageRule, Centres]:
    pixels = read_image(path)
    coloured = len(pixels) == 3
    names = RED_GREEN_BLUE if coloured else ("phase",)
    key = FrameKey("", "", "", "", "", 0)
    frame = Frame(key, datetime.fromtimestamp(0, UTC), pixels, names, (0.5, 0.5), ())
    rule = ImageRule(pixel_size_um=0.5, crop_um=112.0, colour="rgb" if coloured else "grey")
    whole = (0.0, 255.0) if coloured else intensity_range(list(pixels), IntensityRule())
    image = analysis_image(frame, "", rule, whole)
    middle = (np.array(pixels.shape[1:]) - 1) / 2
    return image, rule, middle + np.array([[0.0, 0.0], [-40.0, 25.0]])
