"""A megabyte kept in the store for the day on which its disk is full to the last byte. Touches `.reserve` only.

Deleting begins with a journal line (`dropping`), and a line needs room: where another program has filled the disk, the
reserve is given up first. It is made again when there is room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cellvigil.errors import store_failure
from cellvigil.store.commit import write_file

RESERVE = ".reserve"
_BYTES = 1 << 20


def keep_reserve(store: Path) -> None:
    """Have the reserve, if there is room for it."""
    path = store / RESERVE
    if path.exists():
        return
    try:
        disk = os.statvfs(store)
        if disk.f_bavail * disk.f_frsize > 2 * _BYTES:
            write_file(path, os.urandom(_BYTES))  # what does not compress, whatever the file system does
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()


def give_up_reserve(store: Path) -> bool:
    """Make room for a few journal lines; whether there was a reserve. Raises StoreError."""
    try:
        (store / RESERVE).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise store_failure("the reserve cannot be given up", error, where=store / RESERVE) from error
    return True
