"""Every system call that writes made to fail in turn, at the real seam: strace tampers with the service's own threads.

The service is forked, strace attaches to one of its threads, and only then the microscope writes its frames. So the
N-th call of a kind is the N-th from there: in the finishing thread from the first commit on, in the main thread from
the service's start on (lock, opening, baseline, closing). After each fault the service is run again without one.
"""

from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import yaozarrs
from forks import Child, in_child
from stand import Parts, Stand, end

CALLS = (
    *("openat", "write", "writev", "pwrite64", "pwritev", "fsync", "fdatasync", "sync_file_range", "ftruncate"),
    *("rename", "renameat", "renameat2", "mkdir", "mkdirat", "link", "linkat", "unlink", "unlinkat", "fallocate"),
)
ERRORS = ("ENOSPC", "EIO", "EACCES", "EROFS")
THREADS = ("finish", "main")
_MAIN_ONLY = ("fsync", "fdatasync", "pwrite64", "rename", "renameat", "renameat2", "ftruncate", "mkdir", "mkdirat")
"""What is tampered with in the main thread: its other calls read the microscope's folder, or load libraries."""
_FRAMES, _WELLS = 4, ("A1", "B2")


@dataclass(frozen=True, slots=True)
class Fault:
    """The `number`-th (from 1) `call` of a thread fails with `error`."""

    thread: str
    call: str
    error: str
    number: int

    def __str__(self) -> str:
        return f"{self.thread}: {self.call} no. {self.number} {self.error}"


def strace_refused() -> str:
    """Why this machine cannot do it; "" if it can."""
    if not which("strace"):
        return "strace is not installed"
    tried = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace: {tried.stderr.strip()}" if tried.returncode else ""


def counted(root: Path, parts: Parts) -> dict[str, Counter[str]]:
    """How often each thread makes each call over four frames, from the first commit (or the start) to the end."""
    found: dict[str, Counter[str]] = {}
    for thread in THREADS:
        stand = Stand(root / f"count-{thread}", parts, wells=_WELLS)
        trace = stand.root / "trace"
        _run(stand, thread, ["-o", str(trace), "-e", f"trace={','.join(CALLS)}"])
        calls = re.findall(r"^(?:\d+ +)?(\w+)\(", trace.read_text(encoding="utf-8"), re.MULTILINE)
        found[thread] = Counter(name for name in calls if thread == "finish" or name in _MAIN_ONLY)
        stand.close()
    return found


def faults_of(counts: dict[str, Counter[str]]) -> Iterator[Fault]:
    """Every fault there is."""
    for thread, calls in counts.items():
        for call, times in calls.items():
            for error in ERRORS:
                yield from (Fault(thread, call, error, number) for number in range(1, times + 1))


def fail_every_call(
    root: Path, parts: Parts, *, sample: int | None, once: bool, limits: int, seed: int, report: Any = None
) -> dict[str, Any]:
    """Each fault (or `sample` of them), then `limits` short writes by a limit on a file's size.

    `once`: each call fails once, with one error after the other, instead of once with each.
    """
    chance = random.Random(seed)
    counts = counted(root, parts)
    faults = list(faults_of(counts))
    if once:
        faults = [one for one in faults if one.error == ERRORS[(one.number + seed) % len(ERRORS)]]
    chosen = faults if sample is None else sorted(chance.sample(faults, min(sample, len(faults))), key=str)
    troubles: list[str] = []
    ends: Counter[str] = Counter()
    real = 0
    for number, fault in enumerate(chosen, start=1):
        trouble, code, injected = _one(root / "fault", parts, fault)
        real += injected
        troubles += [f"{fault}: {trouble}"] if trouble else []
        ends[str(code)] += 1
        if report and number % 50 == 0:
            report(f"{number} of {len(chosen)} faults, {len(troubles)} troubles")
    short: list[int] = []
    for number in range(limits):
        short.append(chance.randrange(50, 4000) if number % 2 else chance.randrange(4000, 90_000))
        if trouble := _short(root / "short", parts, short[-1]):
            troubles.append(f"files limited to {short[-1]} bytes: {trouble}")
    return {
        "seed": seed,
        "calls": {thread: dict(calls) for thread, calls in counts.items()},
        "errors": ERRORS,
        "faults": len(chosen),
        "injected": real,  # the others' call never came: how many frames share a commit differs from run to run
        "of": len(faults),
        "exit_codes_of_the_faulty_run": dict(ends),
        "short_writes_at_bytes": short,
        "troubles": troubles,
        "passed": not troubles,
    }


