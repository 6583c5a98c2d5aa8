"""The one edge at which microscopes differ: what a source's format must be able to say about a file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cellvigil.data import FileStat, Plane, Sighting


class SourceFormat(Protocol):
    """One kind of microscope's files. Paths are relative to the source's folder, with forward slashes.

    A file that holds several frames (a `.vol`, an OME-TIFF with time points) is a container: `expand` names its
    parts by paths of its own, "container!part", which `sight` and `read` understand.
    """

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of the files worth listing, in lower case, with the dot."""

    @property
    def first_number(self) -> int:
        """The time number that a series begins with in names: 1 for Gen5, else 0."""

    def sight(self, path: str) -> Sighting | None:
        """What the name says; None for what is no image at all. Raises BadFile("bad_name")."""

    def finished(self, root: Path, path: str) -> None:
        """Return if the file is whole. Raises NotYet if it may only need time, BadFile if time cannot help."""

    def expand(self, root: Path, stat: FileStat) -> tuple[FileStat, ...]:
        """The parts of a finished container; `(stat,)` for a file that is one image. Raises NotYet, BadFile."""

    def read(self, root: Path, path: str) -> Plane:
        """Decode one image or part. Raises NotYet (it does not open just now) or BadFile."""
