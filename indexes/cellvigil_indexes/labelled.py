"""Labelled images, as every kind of input becomes before crops are made: which cells are where, and what they are.

Values and the choice among them (by file name, by group); opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from cellvigil.data import Bools
from cellvigil.errors import UsageError

WHOLE = (0, 0, 0, 0)
"""The box of a cell that is its whole image, before the image was opened."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledCell:
    """One annotated cell of an image."""

    class_name: str
    box_px: tuple[int, int, int, int]  # y0, x0, y1, x1, half-open, inside the image
    centre_px: tuple[float, float]  # y, x; the mask's centroid, else the box's centre; pixel centres are whole numbers
    mask: Bools | None = None  # (y1 - y0, x1 - x0) bool inside the box; None where only a box is known

    @property
    def is_whole_image(self) -> bool:
        """The image shows this one cell, and nobody has opened it yet: its box is still empty."""
        return self.box_px == WHOLE

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
    pixel_size_um: float | None = None  # of the images, where the input says it
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One image and its annotated cells; none where the image shows none."""

    path: Path
    name: str  # relative to the input's folder, with forward slashes
    cells: tuple[LabelledCell, ...]
    group: str = ""  # cells of one group are left out together; set by `grouped`
    shape: tuple[int, int] | None = None  # (Y, X) that the annotations were made on; None where nobody says


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


def grouped(images: Sequence[LabelledImage], split_by: str) -> list[LabelledImage]:
    """Give every image its group: "image" (each its own), "folder", or a regular expression over its relative path.

    Of an expression the first bracketed part that is there is the group, else the whole match. Raises UsageError for
    an expression that is none, or that a path does not fit.
    """
    rule = _group_rule(split_by)
    return [replace(image, group=rule(image.name)) for image in images]


def _group_rule(split_by: str) -> Callable[[str], str]:
    if split_by == "image":
        return lambda name: name
    if split_by == "folder":
        return lambda name: PurePosixPath(name).parent.as_posix()
    try:
        expression = re.compile(split_by)
    except re.error as error:
        raise UsageError(f"--split-by {split_by!r} is neither image, folder nor an expression: {error}") from None

    def by_expression(name: str) -> str:
        match = expression.search(name)
        if match is None:
            raise UsageError(f"--split-by {split_by!r} does not fit {name}", hint="every image needs a group")
        return next((part for part in match.groups() if part), match.group())

    return by_expression
