"""Channels that come after their frame was committed: which of them may simply be attached, and their reading.

A channel that the frame's cells were not called by changes no call: its pixels join the frame, and no cell is looked at
again. Everything else that comes late makes a revision. Reads files; writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from cellvigil import config
from cellvigil.data import Frame, FrameFiles, Slice
from cellvigil.ledger import CommittedFrame, Ledger
from cellvigil.sources.protocol import SourceFormat
from cellvigil.sources.read import read_frame


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """What is to be attached to a committed frame."""

    frames: tuple[Frame, ...]  # one a channel that came, holding nothing else; () = all of it is attached already


def late_channels(
    files: FrameFiles, channels: config.Channels, ledger: Ledger, *, needed: tuple[str, ...] = ()
) -> tuple[Slice, ...] | None:
    """The slices to attach, or None where the frame must be done anew.

    They may be attached if nothing else changed, the names say which channels they are, the committed frame has none
    of these, and its cells are not found in one of them, nor called by one (`needed`).
    """
    committed = ledger.frame(files.key)
    if files.change != "late" or not files.fresh or committed is None or not committed.channels:
        return None
    if ledger.is_lost(committed.key, committed.revision):
        return None
    source = files.key.source
    fresh = tuple(
        item
        for item in files.fresh
        if item in files.slices and not ledger.is_done(source, item.stat.path, item.stat.size, item.stat.mtime_ns)
    )
    names = {item.channel for item in fresh}
    if names & {"", channels.segment or committed.channels[0], *committed.channels, *needed}:
        return None
    return fresh


def read_late(
    slices: tuple[Slice, ...], files: FrameFiles, fmt: SourceFormat, source: config.Source, limits: config.Limits
) -> Late:
    """Read these slices and nothing else, each channel for itself. Raises NotYet and BadFile as `read_frame` does."""
    alone = source.model_copy(update={"channels": source.channels.model_copy(update={"segment": ""})})
    ordered = sorted(slices, key=lambda item: item.channel)
    return Late(
        tuple(
            read_frame(_only(files, list(own)), fmt, alone, limits)
            for _, own in groupby(ordered, key=lambda item: item.channel)
        )
    )


def fits(late: Late, committed: CommittedFrame | None) -> bool:
    """Whether the files hold only channels that the frame lacks: a file may hold more than its name says."""
    held = set(committed.channels) if committed else set()
    return not any(held & set(frame.channels) for frame in late.frames)


def _only(files: FrameFiles, slices: list[Slice]) -> FrameFiles:
    return FrameFiles(files.key, tuple(slices), files.missing, files.first_seen, files.folder, files.number)
