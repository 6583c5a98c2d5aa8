"""A real full file system under the store and the state: filled and freed at random while the service runs."""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from forks import Child
from mounts import mounted, unmounted
from stand import Parts, Stand, end
from tail import Tail

SIZE_MB = 48
_RESUMES_S = 60.0  # within which it must go on after the disk was freed


def fill_and_free(
    root: Path, parts: Parts, *, ways: Sequence[str], cycles: int, seed: int, report: Any = None
) -> dict[str, Any]:
    """Full from the start; `cycles` times full and freed in mid-run; full under the state only: those in `ways`."""
    chance = random.Random(seed)
    found: dict[str, Any] = {"seed": seed, "disk_mb": SIZE_MB, "cycles": cycles}
    for name in ways:
        run = WAYS[name]
        with _disk(root / name) as disk:
            stand = Stand(root / name, parts, disk=disk)
            found[name] = run(stand, chance, cycles)
            found[name]["quarantined"] = stand.quarantined()
            if report:
                report(f"{name}: {'passed' if found[name]['passed'] else 'FAILED'}")
            for child in stand.children:
                child.kill()
            if found[name]["passed"]:
                stand.close()
    found["passed"] = all(found[name]["passed"] for name in ways)
    return found


@contextlib.contextmanager
def _disk(root: Path) -> Iterator[Path]:
    disk = root / "disk"
    mounted(disk, SIZE_MB)
    try:
        yield disk
    finally:
        unmounted(disk)


def _fill(disk: Path, leave: int = 0) -> Path:
    """Take all the room but `leave` bytes."""
    ballast = disk / "ballast"
    block = b"\0" * 65536
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(block):
            pass
    os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    return ballast


def paused(stand: Stand) -> bool | None:
    """What the service's own metric says; None if its door does not answer."""
    addresses = re.findall(r"http://[\d.:]+", stand.log.read_text(encoding="utf-8"))
    if not addresses:
        return None
    try:
        with urllib.request.urlopen(f"{addresses[-1]}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except (OSError, urllib.error.URLError):
        return None
    values = re.findall(r"^cellvigil_paused(?:{[^}]*})? (\S+)$", text, re.MULTILINE)
    return any(float(value) > 0 for value in values)


def _kept_going(stand: Stand, service: Child, starts: list[int]) -> Child:
    """The service, started again if it ended: what systemd does."""
    if service.running():
        return service
    starts.append(service.code or 0)
    return stand.serve()


def _in_mid_run(stand: Stand, chance: random.Random, cycles: int) -> dict[str, Any]:
    stand.start_scope()
    service, ended, troubles, told = stand.serve(), [], [], 0
    for cycle in range(cycles):
        before = stand.look()
        stand.wait_for_commits(before + chance.randrange(5, 25), _RESUMES_S, service)
        ballast = _fill(stand.disk, chance.choice((0, 0, chance.randrange(300_000))))
        until = time.monotonic() + chance.uniform(1.0, 3.0)
        said = None
        while time.monotonic() < until:
            stand.look()
            service = _kept_going(stand, service, ended)
            said = paused(stand) or said
            time.sleep(0.1)
        told += said is True
        ballast.unlink()
        before = stand.look()
        until = time.monotonic() + _RESUMES_S
        while stand.look() <= before and time.monotonic() < until:
            service = _kept_going(stand, service, ended)
            time.sleep(0.05)
        if stand.look() <= before:
            troubles.append(f"cycle {cycle}: nothing was committed within {_RESUMES_S} s after the disk was freed")
    stand.stop_scope()
    code, _ = end(service)
    return _ended(stand, troubles, ended, code) | {"cycles_in_which_it_said_paused": told}


def _from_the_start(stand: Stand, chance: random.Random, cycles: int) -> dict[str, Any]:
    ballast = _fill(stand.disk)
    stand.start_scope(20)
    service, ended, troubles = stand.serve(), [], []
    time.sleep(3.0)
    service.running()
    ballast.unlink()
    until = time.monotonic() + _RESUMES_S
    while stand.look() < 20 and time.monotonic() < until:
        service = _kept_going(stand, service, ended)
        time.sleep(0.05)
    if stand.look() < 20:
        troubles.append("it did not begin after the disk was freed")
    stand.join_scope()
    code, _ = end(service)
    return _ended(stand, troubles, ended, code)


def _state(stand: Stand, chance: random.Random, cycles: int) -> dict[str, Any]:
    """The state folder is on the full disk, the store is not; a bad file comes, which the quarantine list must note."""
    settings = {
        "state_dir": str(stand.disk / "state"),
        "store": {"min_free_mb": 0.0, "path": str(stand.root / "store")},
    }
    stand.changes = settings
    stand.disk = stand.root
    stand.tail = Tail(stand.store)
    ballast = _fill(stand.root / "disk")
    stand.start_scope(20)
    stand.join_scope()
    spoilt = next(iter(sorted(stand.images.rglob("*.tif")))).with_name("H12_01_1_1_Bright Field_001.tif")
    spoilt.write_bytes(b"II*\0" + b"\0" * 400)
    service, ended, troubles = stand.serve(), [], []
    until = time.monotonic() + 15.0
    while stand.look() < 20 and time.monotonic() < until:
        service = _kept_going(stand, service, ended)
        time.sleep(0.1)
    on_full_disk = stand.look()
    ballast.unlink()
    until = time.monotonic() + _RESUMES_S
    while stand.look() < 20 and time.monotonic() < until:
        service = _kept_going(stand, service, ended)
        time.sleep(0.05)
    time.sleep(1.0)
    code, _ = end(service)
    told = _ended(stand, troubles, ended, code)
    if not stand.quarantined():
        told["troubles"].append("the bad file is in no quarantine list")
    return told | {"committed_while_full": on_full_disk, "passed": told["passed"] and not told["troubles"]}


def _ended(stand: Stand, troubles: list[str], ended: list[int], code: int) -> dict[str, Any]:
    last = stand.finish()
    told = stand.account()
    if not set(ended) <= {0, 1}:
        troubles.append(f"it ended with {ended}: {stand.last_log()}")
    good = told.whole and not troubles and code in (0, 1) and not last
    return {
        "starts_beyond_the_first": len(ended),
        "exit_codes": [*ended, code, last],
        "troubles": troubles,
        "account": told.as_dict(),
        "passed": good,
    }


WAYS = {"from_the_start": _from_the_start, "in_mid_run": _in_mid_run, "state_only": _state}