def _one(root: Path, parts: Parts, fault: Fault) -> tuple[str, int, bool]:
    """One fault in a fresh store, and a run without; (what is wrong, exit code of the faulty run, whether it came)."""
    stand = Stand(root, parts, wells=_WELLS)
    trace = stand.root / "trace"
    inject = f"inject={fault.call}:error={fault.error}:when={fault.number}"
    code = _run(stand, fault.thread, ["-o", str(trace), "-e", f"trace={fault.call}", "-e", inject])
    injected = "(INJECTED)" in trace.read_text(encoding="utf-8")
    trouble = f"exit code {code}: {stand.last_log(4)}" if code not in (0, 1) else ""
    trouble = trouble or _after(stand)
    stand.close()
    return trouble, code, injected


def _after(stand: Stand) -> str:
    """What is wrong after a run without faults; "" if nothing is."""
    if code := stand.finish():
        return f"the run after it ended with {code}: {stand.last_log(4)}"
    told = stand.account()
    if not told.whole:
        return str({name: value for name, value in told.as_dict().items() if value})
    if left := list(stand.store.rglob(".tmp.*")):
        return f"unfinished files were left: {left[:3]}"
    in_child(lambda: [yaozarrs.validate_zarr_store(str(plate)) and None for plate in stand.store.glob("*/*/*.zarr")])
    return f"{stand.quarantined()} files in quarantine" if stand.quarantined() else ""


def _run(stand: Stand, thread: str, options: list[str]) -> int:
    """The service with strace on one of its threads, four frames, and SIGTERM when they are done; the exit code."""
    told = stand.root / "thread"
    service = stand.serve(lambda: _tell_of(told) if thread == "finish" else _wait_for_tracer())
    wanted = service.pid if thread == "main" else _told_of(told, service)
    tracer = subprocess.Popen(["strace", "-qq", *options, "-p", str(wanted)], stderr=subprocess.PIPE)
    try:
        _traced(service, wanted)
        stand.start_scope(_FRAMES)
        stand.wait_for_commits(_FRAMES - 1, 5.0, service)
        stand.join_scope()
        code, _ = end(service, 20)
    finally:
        tracer.terminate()
        tracer.wait()
        if tracer.stderr:
            tracer.stderr.close()
    return code


def _short(root: Path, parts: Parts, size: int) -> str:
    """No file of the service may pass `size` bytes for a while: writes come short, then fail with EFBIG."""
    stand = Stand(root, parts, wells=_WELLS)
    service = stand.serve(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)))
    stand.start_scope(_FRAMES)
    stand.wait_for_commits(_FRAMES - 1, 2.0, service)
    if service.running():
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        stand.wait_for_commits(_FRAMES - 1, 20.0, service)
    stand.join_scope()
    code, _ = end(service, 20)
    trouble = f"exit code {code}: {stand.last_log(4)}" if code not in (0, 1) else _after(stand)
    stand.close()
    return trouble


def _tell_of(path: Path) -> None:
    """In the service: a thread of ours writes the finishing thread's id when there is one."""

    def look() -> None:
        while True:
            for one in threading.enumerate():
                if one.name.startswith("finish") and one.native_id:
                    path.with_suffix(".new").write_text(str(one.native_id), encoding="utf-8")
                    path.with_suffix(".new").rename(path)
                    return
            time.sleep(0.005)

    threading.Thread(target=look, daemon=True).start()


def _told_of(path: Path, service: Child) -> int:
    until = time.monotonic() + 20
    while not path.exists():
        if not service.running() or time.monotonic() > until:
            raise SystemExit(f"the service has no finishing thread:\n{service.log.read_text(encoding='utf-8')}")
        time.sleep(0.005)
    return int(path.read_text(encoding="utf-8"))


def _wait_for_tracer() -> None:
    """In the service: go on when somebody traces us."""
    until = time.monotonic() + 20
    while not _tracer_of(os.getpid(), os.getpid()) and time.monotonic() < until:
        time.sleep(0.002)


def _traced(service: Child, thread: int) -> None:
    until = time.monotonic() + 20
    while service.running() and not _tracer_of(service.pid, thread) and time.monotonic() < until:
        time.sleep(0.002)


def _tracer_of(pid: int, thread: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/task/{thread}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    return "TracerPid:\t0\n" not in text
