"""Every error a user can meet, classed by what the caller does next.

An error says what happened, where, and what to do. `reason` is a short code that is safe as a metric label
and as a quarantine entry; the message is for a person.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path


class CellvigilError(Exception):
    """Something a person must know about. `str()` gives one line: what, where, and what to do."""

    exit_code = 1

    def __init__(self, what: str, *, where: str | Path = "", hint: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.hint = hint
        super().__init__(what, str(where), hint)

    def __reduce__(self) -> tuple[Callable[..., CellvigilError], tuple[object, ...], dict[str, object]]:
        """The same error in another process, of the very same kind: kinds are made of different things."""
        return _carried, (type(self), self.args), self.__dict__

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        todo = f"; {self.hint}" if self.hint else ""
        return f"{self.what}{place}{todo}"


def _carried(kind: type[CellvigilError], arguments: tuple[object, ...]) -> CellvigilError:
    """An error of that kind that still lacks its attributes."""
    return kind.__new__(kind, *arguments)


class UsageError(CellvigilError):
    """A wrong command line, configuration or argument: nothing was done, the user mends the call. Exit code 2."""

    exit_code = 2


class BundleError(CellvigilError):
    """An encoder bundle or a reference index is missing, incomplete, or not what its hashes say: refuse to use it."""


class DeviceError(CellvigilError):
    """The device that was asked for cannot be had, or failed while it worked."""


class NotFinite(DeviceError):
    """A model gave numbers that are none. A running service finds out whose fault that is: see `service.enduring`."""


class StoreError(CellvigilError):
    """The store cannot be written or read as it should: stop writing, keep what is there."""


class StoreFull(StoreError):
    """The disk has no room (or less than `store.min_free_mb`): nothing was committed; wait, and try the same again."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: OSError) -> bool:
    """Whether the system refused a write for want of room (or of quota), and not because something is broken."""
    return error.errno in _FULL


def store_failure(what: str, error: OSError, *, where: str | Path, hint: str = "") -> StoreError:
    """The error for a write that the system refused: StoreFull where the disk has no room, else StoreError."""
    text = f"{what}: {error.strerror}"
    if is_full(error):
        return StoreFull(text, where=where, hint="free some space on that disk; writing goes on by itself")
    return StoreError(text, where=where, hint=hint or "see that the disk is there and may be written")


class BadFile(CellvigilError):
    """One file can never become a frame as it is: quarantine it under `reason` and go on.

    Reasons: see `REASONS`. A file that may only need more time raises `NotYet` instead.
    """

    def __init__(self, reason: str, what: str, *, where: str | Path = "", hint: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown quarantine reason {reason!r}; add it to errors.REASONS")
        self.reason = reason
        super().__init__(what, where=where, hint=hint)


class NotYet(CellvigilError):
    """The file is still being written (or cannot be opened just now): ask again at the next scan.

    `becomes` is the quarantine reason once the caller's patience has run out; `expired()` makes that error.
    """

    def __init__(self, what: str, *, where: str | Path = "", hint: str = "", becomes: str = "truncated") -> None:
        if becomes not in REASONS:
            raise ValueError(f"unknown quarantine reason {becomes!r}; add it to errors.REASONS")
        self.becomes = becomes
        super().__init__(what, where=where, hint=hint)

    def expired(self) -> BadFile:
        """The error that this becomes when waiting was in vain."""
        return BadFile(self.becomes, self.what, where=self.where, hint=self.hint)


REASONS: dict[str, str] = {
    "empty": "the file has no bytes",
    "truncated": "the file ends before its format says it should",
    "unreadable": "the file does not open, or its format is broken",
    "wrong_type": "the content is not the format that the name promises",
    "bad_name": "the name does not fit the source's pattern",
    "bad_metadata": "the metadata contradicts itself or is unsafe (a DTD, an entity)",
    "no_pixel_size": "neither the file nor the configuration says how large a pixel is",
    "geometry_changed": "the image size, depth or channels differ from the plate's earlier frames",
    "too_large": "the image or archive is larger than the configured limits",
    "too_many_cells": "more cells than one frame can hold in the store",
    "incomplete": "the segmentation channel never came",
    "store_damaged": "the frame that the file belongs to is damaged in the store: repair it, then retry the file",
    "crashed": "the process died of a fault, more than once, while it worked on this file",
    "no_numbers": "a model makes no numbers of the frame, though its device gives the golden output: look at the image",
    "failed": "a stage failed on this frame again and again; the traceback is kept",
}
