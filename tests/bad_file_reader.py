"""Reads bad files in a process of its own: what each costs is measured, and a crash or a hang fails one test run only.

`python bad_file_reader.py FOLDER` makes every case of `bad_files` in turn below FOLDER, reads it as the service would,
and prints one JSON line a case: how it ended, and what it cost.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

from bad_files import CASES, READS, UNSEEN, Bad
from cellvigil import config
from cellvigil.data import FileStat, FrameFiles, FrameKey, Slice
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources.intake import take
from cellvigil.sources.read import read_frame
from cellvigil.sources.registry import format_of
from source_files import make_source

LIMITS = config.Limits()
PATTERN = r"(?P<well>[A-Z]+\d+)_t(?P<time>\d+)"
MOST_S = 30


def source_of(kind: str, root: Path) -> config.Source:
    return make_source(root, kind, **({"pattern": PATTERN, "pixel_size_um": 0.3} if kind == "plain" else {}))


def outcome(bad: Bad, root: Path) -> tuple[str, str]:
    """How the case ends: a reason (also of a NotYet, in the end), READS or UNSEEN; and the message."""
    source = source_of(bad.source, root)
    fmt = format_of(source, LIMITS)
    told = (root / bad.name).lstat()
    stat = FileStat(bad.name, told.st_size, told.st_mtime_ns)
    try:
        parts = take(fmt, root, stat)
        for part, seen in parts:
            files = FrameFiles(
                FrameKey("scope", "e", "p", seen.well, seen.field, 0), (Slice(seen.channel, seen.z, part),)
            )
            read_frame(files, fmt, source, LIMITS)
    except BadFile as error:
        return error.reason, str(error)
    except NotYet as error:
        return error.becomes, str(error)
    return (READS if parts else UNSEEN), ""


def peak_mb() -> float:
    """The most memory since `forget_peak`."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split("VmHWM:")[1].split()[0]) / 1000


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _too_long(*_: object) -> None:
    raise KeyboardInterrupt("it takes too long")


def main(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    signal.signal(signal.SIGALRM, _too_long)
    for number, (case, bad) in enumerate(CASES.items()):
        root = folder / f"{number:03d}"
        root.mkdir(parents=True)
        bad.write(root / bad.name)
        forget_peak()
        before, start = peak_mb(), time.monotonic()
        signal.alarm(MOST_S)
        try:
            ended, said = outcome(bad, root)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is, the next case is tried
            ended, said = f"crash: {error!r:.200}", traceback.format_exc()
        signal.alarm(0)
        cost = {"seconds": round(time.monotonic() - start, 3), "mb": round(peak_mb() - before, 1)}
        print(json.dumps({"case": case, "ended": ended, "said": said, **cost}), flush=True)
        if not (root / bad.name).is_dir():
            (root / bad.name).unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
