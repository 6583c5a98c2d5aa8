"""What is known already of one source's files and frames: the questions to the ledger and to the quarantine list."""

from __future__ import annotations

from dataclasses import replace

from cellvigil.data import FileStat, FrameFiles, FrameKey, Sighting
from cellvigil.errors import BadFile
from cellvigil.ledger import CommittedFrame, Ledger
from cellvigil.quarantine import Quarantine
from cellvigil.sources.protocol import SourceFormat


class Known:
    """Asks for one source. `is_known` and `is_held` may be asked from any thread."""

    def __init__(self, source: str, fmt: SourceFormat, ledger: Ledger, quarantine: Quarantine) -> None:
        self._source = source
        self._fmt = fmt
        self._ledger = ledger
        self._quarantine = quarantine

    def is_known(self, stat: FileStat) -> bool:
        """Whether nothing more can come of the file; one that only lacked its companions may still get them.

        Asked from the lookout's thread too: the ledger and the quarantine list may be asked by any.
        """
        if self._ledger.is_done(self._source, stat.path, stat.size, stat.mtime_ns):
            return True
        return self.is_held(stat) and self._quarantine.reason(self._source, stat.path) != "incomplete"

    def is_held(self, stat: FileStat) -> bool:
        """Whether the file, as it is now listed, is in quarantine."""
        return self._quarantine.holds(self._source, stat.path, stat.size, stat.mtime_ns)

    def committed(self, key: FrameKey) -> list[tuple[FileStat, Sighting]]:
        """The files that a frame was committed with, as last read; none if it is not in the store, or damaged there."""
        frame = self._ledger.frame(key)
        if frame is None or self._ledger.is_lost(key, frame.revision):
            return []
        found = []
        for ref in frame.files:
            note = self._ledger.file(self._source, ref.path)
            last = note.ref if note is not None and note.key == key else ref
            if (sighting := self.sight(ref.path)) is not None:
                found.append((FileStat(ref.path, last.size, last.mtime_ns), sighting))
        return found

    def against_ledger(self, files: FrameFiles) -> FrameFiles:
        """What came of a frame since it was committed, whatever became of earlier versions on their way."""
        known = {stat.path: stat for stat, _ in self.committed(files.key)}
        fresh = tuple(item for item in files.slices if known.get(item.stat.path) != item.stat) if known else ()
        if not known:
            change = "new"
        elif fresh:
            change = "rewritten" if any(item.stat.path in known for item in fresh) else "late"
        else:
            change = files.change
        return files if (change, fresh) == (files.change, files.fresh) else replace(files, change=change, fresh=fresh)

    def given_out(self) -> dict[tuple[tuple[str, str, str], str, int], int]:
        """The time points given out before a restart, also those whose files are not in the folder any more."""
        found: dict[tuple[tuple[str, str, str], str, int], int] = {}
        for series in self._ledger.series():
            if series[0] != self._source:
                continue
            ordinals = self._ledger.ordinals(series)
            found |= {(series, folder, number): timepoint for (folder, number), timepoint in ordinals.items()}
            if len(ordinals) < len(self._ledger.units(series)):  # some names have no number: the frames know
                for frame in self._ledger.frames(series):
                    for sighting in self.sights(frame)[:1]:
                        found.setdefault((series, sighting.folder, sighting.number), frame.key.timepoint)
        return found

    def sights(self, frame: CommittedFrame) -> list[Sighting]:
        """What the names of a committed frame's files say."""
        return [sighting for ref in frame.files if (sighting := self.sight(ref.path)) is not None]

    def sight(self, path: str) -> Sighting | None:
        """What a committed file's name says, as the pattern stands now; None if it does not fit it any more."""
        try:
            return self._fmt.sight(path)
        except BadFile:
            return None  # the pattern was changed since; the frame stays in the store as it is
