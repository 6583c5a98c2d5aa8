"""One frame in a daemon's store, read by its journal line: pixels, label image, digest. Reads chunks, writes nothing.

Chunks are read as the journal names them, not through the arrays' shapes, which lag behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cellvigil.data import I32, Array, FrameKey
from cellvigil.errors import BadFile, StoreError
from cellvigil.store.shards import read_image, read_labels


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """Where one committed frame is, and what its plate's journal says of it."""

    key: FrameKey
    revision: int
    folder: Path  # of the field
    t: int  # slot in the field's arrays
    dtype: str
    shape: tuple[int, int]  # (Y, X)
    plate_channels: tuple[str, ...]  # the stored arrays' order
    channels: tuple[str, ...]  # those that this frame has
    channel: str  # that is analysed; "" = the first, or a colour frame's luminance
    intensity: tuple[float, float] | None  # raw values that the daemon mapped to 0 and 255; None: not journaled
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # the same of channels called by, by name

    def pixels(self) -> Array:
        """(C, Y, X), C in the order of `channels`. Raises BadFile if they are not in the store any more, or broken."""
        path = self.folder / "0" / f"c.{self.t}.0.0.0"
        try:
            planes = read_image(_bytes(path), len(self.plate_channels), self.shape, self.dtype)
        except StoreError as error:
            raise BadFile("unreadable", error.what, where=path) from None
        if self.channels == self.plate_channels:
            return planes
        return np.ascontiguousarray(planes[[self.plate_channels.index(name) for name in self.channels]])

    def labels(self) -> I32:
        """(Y, X): cell i has the label i, as `cellvigil table` numbers it. Raises BadFile as `pixels` does."""
        path = self.folder / "labels/cells/0" / f"c.{self.t}.0.0"
        try:
            return np.asarray(read_labels(_bytes(path), self.shape), dtype=np.int32)
        except StoreError as error:
            raise BadFile("unreadable", error.what, where=path) from None

    def digest(self) -> str:
        """Hex sha256 of the chunks of pixels and labels. Raises BadFile as `pixels` does."""
        found = hashlib.sha256("\n".join((*self.plate_channels, "", *self.channels, self.dtype)).encode())
        found.update(_bytes(self.folder / "0" / f"c.{self.t}.0.0.0"))
        found.update(_bytes(self.folder / "labels/cells/0" / f"c.{self.t}.0.0"))
        return found.hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        hint = "the store's retention may have deleted it; leave it out with --skip-bad"
        raise BadFile("unreadable", "the frame is not in the store any more", where=path, hint=hint) from None
    except OSError as error:
        raise BadFile("unreadable", f"the store cannot be read: {error.strerror}", where=path) from None
