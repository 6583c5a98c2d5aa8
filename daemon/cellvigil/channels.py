"""Cells' pictures in several channels, where an index's image rule is of channels: each passes `normalize` on its own.

Arrays in, arrays out. For any other rule these functions are those of `normalize`, so that who makes pictures need not
ask which kind of rule it has.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cellvigil import normalize
from cellvigil.data import I32, U8, Array, Crops, Fit, Frame, ImageRule
from cellvigil.errors import BadFile
from cellvigil.normalize import AnalysisImage

Ranges = Mapping[str, tuple[float, float]]
"""The raw values that become 0 and 255, by channel."""


def looked_at(frame: Frame, name: str) -> Array:
    """The (Y, X) raw plane of a channel that cells are called by. Raises BadFile ("incomplete") where there is none."""
    try:
        return frame.channel(name)
    except KeyError:
        what = f"there is no channel {name!r}, which the index looks at"
        hint = f"the frame has {', '.join(frame.channels)}; see channels.required"
        raise BadFile("incomplete", what, where=str(frame.key), hint=hint) from None


def ranges_of(frames: Sequence[Frame], rule: ImageRule) -> dict[str, tuple[float, float]]:
    """An intensity range for each of the rule's channels, over frames of one series; {} for a rule of no channels.

    Raises BadFile for a frame that lacks one, else as `normalize.intensity_range`.
    """
    dtype = frames[0].pixels.dtype if frames else None
    return {
        name: normalize.intensity_range([looked_at(frame, name) for frame in frames], rule.intensity, dtype=dtype)
        for name in rule.channels
    }


def picture_images(
    frame: Frame, segmented: AnalysisImage, rule: ImageRule, ranges: Ranges
) -> tuple[AnalysisImage, ...]:
    """What cells' pictures are cut from: the image that was segmented, or one image for each of the rule's channels.

    A channel that `ranges` lacks shows all that its pixel type holds. Raises BadFile ("incomplete") for one that the
    frame lacks, else as `normalize.analysis_image`.
    """
    if not rule.channels:
        return (segmented,)
    planes = {name: looked_at(frame, name) for name in rule.channels}
    return tuple(
        normalize.analysis_image(frame, name, rule, ranges.get(name) or normalize.full_range(plane.dtype))
        for name, plane in planes.items()
    )


def cut(
    images: Sequence[AnalysisImage],
    centres_px: npt.ArrayLike,
    rule: ImageRule,
    *,
    fit: Fit,
    labels: I32 | None = None,
) -> Crops:
    """The cells' pictures (n, side, side, C), cut from each of the images as `normalize.crops` does."""
    apart = [normalize.crops(image, centres_px, rule, fit=fit, labels=labels) for image in images]
    return apart[0] if len(apart) == 1 else Crops(np.concatenate([crops.pixels for crops in apart], axis=3))


def fit_singles(images: Sequence[U8], rule: ImageRule, fit: Fit) -> U8:
    """A ready-made picture of one cell, (H, W) u8 a channel (or one of any kind), as `normalize.fit_single` fits it.

    Returns (side, side, C).
    """
    return np.concatenate([normalize.fit_single(image, rule, fit) for image in images], axis=2)


def shown(pixels: U8, rule: ImageRule) -> U8:
    """Pictures (n, H, W, C) as a person can see them: of several channels one in colours, (n, H, W, 3); else as is.

    Channels have the hues of an evenly divided circle, the first one red; where they overlap, their light adds up.
    """
    count = len(rule.channels)
    if count == 0:
        return pixels
    if count == 1:
        return pixels[..., :1]
    hues = np.array([colorsys.hsv_to_rgb(place / count, 1.0, 1.0) for place in range(count)], dtype=np.float32)
    return np.asarray(np.clip(np.rint(pixels.astype(np.float32) @ hues), 0, 255), dtype=np.uint8)
