"""A channel that comes after its frame was committed: the frame's image shard, whole, with the channel in it.

No cell is called again and no revision is made: the segmentation channel was there. Reads the slot's shard; writes
through `commit` only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cellvigil.data import Frame, Histogram
from cellvigil.errors import BadFile, StoreError
from cellvigil.journal import Line
from cellvigil.ledger import CommittedFrame
from cellvigil.store import encode, lines, shards
from cellvigil.store.commit import Chunk, Part, commit
from cellvigil.store.filing import Committed
from cellvigil.store.fit import SourcePlan, fitting_geometry
from cellvigil.store.holdings import Holdings
from cellvigil.store.layout import Geometry
from cellvigil.store.place import Place


def attach(holdings: Holdings, frame: Frame, missing: Sequence[str], signals: Mapping[str, Histogram]) -> Committed:
    """`Store.attach`, which says what it does."""
    known = holdings.ledger.frame(frame.key)
    if known is None or holdings.ledger.is_lost(known.key, known.revision):
        raise ValueError(f"{frame.key} is not in the store: channels can only be added to a committed frame")
    if _is_attached(known, frame):
        return Committed(known.key, known.t, known.revision, {})
    if there := [name for name in frame.channels if name in known.channels]:
        raise ValueError(f"{frame.key} revision {known.revision} has {', '.join(there)} already, from other files")
    place = holdings.place(frame.key.series)
    plan = holdings.rules.plans.get(frame.key.source, SourcePlan())
    frame = _as_stored(frame, place.plate.geometry)
    geometry = fitting_geometry(frame, place.plate.geometry, plan)
    chunks, growth = _grown(place, known, frame, geometry)
    now = holdings.rules.now()
    check = encode.sums(chunks, place.plate.place(known.key), len(geometry.channels))
    entry = lines.attached_line(
        known, frame, signals=signals, missing=missing, growth=growth, check=check, committed_at=now
    )
    told: list[Committed] = []

    def take(journaled: list[Line]) -> None:
        holdings.take(place, journaled)
        told.append(Committed(known.key, known.t, known.revision, journaled[0]))

    commit([Part(place.journal, [entry], chunks, take)])
    return told[0]


def _as_stored(frame: Frame, geometry: Geometry | None) -> Frame:
    """The frame in the plate's pixel type where that holds every value, as if the channel had come in time."""
    if geometry is None or not np.can_cast(frame.pixels.dtype, geometry.dtype, "safe"):
        return frame
    return replace(frame, pixels=frame.pixels.astype(geometry.dtype))


def _is_attached(known: CommittedFrame, frame: Frame) -> bool:
    digests = {ref.digest for ref in known.files}
    return set(frame.channels) <= set(known.channels) and {ref.digest for ref in frame.files} <= digests


def _grown(place: Place, known: CommittedFrame, frame: Frame, geometry: Geometry) -> tuple[list[Chunk], int]:
    """Both levels with the frame's channels in them, and the bytes that these take; nothing if they were dropped.

    The channels' bytes follow from their pixels alone, so a shard that has them already (a crash fell between its
    rename and the journal line) comes out the same.
    """
    if "pixels" in place.plate.dropped.get(known.t, ()):
        return [], 0
    one, count = place.plate.place(known.key), len(geometry.channels)
    path = encode.chunk(place.folder, one, known.t, "0", b"").path
    planes = {geometry.channels.index(name): plane for name, plane in zip(frame.channels, frame.pixels, strict=True)}
    try:
        full = shards.with_planes(path.read_bytes(), count, planes)
        reduced = encode.reduced_image(full, geometry)
    except (OSError, StoreError) as error:
        # No fault of the disk now: the same every time it is tried, so it must not end the service again and again.
        hint = "run `cellvigil repair`, then `cellvigil quarantine retry`"
        what = f"the pixels of {known.key} in the store are damaged ({error})"
        raise BadFile("store_damaged", what, where=frame.files[0].path if frame.files else "", hint=hint) from error
    growth = sum(shards.plane_sizes(data, count)[channel] for data in (full, reduced) for channel in planes)
    return encode.image_chunks(place.folder, one, known.t, full, reduced), growth
