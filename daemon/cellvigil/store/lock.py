"""One writer a store: an advisory lock on `.lock` in the store's folder. Released by the system when a process dies.

The file's text says who holds the lock, or that the last session closed the store; it is no lock by itself, so what a
dead process left in it is no obstacle. A program that is started (exec) does not inherit the lock; a child of a bare
`os.fork` shares it for as long as it lives, so nothing here forks while a store is open.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from cellvigil.errors import StoreError, store_failure

LOCK = ".lock"
_CLOSED = "closed"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_HELD = (errno.EAGAIN, errno.EACCES)  # the second where a network file system makes it a lock on bytes
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class StoreLock:
    """The lock, held from the making of this object until `release`.

    Raises StoreError if another process holds it, or the file system has no such locks.
    """

    def __init__(self, store: Path) -> None:
        self._descriptor = -1
        path = store / LOCK
        try:
            store.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise store_failure("the store cannot be opened", error, where=store) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before = os.pread(descriptor, 100, 0)
            os.ftruncate(descriptor, 0)  # from here on a crash leaves a store that was not closed
        except OSError as error:
            refusal = _refusal(error, descriptor, store)
            os.close(descriptor)
            raise refusal from error
        with contextlib.suppress(OSError):  # on a full disk: an empty file says the same, but for the number
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        self._process = os.getpid()
        self.settled = bool(boot := _boot()) and before.decode("ascii", "replace").split() == [_CLOSED, boot]
        """Whether the last session closed the store and the machine has run on since: no file can have suffered."""

    @property
    def held(self) -> bool:
        """Whether the lock is still ours."""
        return self._descriptor >= 0

    def release(self, *, clean: bool = False) -> None:
        """Give the lock up. `clean`: all that was written is as it should be. Doing so twice does nothing."""
        if self._descriptor < 0:
            return
        if self._process == os.getpid():  # a forked child gives up its copy of the lock, not its parent's lock
            with contextlib.suppress(OSError):  # then the next opening looks more closely
                if clean:
                    os.ftruncate(self._descriptor, 0)
                    os.pwrite(self._descriptor, f"{_CLOSED}\n{_boot()}\n".encode(), 0)
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = -1


def _refusal(error: OSError, descriptor: int, store: Path) -> StoreError:
    if error.errno in _HELD:
        words = os.pread(descriptor, 100, 0).decode("ascii", "replace").split()
        holder = words[0] if words and words[0].isdecimal() else "unknown"
        return StoreError(
            f"another process (pid {holder}) writes this store",
            where=store,
            hint="stop it first, or use another folder",
        )
    if error.errno in _NO_LOCKS:
        return StoreError(
            f"the file system cannot lock the store: {error.strerror}",
            where=store,
            hint="keep the store on a local disk",
        )
    return store_failure("the store cannot be locked", error, where=store)


def _boot() -> str:
    """What names this run of the machine; "" where the system does not say."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
