"""Opens a labelled image, as `cellvigil.stills` does, and says a TIFF's word on its pixel size. Reads files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from cellvigil import stills
from cellvigil.data import Array
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources import bti, ome, tiff

_HINT = "mend it, or leave it out with --exclude or --skip-bad"


def read_image(path: Path) -> Array:
    """The image's pixels, (C, Y, X); raises BadFile as `stills.read_image`."""
    try:
        return stills.read_image(path)
    except BadFile as error:
        raise BadFile(error.reason, error.what, where=path, hint=_HINT) from None


def read_channels(path: Path, names: Sequence[str]) -> Array:
    """The planes of these names, (C, Y, X), in their order; raises BadFile as `stills.read_channels`."""
    try:
        return stills.read_channels(path, names)
    except BadFile as error:
        raise BadFile(error.reason, error.what, where=path, hint=error.hint or _HINT) from None


def own_pixel_size(path: Path) -> tuple[float, float] | None:
    """(y, x) in micrometres, as Gen5, OME or ImageJ write it into a TIFF; None where the file does not say.

    A file that does not open says nothing here: it is told when it is read.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        with tiff.opened(path.resolve(), path.name) as file:  # reference images may well be links
            text = tiff.description(file)
            gen5 = bti.parse(text, path.name)
            if gen5 is not None and gen5.pixel_size_um is not None:
                return gen5.pixel_size_um
            if file.is_ome:
                return next((image.pixel_size_um for image in ome.parse(text, path.name, ZoneInfo("UTC"))), None)
            return tiff.pixel_size_um(file)
    except (BadFile, NotYet):
        return None
