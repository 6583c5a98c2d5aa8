"""The watched folder is a share that goes away while the microscope writes on: unmounted, empty, stale, broken, busy.

Unmounting is real: the folder is a bind mount of where the microscope writes. The errors that a network file system
answers with (ESTALE, EIO, EBUSY) are given by the service's own calls, patched in its process before it starts; and
"stale_listing": the folder lists its files, and none of them opens.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import os
import random
import time
from collections.abc import Callable, Sequence
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any

from mounts import bound, unmounted
from stand import Parts, Stand, end

ERRORS = {"ESTALE": errno.ESTALE, "EIO": errno.EIO, "EBUSY": errno.EBUSY}
STALE_LISTING = -errno.ESTALE
KINDS = ("gone", "empty", *ERRORS, "stale_listing")


def lose_the_share(
    root: Path, parts: Parts, *, kinds: Sequence[str], times: int, burst: int, seed: int, report: Any = None
) -> dict[str, Any]:
    """Each kind of outage `times` times in random order, then a burst of files; the account at the end."""
    chance = random.Random(seed)
    below: Any = RawValue(ctypes.c_int64, 0)
    stand = Stand(root, parts, images=root / "share", written=root / "disk-of-the-share")
    stand.ahead = 60
    bound(stand.written, stand.images)
    troubles: list[str] = []
    try:
        stand.start_scope()
        service = stand.serve(_broken_below(stand.images, below))
        outages = [kind for kind in kinds for _ in range(times)]
        chance.shuffle(outages)
        for kind in outages:
            before = stand.look()
            stand.wait_for_commits(before + chance.randrange(1, 12), 60, service)
            _outage(stand, kind, chance.uniform(0.2, 1.5), below)
            before = stand.look()
            if not stand.wait_for_commits(before + stand.ahead // 2, 60, service):
                troubles.append(f"nothing came after {kind}: {stand.last_log()}")
        if report:
            report(f"{len(outages)} outages, {stand.look()} frames")
        stand.stop_scope()
        began, before = time.monotonic(), stand.look()
        stand.ahead = burst or stand.ahead
        stand.start_scope(burst)
        written = _joined(stand, burst, before, service)
        seconds = time.monotonic() - began
        code, drained_s = end(service)
        last = stand.finish()
        told = stand.account()
    finally:
        unmounted(stand.images)
    good = told.whole and not troubles and not code and not last and not stand.quarantined()
    if good:
        stand.close()
    return {
        "seed": seed,
        "outages": dict.fromkeys(kinds, times),
        "burst": {"files": burst, "written_in_s": round(written, 1), "done_in_s": round(seconds, 1)},
        "exit_codes": [code, last],
        "drained_s": round(drained_s, 2),
        "quarantined": stand.quarantined() if not good else 0,
        "troubles": troubles,
        "account": told.as_dict(),
        "passed": good,
    }


def _joined(stand: Stand, burst: int, before: int, service: Any) -> float:
    """Wait until the burst is written and committed; the seconds of writing."""
    began = time.monotonic()
    stand.join_scope()
    written = time.monotonic() - began
    while stand.look() < before + burst and service.running() and time.monotonic() - began < 7200:
        time.sleep(0.05)
    return written


def _outage(stand: Stand, kind: str, seconds: float, below: Any) -> None:
    if kind in {"gone", "empty"}:
        unmounted(stand.images)
        if kind == "gone":
            stand.images.rmdir()
        _look_for(stand, seconds)
        bound(stand.written, stand.images)
        return
    below.value = STALE_LISTING if kind == "stale_listing" else ERRORS[kind]
    _look_for(stand, seconds)
    below.value = 0


def _look_for(stand: Stand, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stand.look()
        time.sleep(0.02)


def _broken_below(folder: Path, below: Any) -> Callable[[], None]:
    """What makes every call of this process for a path in `folder` fail with the errno in `below`; 0 = none does."""
    prefix = str(folder)

    def patch() -> None:
        def failing(real: Callable[..., Any], *, listing: bool) -> Callable[..., Any]:
            def call(path: Any, *args: Any, **options: Any) -> Any:
                code = below.value
                below_it = isinstance(path, str | os.PathLike) and os.fspath(path).startswith(prefix)
                if below_it and (code > 0 or (code < 0 and not listing)):
                    raise OSError(abs(code), os.strerror(abs(code)), os.fspath(path))
                return real(path, *args, **options)

            return call

        for module, name, listing in (
            (os, "scandir", True), (os, "listdir", True), (os, "stat", True), (os, "lstat", True),
            (os, "open", False), (io, "open", False), (builtins, "open", False),
        ):  # fmt: skip
            setattr(module, name, failing(getattr(module, name), listing=listing))

    return patch
