"""Labelled pictures of single cells, one folder a class, as an encoder is to see them. Reads images.

The folder is one that `cellvigil-index build --images` takes, and its pictures pass the same steps: whole, brought to
the encoder's input, deeper than 8 bits by percentiles over a sample of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cellvigil import channels, normalize
from cellvigil.data import I64, U8, Array, Fit, Frame, FrameKey, ImageRule
from cellvigil.errors import UsageError
from cellvigil.stills import read_channels, read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_SAMPLED = 32  # images that the intensity ranges are taken from


@dataclass(frozen=True, slots=True, eq=False)
class LabelledCells:
    """The pictures of a folder: listed, and opened when they are asked for."""

    folder: str  # its name, for the record
    paths: tuple[Path, ...]  # by class, then by name
    labels: I64  # (n,) class ids
    classes: tuple[str, ...]
    fit: Fit
    rule: ImageRule
    ranges: dict[str, tuple[float, float]]  # raw values that become 0 and 255, by channel; "" where all share one

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, row: int) -> U8:
        """One picture, (side, side, C) u8. Raises BadFile if it does not open."""
        pixels = _opened(self.paths[row], self.rule)
        frame = _frame(pixels, self.rule)
        shared = self.ranges.get("") or normalize.full_range(pixels.dtype)
        seen = channels.picture_images(
            frame, normalize.analysis_image(frame, "", self.rule, shared), self.rule, self.ranges
        )
        return channels.fit_singles([image.pixels for image in seen], self.rule, self.fit)

    def pictures(self, rows: I64) -> U8:
        """Several of them, (n, side, side, C) u8."""
        return np.stack([self.picture(int(row)) for row in rows])

    def spread(self, count: int, among: I64 | None = None) -> I64:
        """At most `count` rows (of `among`; default: of all), evenly spread, so that each class has its share."""
        rows = np.arange(len(self)) if among is None else among
        if len(rows) <= count:
            return rows
        return np.asarray(rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)])


def labelled_cells(folder: Path, fit: Fit, colours: int) -> LabelledCells:
    """The pictures in `folder`, one folder a class, for an encoder of `fit` that takes `colours` channels.

    An encoder of other than 3 channels takes TIFFs of just so many planes, in its own order. Hidden files and other
    file types are passed over. Raises UsageError if there is no folder or no image, BadFile for a sample that does not
    open.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=folder, hint="--gate-images takes one folder a class")
    found = [
        (path, home.name)
        for home in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        for path in sorted(home.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        hint = f"--gate-images takes one folder a class, holding {', '.join(SUFFIXES)}"
        raise UsageError("there are no images here", where=folder, hint=hint)
    classes, labels = np.unique([name for _, name in found], return_inverse=True)
    paths, rule = tuple(path for path, _ in found), _rule(colours)
    names = tuple(str(name) for name in classes)
    return LabelledCells(folder.resolve().name, paths, labels.astype(np.int64), names, fit, rule, _ranges(paths, rule))


def _rule(colours: int) -> ImageRule:
    if colours == 3:
        return ImageRule(colour="rgb", frame_normalised=False)
    names = tuple(str(number + 1) for number in range(colours))
    return ImageRule(colour="channels", channels=names, frame_normalised=False)


def _ranges(paths: tuple[Path, ...], rule: ImageRule) -> dict[str, tuple[float, float]]:
    """Empty for 8-bit images, which come as they are; else percentiles over a sample, of each channel or of all."""
    sample = [_opened(path, rule) for path in paths[:: -(-len(paths) // _SAMPLED)]]
    if all(pixels.dtype == np.uint8 for pixels in sample):
        return {}
    frames = [_frame(pixels, rule) for pixels in sample]
    if rule.channels:
        return channels.ranges_of(frames, rule)
    return {"": normalize.intensity_range([normalize.plane_of(frame, "") for frame in frames], rule.intensity)}


def _opened(path: Path, rule: ImageRule) -> Array:
    return read_channels(path, rule.channels) if rule.channels else read_image(path)


def _frame(pixels: Array, rule: ImageRule) -> Frame:
    """A picture as a frame at the rule's own scale: of a single cell nobody says how large a pixel is."""
    names = rule.channels or (normalize.RED_GREEN_BLUE if len(pixels) == 3 else ("",))
    size = (rule.pixel_size_um, rule.pixel_size_um)
    return Frame(FrameKey("", "", "", "", "", 0), datetime.fromtimestamp(0, UTC), pixels, names, size, ())
