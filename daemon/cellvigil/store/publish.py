"""Growing a plate: every array shows the same number of time points, before and after. Touches zarr.json files only.

The shape lags the journal (reference/store.md, rule 1): chunks lie beyond it unseen until their round is complete.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from cellvigil.errors import store_failure
from cellvigil.store.commit import temporary_beside, write_file
from cellvigil.store.plate import Plate


def grow(folder: Path, plate: Plate, times: int) -> int:
    """Let every array of the plate in `folder` show `times` slots; returns how many they show now.

    All documents are written aside first and then renamed in one go, so the window in which two fields differ is as
    short as the renames. They are not fsynced: a shape that a power cut loses is made again from the journal. Raises
    StoreFull or StoreError; then the plate's T is as it was, and the call may be made again.
    """
    if times <= plate.times or not plate.fields:
        return plate.times
    before, plate.times = plate.times, times
    ready: list[tuple[Path, Path]] = []
    try:
        for one in plate.fields.values():
            for name in plate.array_names(one):
                target = folder / one.path / name / "zarr.json"
                ready.append((temporary_beside(target), target))
                write_file(ready[-1][0], plate.array_file(name), durable=False)
        for temporary, target in ready:
            temporary.rename(target)
    except OSError as error:
        plate.times = before
        for temporary, _ in ready:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise store_failure("the plate cannot be published", error, where=folder) from error
    return times
