"""Labelled images, as every kind of input becomes before crops are made: which cells are where, and what they are.

Values and the choice among them (by file name, by group); opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from cellvigil.data import Bools, ImageRule
from cellvigil.errors import UsageError
from cellvigil_indexes.inputs.gathering import Gathering
from cellvigil_indexes.inputs.stored_frame import StoredFrame

WHOLE = (0, 0, 0, 0)
"""The box of a cell that is its whole image, before the image was opened."""

EVERY = (0, 0, -1, -1)
"""The box that stands for every cell of a homogeneous frame, before the frame was outlined."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledCell:
    """One annotated cell of an image."""

    class_name: str
    box_px: tuple[int, int, int, int]  # y0, x0, y1, x1, half-open, inside the image
    centre_px: tuple[float, float]  # y, x; the mask's centroid, else the box's centre; pixel centres are whole numbers
    mask: Bools | None = None  # (y1 - y0, x1 - x0) bool inside the box; None where only a box is known
    number: int = 0  # in the label image of its frame (the store's, or the segmenter's); 0 = not from one
    group: str = ""  # where it is not its image's

    @property
    def is_whole_image(self) -> bool:
        """The image shows this one cell, and nobody has opened it yet: its box is still empty."""
        return self.box_px == WHOLE

    @property
    def is_every_cell(self) -> bool:
        """It stands for all cells of its frame, which nobody has outlined yet."""
        return self.box_px == EVERY

    def centre_in(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Centre (y, x) in an image of `shape` (Y, X): of a whole image, its middle."""
        return ((shape[0] - 1) / 2, (shape[1] - 1) / 2) if self.is_whole_image else self.centre_px

    def box_in(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Box in an image of `shape` (Y, X): of a whole image, all of it."""
        return (0, 0, shape[0], shape[1]) if self.is_whole_image else self.box_px


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Everything that one folder or annotation file labels."""

    images: Sequence[LabelledImage]
    classes: Sequence[str]  # that it names, whether or not it has cells of them
    pixel_size_um: float | None = None  # of the images (the coarsest, if they differ), where the input says it
    provenance: Mapping[str, Any] = field(default_factory=dict)
    gathering: Gathering = field(default_factory=Gathering)  # how its cells are chosen and embedded
    warnings: Sequence[str] = ()  # what a person must know about it


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One image and its annotated cells; none where the image shows none."""

    path: Path
    name: str  # relative to the input's folder, with forward slashes
    cells: tuple[LabelledCell, ...]
    group: str = ""  # cells of one group are left out together; set by `grouped`
    shape: tuple[int, int] | None = None  # (Y, X) that the annotations were made on; None where nobody says
    pixel_size_um: tuple[float, float] | None = None  # its own (y, x), where the file or the store says it
    series: str | None = None  # images of one series share an intensity range; None: see `pictures.series_of`
    stored: StoredFrame | None = None  # its pixels are a daemon's store's, `path` is the field's folder
    # of a file of several channels: which of them are read, in this order; () = one of grey or colour
    planes: tuple[str, ...] = ()
    channel: str = ""  # that shows the cells; "" = the first. A stored frame has its own

    @property
    def has_label_image(self) -> bool:
        """Its cells are numbers in a label image: of the store, or as the segmenter finds them."""
        return self.stored is not None or any(cell.number or cell.is_every_cell for cell in self.cells)


def selected(images: Sequence[LabelledImage], only: Sequence[str], exclude: Sequence[str]) -> list[LabelledImage]:
    """The images whose relative path or file name fits one of `only` (if any) and none of `exclude`.

    Raises UsageError if that leaves none.
    """

    def fits(image: LabelledImage, patterns: Sequence[str]) -> bool:
        names = (image.name, PurePosixPath(image.name).name)
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)

    kept = [image for image in images if (not only or fits(image, only)) and not fits(image, exclude)]
    if not kept:
        raise UsageError(
            f"none of the {len(images)} images is left by --only {list(only)} and --exclude {list(exclude)}",
            hint="patterns are of the shell's kind, e.g. 'plate1_*'",
        )
    return kept


def in_channels(images: Sequence[LabelledImage], rule: ImageRule, usual: str = "") -> list[LabelledImage]:
    """The images as an image rule of channels has them read: of each file those, and the one that shows the cells.

    That is the image's own, else the `usual` one. Any other rule leaves the images as they are; raises UsageError for
    one whose channel was named then.
    """
    if not rule.channels:
        if named := next((image for image in images if image.channel and image.stored is None), None):
            what = f"--channel {named.channel} is for frames of a --store, and for indexes of --channels"
            raise UsageError(what, where=named.path)
        return list(images)
    return [image if image.stored else _read_as(image, rule.channels, image.channel or usual) for image in images]


def _read_as(image: LabelledImage, names: Sequence[str], shows: str) -> LabelledImage:
    return replace(image, planes=tuple(dict.fromkeys((*names, *([shows] if shows else [])))), channel=shows)


def grouped(images: Sequence[LabelledImage], split_by: str | None) -> list[LabelledImage]:
    """Give every image its group, after the rule `split_by`.

    "image" (each its own), "folder", of a store's frames also "well", "plate" or "experiment", or a regular expression
    over the relative path: its first bracketed part that is there is the group, else the whole match. None keeps the
    groups that the input has (of a store: the table's, else wells), and else takes images.

    Raises UsageError for a rule that is none, or that an image does not fit.
    """
    if split_by is None:
        return [replace(image, group=image.group or image.name) for image in images]
    rule = _group_rule(split_by)
    own = [tuple(replace(cell, group="") for cell in image.cells) for image in images]
    return [replace(image, group=rule(image), cells=cells) for image, cells in zip(images, own, strict=True)]


def _group_rule(split_by: str) -> Callable[[LabelledImage], str]:
    if split_by == "image":
        return lambda image: image.name
    if split_by == "folder":
        return lambda image: PurePosixPath(image.name).parent.as_posix()
    if split_by in _PLACES:
        return partial(_by_place, split_by)
    try:
        expression = re.compile(split_by)
    except re.error as error:
        what = f"--split-by {split_by!r} is neither image, folder, {', '.join(_PLACES)} nor an expression: {error}"
        raise UsageError(what) from None

    def by_expression(image: LabelledImage) -> str:
        match = expression.search(image.name)
        if match is None:
            raise UsageError(f"--split-by {split_by!r} does not fit {image.name}", hint="every image needs a group")
        return next((part for part in match.groups() if part), match.group())

    return by_expression


_PLACES = ("well", "plate", "experiment")


def _by_place(place: str, image: LabelledImage) -> str:
    if image.stored is None:
        raise UsageError(f"--split-by {place} is for frames of a --store; {image.name} is none")
    key = image.stored.key
    parts = (key.source, key.experiment, key.plate, key.well)
    return "/".join(parts[: {"experiment": 2, "plate": 3, "well": 4}[place]])
