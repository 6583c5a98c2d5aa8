"""From raw pixels to the pictures an encoder sees: intensity map, scale to the index's pixel size, CLAHE, crops.

The order is the index's image rule (`data.ImageRule`): live cells and reference cells pass through the same steps, as
in the EWC-FAISS paper's preprocessing. Arrays in, arrays out: this file touches no file and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cellvigil.data import (
    F32,
    I32,
    U8,
    Array,
    Bools,
    ClaheRule,
    Crops,
    Fit,
    Frame,
    ImageRule,
    IntensityRule,
    frozen_array,
)
from cellvigil.errors import BadFile, UsageError
from cellvigil.resample import by_area, fitted

RED_GREEN_BLUE = ("red", "green", "blue")
"""Channels (any case) that make a colour frame."""

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV weighs red, green and blue
_MOST_PIXELS = 400_000_000  # of a scaled image; a wrong pixel size in a file must not eat the memory
_MOST_SAMPLES = 4_000_000  # raw values a plane that the percentiles look at
_BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "edge": cv2.BORDER_REPLICATE}


@dataclass(frozen=True, slots=True, eq=False)
class AnalysisImage:
    """A frame's segmentation channel at the index's scale: what is segmented and what crops are cut from."""

    pixels: U8  # (Y, X) u8, or (Y, X, 3) u8 red, green, blue
    pixel_size_um: float  # micrometres a pixel, both axes
    scale: tuple[float, float]  # (y, x): analysis pixels per raw pixel

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", frozen_array(self.pixels))


def is_colour(frame: Frame) -> bool:
    """Whether the frame has a red, a green and a blue channel."""
    return {name.lower() for name in frame.channels} >= set(RED_GREEN_BLUE)


def plane_of(frame: Frame, channel: str) -> Array:
    """The (Y, X) raw plane to analyse: the named channel; for "" the first one, or a colour frame's luminance (f32).

    Raises BadFile ("incomplete") for a channel that the frame does not have.
    """
    if not channel:
        return _luminance(_colour_planes(frame)) if is_colour(frame) else np.asarray(frame.pixels[0])
    try:
        return frame.channel(channel)
    except KeyError:
        there = ", ".join(frame.channels)
        hint = f"the frame has {there}; name one of them in channels.segment"
        raise BadFile("incomplete", f"there is no channel {channel!r}", where=str(frame.key), hint=hint) from None


def full_range(dtype: npt.DTypeLike) -> tuple[float, float]:
    """The lowest and highest value of an integer pixel type; 0 and 1 for floats."""
    kind = np.dtype(dtype)
    return (0.0, float(np.iinfo(kind).max)) if kind.kind in "ui" else (0.0, 1.0)


def intensity_range(
    planes: Sequence[Array], rule: IntensityRule, *, dtype: npt.DTypeLike | None = None
) -> tuple[float, float]:
    """The raw values that become 0 and 255: the rule's own, or percentiles pooled over `planes`, each (Y, X).

    `dtype` is the frames' pixel type, for a rule of kind "full"; without it the first plane's is taken.

    The second is always above the first: a constant image gives (value, value + 1). Values that are not finite are
    left out. Raises UsageError for a rule that makes no sense, ValueError without a plane where one is needed.
    """
    if rule.kind == "range":
        if not rule.low < rule.high:
            raise UsageError(f"intensity range {rule.low}..{rule.high} is empty", hint="low must be below high")
        return float(rule.low), float(rule.high)
    if rule.kind == "full" and (planes or dtype is not None):
        return full_range(planes[0].dtype if dtype is None else dtype)
    if rule.kind not in ("percentiles", "full") or not 0 <= rule.low < rule.high <= 100:
        what = f"intensity rule {rule.kind!r} {rule.low}..{rule.high} is unknown"
        raise UsageError(what, hint="use full, range, or percentiles with 0 <= low < high <= 100")
    if not planes:
        raise ValueError(f"intensity rule {rule.kind!r} needs at least one plane")
    values = np.concatenate([_samples(plane) for plane in planes])
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (rule.low, rule.high)))
    return (low, high) if high > low else (low, low + 1.0)


def analysis_image(frame: Frame, channel: str, rule: ImageRule, intensity: tuple[float, float]) -> AnalysisImage:
    """The frame as the image rule wants it: intensity map, then scale to `rule.pixel_size_um`, then CLAHE.

    `intensity` is the raw values that become 0 and 255. A colour rule takes a colour frame as (Y, X, 3); everything
    else becomes (Y, X). Raises BadFile ("incomplete": no such channel; "too_large": at that scale).
    """
    if rule.colour == "rgb" and not channel and is_colour(frame):
        raw = np.stack(_colour_planes(frame), axis=-1)
    else:
        raw = plane_of(frame, channel)
    factors = tuple(size / rule.pixel_size_um for size in frame.pixel_size_um)
    shape = tuple(max(1, round(side * factor)) for side, factor in zip(raw.shape[:2], factors, strict=True))
    if shape[0] * shape[1] > _MOST_PIXELS:
        what = f"at {rule.pixel_size_um} um a pixel the image would be {shape[0]} x {shape[1]} pixels"
        raise BadFile("too_large", what, where=str(frame.key), hint="check the source's pixel_size_um")
    pixels = by_area(_mapped(raw, intensity), (shape[0], shape[1]))
    if rule.clahe is not None:
        pixels = _equalised(pixels, rule.clahe, rule.pixel_size_um)
    return AnalysisImage(pixels, rule.pixel_size_um, (shape[0] / raw.shape[0], shape[1] / raw.shape[1]))


def grey(image: AnalysisImage) -> U8:
    """The image as (Y, X) u8: luminance where it is coloured."""
    return _grey(image.pixels)


def crops(
    image: AnalysisImage, centres_px: npt.ArrayLike, rule: ImageRule, *, fit: Fit, labels: I32 | None = None
) -> Crops:
    """A square of `rule.crop_um` around each centre, fitted to an encoder; 1 channel, or 3 for a colour rule.

    The square takes the place of the photograph that the encoder's checkpoint was made for: as a whole it is resized,
    and where `fit` says so its centre cut out (`resample.fitted`).

    `centres_px`: (n, 2) y, x in raw pixels (0 = the first pixel's centre), taken to the nearest analysis pixel; n may
    be 0. The side is rounded to whole analysis pixels. Beyond the border the image is continued by `rule.pad`.
    `labels` (Y, X) i32 on the raw grid, row i = label i + 1, is needed for `rule.mask`: what is outside the cell's
    own mask gets the median of the crop's outermost pixels. Raises ValueError for a mask rule without labels.
    """
    if rule.mask and labels is None:
        raise ValueError("the image rule blanks what is outside the mask: labels are needed")
    side = max(1, round(rule.crop_um / image.pixel_size_um))
    centres = np.asarray(centres_px, dtype=np.float64).reshape(-1, 2)
    corners = _corners(centres, image)
    margin = side // 2 + 1
    border = _BORDERS[rule.pad]
    padded = cv2.copyMakeBorder(np.asarray(image.pixels), margin, margin, margin, margin, border)
    owners = _at_scale(labels, image, margin) if rule.mask and labels is not None else None
    out = np.empty((len(centres), fit.side, fit.side, 3 if rule.colour == "rgb" else 1), dtype=np.uint8)
    for row, (y, x) in enumerate(corners):
        place = (slice(y, y + side), slice(x, x + side))
        window: U8 = np.asarray(padded[place], dtype=np.uint8)
        if owners is not None:
            window = _blanked(window, owners[place] == row + 1)
        window = fitted(window, fit)
        out[row] = window if window.ndim == 3 else window[..., None]
    return Crops(out)


def fit_single(
    image: U8, rule: ImageRule, fit: Fit, *, pixel_size_um: float | None = None, centre_px: int | None = None
) -> U8:
    """A ready-made picture of one cell, (H, W) or (H, W, 3) u8, as (side, side, C): C is 1, or 3 for a colour rule.

    With `centre_px` only the centre window of so many pixels a side is looked at. Then, without a pixel size, the
    whole picture is fitted: its shorter side is continued by `rule.pad` to a square (the aspect is kept, a cell is
    never squashed). With `pixel_size_um` it is brought to `rule.pixel_size_um` and `rule.crop_um` around its centre is
    cut out, continued by `rule.pad` where the picture is smaller. No intensity map: such pictures come as they are.
    """
    pixels = np.asarray(image, dtype=np.uint8)
    pixels = _coloured(pixels) if rule.colour == "rgb" else _grey(pixels)
    if centre_px is not None:
        pixels = _centre(pixels, min(centre_px, pixels.shape[0]), min(centre_px, pixels.shape[1]))
    if pixel_size_um is None:
        side, scale_um = max(pixels.shape[:2]), rule.crop_um / max(pixels.shape[:2])
    else:
        factor = pixel_size_um / rule.pixel_size_um
        shape = (max(1, round(pixels.shape[0] * factor)), max(1, round(pixels.shape[1] * factor)))
        pixels = by_area(pixels, shape)
        side, scale_um = max(1, round(rule.crop_um / rule.pixel_size_um)), rule.pixel_size_um
    if rule.clahe is not None:
        pixels = _equalised(pixels, rule.clahe, scale_um)
    picture = fitted(_centre(_continued(pixels, side, rule.pad), side, side), fit)
    return picture if picture.ndim == 3 else picture[..., None]


def _samples(plane: Array) -> Array:
    """Finite values of a plane, every n-th where it is very large."""
    flat = np.ravel(plane)
    flat = flat[:: max(1, flat.size // _MOST_SAMPLES)]
    return np.asarray(flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat)


def _colour_planes(frame: Frame) -> list[Array]:
    names = [name.lower() for name in frame.channels]
    return [np.asarray(frame.pixels[names.index(name)]) for name in RED_GREEN_BLUE]


def _luminance(planes: Sequence[Array]) -> F32:
    weighted = [plane.astype(np.float32) * np.float32(w) for plane, w in zip(planes, _LUMINANCE, strict=True)]
    return np.asarray(weighted[0] + weighted[1] + weighted[2], dtype=np.float32)


def _mapped(raw: Array, intensity: tuple[float, float]) -> U8:
    """Raw values to 0..255, linear between the two of `intensity`, clipped outside; what is no number becomes 0."""
    low, high = intensity
    if raw.dtype in (np.uint8, np.uint16):  # a table of all values is quicker than the arithmetic
        table = _linear(np.arange(np.iinfo(raw.dtype).max + 1, dtype=np.float32), low, high)
        return np.asarray(table[raw])
    return _linear(np.nan_to_num(raw.astype(np.float32), nan=low, posinf=high, neginf=low), low, high)


def _linear(values: F32, low: float, high: float) -> U8:
    return np.asarray(np.rint(np.clip((values - low) * (255.0 / (high - low)), 0, 255)), dtype=np.uint8)


def _equalised(pixels: U8, rule: ClaheRule, pixel_size_um: float) -> U8:
    """Contrast-limited adaptive histogram equalisation, tiles of `rule.tile_um`; of a coloured image, its luma."""
    rows, columns = (max(1, round(side * pixel_size_um / rule.tile_um)) for side in pixels.shape[:2])
    clahe = cv2.createCLAHE(clipLimit=rule.clip, tileGridSize=(columns, rows))
    if pixels.ndim == 2:
        return np.asarray(clahe.apply(pixels), dtype=np.uint8)
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    luma[..., 0] = clahe.apply(np.ascontiguousarray(luma[..., 0]))
    return np.asarray(cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB), dtype=np.uint8)


def _grey(pixels: U8) -> U8:
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _coloured(pixels: U8) -> U8:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def _corners(centres: npt.NDArray[np.float64], image: AnalysisImage) -> npt.NDArray[np.int64]:
    """Upper left corner (y, x) of each crop in the image padded by side // 2 + 1; the centre pixel is at side // 2."""
    at = np.rint((centres + 0.5) * np.asarray(image.scale) - 0.5).astype(np.int64)
    return np.asarray(np.clip(at, 0, np.asarray(image.pixels.shape[:2]) - 1) + 1)


def _at_scale(labels: I32, image: AnalysisImage, margin: int) -> I32:
    """The labels on the analysis grid, with a border of background."""
    size = (image.pixels.shape[1], image.pixels.shape[0])
    scaled = cv2.resize(np.asarray(labels), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(cv2.copyMakeBorder(scaled, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0))


def _blanked(window: U8, own: Bools) -> U8:
    """The window with the median of its outermost pixels wherever it is not the cell's own."""
    rim = np.concatenate([window[0], window[-1], window[1:-1, 0], window[1:-1, -1]])
    ground = np.rint(np.median(rim, axis=0)).astype(np.uint8)
    kept = own if window.ndim == 2 else own[..., None]
    return np.where(kept, window, ground)


def _centre(pixels: U8, height: int, width: int) -> U8:
    y, x = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[y : y + height, x : x + width]


def _continued(pixels: U8, side: int, pad: str) -> U8:
    """`pixels` continued on all sides to at least (side, side)."""
    more = [max(0, side - length) for length in pixels.shape[:2]]
    if not any(more):
        return pixels
    (top, left), (bottom, right) = (m // 2 for m in more), (m - m // 2 for m in more)
    return np.asarray(cv2.copyMakeBorder(pixels, top, bottom, left, right, _BORDERS[pad]), dtype=np.uint8)
