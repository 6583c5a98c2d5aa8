"""Every zarr.json of a plate as its journal says it must be. Touches the documents of one plate's folder only.

None is fsynced: whatever a power cut takes of them, the next opening makes again.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from cellvigil.errors import StoreError
from cellvigil.store.commit import replace_file
from cellvigil.store.layout import Geometry
from cellvigil.store.plate import Plate, geometry_of


def mend_documents(folder: Path, plate: Plate) -> int:
    """Write every zarr.json anew that is not as the journal says; how many. Takes T, and a lost geometry, from them.

    Raises StoreError if neither the journal nor a document has the geometry, or the disk fails.
    """
    if not plate.fields:
        return 0
    plate.geometry = plate.geometry or _geometry_shown(folder, plate)
    plate.times = max(_times_shown(folder / one.path) for one in plate.fields.values())
    plate.listed = {one.path for one in plate.fields.values()}
    mended = 0
    for one in plate.fields.values():
        mended += sum(_mended(f"{folder}/{one.path}/{name}", data) for name, data in plate.field_files(one).items())
    return mended + sum(_mended(f"{folder}/{name}", data) for name, data in plate.listing_files().items())


def _times_shown(field: Path) -> int:
    try:
        return int(json.loads((field / "0" / "zarr.json").read_bytes())["shape"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return 0  # lost or damaged: another field tells, and it is written anew below


def _geometry_shown(folder: Path, plate: Plate) -> Geometry:
    """The geometry as the fields' documents have it, where its journal line is lost. Raises StoreError."""
    for one in plate.fields.values():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads((folder / one.path / "zarr.json").read_bytes())
            return geometry_of(document["attributes"]["cellvigil"]["geometry"])
    hint = "move this plate out of the store; its frames will be done again"
    raise StoreError("neither the journal nor any field says how large an image is", where=folder, hint=hint)


def _mended(folder: str, data: bytes) -> bool:
    # Text and not Paths: a plate of 384 fields has 5,000 documents, and making their Paths takes longer than reading.
    try:
        with open(f"{folder}/zarr.json", "rb", buffering=0) as file:  # noqa: PTH123 - see above
            if file.read() == data:
                return False
    except FileNotFoundError:
        Path(folder).mkdir(parents=True, exist_ok=True)
    replace_file(Path(folder, "zarr.json"), data, durable=False)
    return True
