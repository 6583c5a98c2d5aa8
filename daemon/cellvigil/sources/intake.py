"""From one settled file to the images in it: the one call that a watcher makes."""

from __future__ import annotations

from pathlib import Path

from cellvigil.data import FileStat, Sighting
from cellvigil.errors import BadFile
from cellvigil.sources.load import check_listed
from cellvigil.sources.protocol import SourceFormat

_LAST_NS = 2**63  # ns since 1970 in 64 bits: what the journal's readers hold a file's date in


def take(fmt: SourceFormat, root: Path, stat: FileStat) -> tuple[tuple[FileStat, Sighting], ...]:
    """The images of a settled file, each with what its name says; () for what is no image.

    The name is judged first (a wrong one needs no opening), then whether the file is whole, then a container's
    parts. What was found whole must be the version that settled: a file that grew on meanwhile settles anew, as
    another version. Raises NotYet to be asked again at the next scan, BadFile to quarantine.
    """
    if fmt.sight(stat.path) is None:
        return ()
    if abs(stat.mtime_ns) >= _LAST_NS:
        hint = "mend the clock of whoever writes, or touch the file"
        raise BadFile("bad_metadata", "the file's date is beyond the year 2262", where=stat.path, hint=hint)
    fmt.finished(root, stat.path)
    check_listed(root, stat)
    parts = ((part, fmt.sight(part.path)) for part in fmt.expand(root, stat))
    return tuple((part, sighting) for part, sighting in parts if sighting is not None)
