"""Reading one channel, or the masks, of a committed frame back. Touches nothing but the files it reads."""

from __future__ import annotations

import json
from pathlib import Path

from cellvigil.data import I32, Array
from cellvigil.errors import StoreError
from cellvigil.store.plate import chunk_name
from cellvigil.store.shards import read_labels, read_planes

REDUCED_LEVEL, FULL_LEVEL = "1", "0"
_LABELS = "labels/cells/0"


def read_plane(field: Path, t: int, channel: int, level: str = FULL_LEVEL) -> Array | None:
    """One channel (Y, X) of a slot in the field's folder `field`; None where it is not there (deleted, never came).

    `channel`: its place in the plate's channels (`Store.channels`). Raises StoreError if it is damaged or cannot be
    read.
    """
    path = field / level / chunk_name(level, t)
    try:
        document = json.loads((field / level / "zarr.json").read_bytes())
        _, channels, height, width = document["shape"]
        planes = read_planes(path.read_bytes(), channels, (height, width), document["data_type"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"pixels cannot be read: {error.strerror}", where=path) from error
    except (ValueError, KeyError) as error:
        what = f"the image's zarr.json cannot be read: {error}"
        raise StoreError(what, where=field / level, hint="start again: opening makes it anew") from error
    return planes[channel] if channel < len(planes) else None


def read_mask(field: Path, t: int, shape: tuple[int, ...]) -> I32 | None:
    """The label image (Y, X) i32 of a slot, of an image of this `shape`; None where it is not there.

    Raises StoreError if it is damaged or cannot be read.
    """
    path = field / _LABELS / chunk_name(_LABELS, t)
    try:
        return read_labels(path.read_bytes(), (shape[0], shape[1]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"masks cannot be read: {error.strerror}", where=path) from error
