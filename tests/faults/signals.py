"""SIGTERM at random moments, two services on one store, and a clock that jumps."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from stand import Parts, Stand, end

DRAINS_S = 10.0
HOUR_S = 3600


def terminate_at_random(root: Path, parts: Parts, *, count: int, seed: int) -> dict[str, Any]:
    """SIGTERM to the whole service, a third of them anywhere after the start; each must end with 0 within 10 s.

    Before the service has set its handlers a SIGTERM ends it by default, which is -15: nothing was begun.
    """
    chance = random.Random(seed)
    stand = Stand(root, parts)
    stand.start_scope()
    codes: list[int] = []
    longest = 0.0
    for _ in range(count):
        before = stand.look()
        service = stand.serve()
        if chance.random() < 1 / 3:
            time.sleep(chance.uniform(0.0, 1.0))
        else:
            stand.wait_for_commits(before, 60, service)
            time.sleep(chance.uniform(0.0, 0.4))
        code, seconds = end(service)
        codes.append(code)
        longest = max(longest, seconds)
    stand.stop_scope()
    last = stand.finish()
    told = stand.account()
    good = told.whole and set(codes) <= {0, -15} and longest < DRAINS_S and not last and not stand.quarantined()
    found = {
        "seed": seed,
        "signals": count,
        "before_the_handlers": codes.count(-15),
        "exit_codes": sorted(set(codes)),
        "longest_drain_s": round(longest, 2),
        "last_run_exit_code": last,
        "account": told.as_dict(),
        "passed": good,
    }
    if good:
        stand.close()
    return found


def two_services(root: Path, parts: Parts) -> dict[str, Any]:
    """A second service on the same store, by the same path, by a link to it and by a path with dots: all refuse."""
    stand = Stand(root, parts)
    stand.start_scope()
    first = stand.serve()
    stand.wait_for_commits(3, 60, first)
    link = root / "linked"
    link.symlink_to(stand.store, target_is_directory=True)
    log, refused = stand.root / "second.log", {}
    troubles: list[str] = []
    for name, path in (("same", stand.store), ("link", link), ("dots", stand.root / "images" / ".." / "store")):
        before = stand.look()
        stand.changes = {"store": {"min_free_mb": 0.0, "path": str(path)}, "state_dir": str(root / f"state-{name}")}
        settings = stand.config()

        def second(settings: Any = settings) -> None:
            from cellvigil.service import serve  # noqa: PLC0415 - imported long since by the parent

            serve.run(settings)

        refused[name] = stand.fork(second, log).wait(30)
        if not stand.wait_for_commits(before + 3, 30, first):
            troubles.append(f"the first service stood still after a second one by {name}")
    stand.changes = {}
    text = log.read_text(encoding="utf-8")
    if text.count("another process") != 3 or set(refused.values()) != {1}:
        troubles.append(f"exit codes {refused}: {text[-2000:]}")
    stand.stop_scope()
    code, _ = end(first)
    last = stand.finish()
    told = stand.account()
    good = told.whole and not troubles and not code and not last
    if good:
        stand.close()
    return {"exit_codes_of_the_second": refused, "says": text.strip().splitlines()[-1:], "troubles": troubles,
            "account": told.as_dict(), "passed": good}  # fmt: skip


def faketime_library() -> Path | None:
    """libfaketime, where it is installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def jump_the_clock(root: Path, parts: Parts, *, jumps: int, seed: int) -> dict[str, Any]:
    """The service's wall clock jumps by an hour, both ways, while frames come; its monotonic clock goes on."""
    library = faketime_library()
    if library is None:
        return {"passed": False, "troubles": ["libfaketime is not installed"]}
    chance = random.Random(seed)
    stand = Stand(root, parts)
    clock = root / "clock"
    offset, offsets = 0, [0]
    _set(clock, offset)
    settings = root / "config.yaml"
    settings.write_text(yaml.safe_dump(stand.config().model_dump(mode="json")), encoding="utf-8")
    environment = {
        **os.environ, "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1", "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    stand.start_scope()
    command = [sys.executable, "-m", "cellvigil", "run", "--config", str(settings)]
    service = stand.fork(lambda: os.execve(command[0], command, environment), stand.log)
    troubles: list[str] = []
    for _ in range(jumps):
        before = stand.look()
        stand.wait_for_commits(before + chance.randrange(5, 20), 60, service)
        offset += chance.choice((-HOUR_S, HOUR_S))
        offsets.append(offset)
        _set(clock, offset)
        before = stand.look()
        if not stand.wait_for_commits(before + 10, 60, service):
            troubles.append(f"nothing came after a jump to {offset} s: {stand.last_log()}")
    stand.stop_scope()
    code, seconds = end(service)
    last = stand.finish()
    told = stand.account()
    good = told.whole and not troubles and not code and not last and not stand.quarantined() and seconds < DRAINS_S
    if good:
        stand.close()
    return {"seed": seed, "offsets_s": offsets, "exit_codes": [code, last], "drained_s": round(seconds, 2),
            "troubles": troubles, "account": told.as_dict(), "passed": good}  # fmt: skip


def _set(clock: Path, offset: int) -> None:
    fresh = clock.with_suffix(".new")
    fresh.write_text(f"{offset:+d}\n", encoding="utf-8")
    fresh.rename(clock)
