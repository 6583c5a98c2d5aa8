"""A file that kills the process costs itself and two restarts, not the weekend."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cellvigil.data import FileStat
from cellvigil.quarantine import Quarantine
from cellvigil.service.crashes import COUNTS, REPORT, WORKING, Working, judge
from lab import Lab

NOW = datetime(2026, 11, 21, tzinfo=UTC)
STAT = FileStat("a/B1.tif", 100, 5)
HINDERED = Path(__file__).with_name("hindered.py")


def run_once(lab: Lab, hindrance: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HINDERED), hindrance, "once", "--config", str(lab.config_file())]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.parametrize(("hindrance", "frame"), [("fault_first", ("B1", 0)), ("fault_later", ("B1", 1))])
def test_a_file_that_kills_the_process_twice_is_put_aside_and_the_rest_goes_on(lab: Lab, hindrance: str, frame):
    frames = lab.film(timepoints=2)
    codes = [run_once(lab, hindrance).returncode for _ in range(3)]
    assert codes == [-signal.SIGSEGV, -signal.SIGSEGV, 0]
    ledger = lab.ledger()
    done = {(f.key.well, f.key.timepoint) for series in ledger.series() for f in ledger.frames(series)}
    assert len(done) == frames - 1
    assert frame not in done
    [(name, reason)] = lab.quarantined().items()
    assert (name.partition("_")[0], reason) == (frame[0], "crashed")
    [entry] = Quarantine(lab.root / "state" / "quarantine.jsonl").entries()
    assert "Segmentation fault" in entry.message
    assert "faulting" in entry.traceback


def left_behind(state: Path, thread: str, report: str) -> None:
    state.mkdir(exist_ok=True)
    note = json.dumps({thread: ["scope", [["a/B1.tif", 100, 5]]]})
    (state / WORKING).write_text(f"{note}\nrest of a longer line")
    (state / REPORT).write_text(report)


FAULT = "Fatal Python error: Segmentation fault\n\nThread 0x00007f01 (most recent call first):\n  ...\n"


def judged(state: Path) -> list[str]:
    quarantine = Quarantine(state / "quarantine.jsonl")
    judge(state, quarantine, NOW)
    return [entry.path for entry in quarantine.entries()]


def test_the_thread_that_faulted_tells_the_file_and_once_is_not_enough(tmp_path: Path):
    left_behind(tmp_path, "7f01", FAULT.replace("Thread", "Current thread"))
    assert judged(tmp_path) == []
    assert judged(tmp_path) == []  # the report was taken: it is no second fault
    left_behind(tmp_path, "7f01", FAULT)
    assert judged(tmp_path) == ["a/B1.tif"]


@pytest.mark.parametrize(
    ("thread", "report"),
    [
        ("7f01", ""),  # kill -9, or a power cut: nobody had time to report
        ("7f02", FAULT),  # another thread, which worked on no file
        ("7f01", "something else\n" + FAULT),
    ],
)
def test_nobody_is_suspected_without_a_report_of_its_thread(tmp_path: Path, thread: str, report: str):
    for _ in range(3):
        left_behind(tmp_path, thread, report)
        assert judged(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"7f01": 3}', '{"7f01": ["scope", [["a"]]]}', "\0\0\0"])
def test_a_damaged_note_suspects_nobody(tmp_path: Path, text: str):
    for _ in range(3):
        left_behind(tmp_path, "7f01", FAULT)
        (tmp_path / WORKING).write_text(text)
        (tmp_path / COUNTS).write_text(text)
        assert judged(tmp_path) == []


def test_what_a_thread_works_on_stands_in_the_file_while_it_does(tmp_path: Path):
    working = Working(tmp_path)
    with working.on("scope", [STAT]):
        assert '"scope", [["a/B1.tif", 100, 5]]' in (tmp_path / WORKING).read_text().split("\n")[0]
    assert (tmp_path / WORKING).read_text().split("\n")[0] == "{}"
    working.close()
    with working.on("scope", [STAT]):
        pass
