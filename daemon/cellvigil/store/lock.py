"""One writer a store: an advisory lock on `.lock` in the store's folder. Released by the system when a process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cellvigil.errors import StoreError

LOCK = ".lock"


class StoreLock:
    """The lock, held from the making of this object until `release`. Raises StoreError if another process holds it."""

    def __init__(self, store: Path) -> None:
        self._descriptor = -1
        path = store / LOCK
        try:
            store.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"the store cannot be opened: {error.strerror}", where=store) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreError(
                f"another process (pid {holder}) writes this store", where=store, hint="stop it, or give another path"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    @property
    def held(self) -> bool:
        """Whether the lock is still ours."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Give the lock up. Doing so twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
