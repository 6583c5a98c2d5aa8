"""kill -9 at random instants under a full-speed rehearsal: the whole service, again and again.

The microscope writes all the time, also while no service runs; somebody else reads and validates all the time. A third
of the kills fall anywhere after the start (opening and recovery too), the others a moment after the first to twelfth
commit of the round, while further ones are on their way.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from stand import Parts, Stand

STUCK_S = 60.0  # a round in which nothing is committed for so long is a failure


def kill_again_and_again(root: Path, parts: Parts, *, count: int, seed: int, report: Any = None) -> dict[str, Any]:
    """`count` rounds and the account."""
    chance = random.Random(seed)
    stand = Stand(root, parts)
    began = time.monotonic()
    early = idle = 0
    stuck: list[str] = []
    ended: list[str] = []
    stand.start_scope()
    stand.start_onlooker(seed)
    for number in range(1, count + 1):
        before = stand.look()
        child = stand.serve()
        if chance.random() < 1 / 3:
            early += 1
            _pause(stand, chance.uniform(0.0, 0.8))
        elif stand.wait_for_commits(before + chance.randrange(12), STUCK_S, child):
            _pause(stand, chance.uniform(0.0, 0.05))
        elif child.running():
            stuck.append(f"round {number}: {stand.last_log()}")
        if not child.running():
            ended.append(f"round {number}: exit code {child.code}: {stand.last_log(4)}")
        child.kill()
        idle += stand.look() == before
        if report and number % 50 == 0:
            report(f"{number} kills, {stand.tail.committed} frames, {time.monotonic() - began:.0f} s")
    stand.stop_scope()
    code = stand.finish()
    seen = stand.stop_onlooker()
    told = stand.account()
    found = {
        "kills": count,
        "seed": seed,
        "kills_before_the_first_commit_of_a_round": idle,
        "kills_at_any_moment_after_the_start": early,
        "seconds": round(time.monotonic() - began, 1),
        "starts_that_mended_something": stand.log.read_text(encoding="utf-8").count("a plate was mended"),
        "last_run_exit_code": code,
        "quarantined": stand.quarantined(),
        "stuck": stuck,
        "ended_by_itself": ended,
        "onlooker": seen,
        "account": told.as_dict(),
    }
    quiet = not (stuck or ended or seen["torn"] or seen["problems"] or code or found["quarantined"])
    found["passed"] = bool(quiet and told.whole)
    if found["passed"]:
        stand.close()
    return found


def _pause(stand: Stand, seconds: float) -> None:
    """Wait, and let the microscope go on meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        stand.look()
        time.sleep(min(left, 0.02))
