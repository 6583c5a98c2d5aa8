"""The long run: does anything grow, and do the accounts still agree to the cell?"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from fast_scope import wells_of
from forks import Child
from stand import Parts, Stand, end


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the service's process."""

    seconds: float
    frames: int
    rss_mb: float
    descriptors: int
    threads: int


def soak(
    root: Path, parts: Parts, *, frames: int, wells: int, ahead: int, every_s: float, report: Any = None
) -> dict[str, Any]:
    """`frames` frames through one service, sampled every so many seconds; then the account over all of them."""
    stand = Stand(root, parts, wells=wells_of(wells), ahead=ahead, changes={"source": {"scan_interval_s": 0.5}})
    began = time.monotonic()
    service = stand.serve()
    stand.start_scope(frames)
    samples = _watched(stand, service, frames, every_s, report)
    seconds = time.monotonic() - began
    died = None if service.running() else service.code
    code, drained_s = end(service, 120)
    stand.join_scope(60)
    last = stand.finish()
    told = stand.account()
    found = {
        "frames": frames,
        "seconds": round(seconds, 1),
        "frames_a_second": round(stand.tail.committed / seconds, 1),
        "exit_code": code,
        "drained_s": round(drained_s, 2),
        "last_run_exit_code": last,
        "quarantined": stand.quarantined(),
        **growth(samples),
        "samples": [asdict(sample) for sample in samples],
        "account": told.as_dict(),
    }
    if died is not None:
        found["died"] = f"exit code {died}: {stand.last_log()}"
    found["passed"] = bool(told.whole and died is None and not (code or last or found["quarantined"]))
    if report:
        report(_table(found))
    if found["passed"]:
        stand.close()
    return found


def growth(samples: list[Sample]) -> dict[str, Any]:
    """First quarter against last, by frames, and the slope of memory after the first tenth."""
    if len(samples) < 4:
        return {"growth": "too few samples"}
    frames = samples[-1].frames
    first = [one for one in samples if frames * 0.05 <= one.frames <= frames * 0.25] or samples[:1]
    last = [one for one in samples if one.frames >= frames * 0.75]
    warm = [one for one in samples if one.frames >= frames * 0.1]
    slope = np.polyfit([one.frames for one in warm], [one.rss_mb * 1e6 for one in warm], 1)[0] if len(warm) > 2 else 0.0
    quarters = {
        f"{when}_quarter": {
            "rss_mb": round(median(one.rss_mb for one in part), 1),
            "descriptors": median(one.descriptors for one in part),
            "threads": median(one.threads for one in part),
        }
        for when, part in (("first", first), ("last", last))
    }
    return {
        **quarters,
        "rss_bytes_a_frame": round(float(slope), 1),
        "most_rss_mb": max(one.rss_mb for one in samples),
        "most_descriptors": max(one.descriptors for one in samples),
        "most_threads": max(one.threads for one in samples),
    }


def sampled(pid: int, frames: int, began: float) -> Sample | None:
    """A look into /proc; None if the process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):
        pairs = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        status = {name: value.strip() for name, value in pairs}
        rss = int(status["VmRSS"].split()[0]) / 1000
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return Sample(round(time.monotonic() - began, 1), frames, round(rss, 1), descriptors, int(status["Threads"]))
    return None


def _watched(stand: Stand, service: Child, frames: int, every_s: float, report: Any) -> list[Sample]:
    began = due = moved = time.monotonic()
    samples: list[Sample] = []
    before = 0
    while service.running() and before < frames:
        if (done := stand.look()) != before:
            before, moved = done, time.monotonic()
        if time.monotonic() - moved > 300:
            raise SystemExit(f"nothing was committed for five minutes:\n{stand.last_log()}")
        if time.monotonic() >= due and (one := sampled(service.pid, done, began)) is not None:
            due += every_s
            samples.append(one)
            if report:
                report(f"{one.seconds:8.0f} s {done:7d} frames {one.rss_mb:8.1f} MB "
                       f"{one.descriptors:4d} fds {one.threads:3d} threads")  # fmt: skip
        time.sleep(0.05)
    return samples


def _table(found: dict[str, Any]) -> str:
    told = found["account"]
    sides = ("cells_journal", "cells_features", "cells_calls", "cells_labels")
    rows = (
        f"{found['frames']} frames in {found['seconds']:.0f} s, {found['frames_a_second']} a second",
        *(f"{when:14} {found.get(when)}" for when in ("first_quarter", "last_quarter")),
        f"resident memory grows by {found.get('rss_bytes_a_frame')} bytes a frame",
        f"account whole: {told['whole']}; {told['committed']} frames; cells "
        + ", ".join(f"{side.partition('_')[2]} {told[side]}" for side in sides),
    )
    return "\n".join(rows)
