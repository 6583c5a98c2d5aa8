"""The short forms of `make torture`: the whole service is killed, starved, cut off and confused, and loses nothing.

Each runs `benchmarks/torture.py` as a process of its own: it forks services, and a process that forks has no threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TORTURE = Path(__file__).parents[2] / "benchmarks" / "torture.py"
UNABLE = 3  # its exit code where this machine cannot do it


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoder, index and pictures: made by the first run, used by all."""
    return tmp_path_factory.mktemp("torture") / "parts"


@pytest.fixture
def torture(parts: Path, tmp_path: Path) -> Any:
    """Run one torture; returns its findings."""

    def run(*arguments: str) -> dict[str, Any]:
        out = tmp_path / "found.json"
        command = [sys.executable, str(TORTURE), "--work", str(tmp_path), "--parts", str(parts), *arguments]
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False)
        if done.returncode == UNABLE:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found

    return run


def test_kill_9_at_random_instants_loses_doubles_and_tears_nothing(torture):
    found = torture("kills", "--count", "25", "--seed", "7")
    assert found["account"]["committed"] == found["account"]["written"] >= 10
    assert found["account"]["cells_journal"] == found["account"]["cells_features"] > 0
    assert found["onlooker"]["validations"] > 0
    assert found["onlooker"]["frames_read"] == found["account"]["committed"]


def test_any_system_call_that_writes_may_fail(torture):
    found = torture("syscalls", "--sample", "4", "--limits", "1", "--seed", "7")
    assert found["faults"] == 4
    assert found["injected"] >= 2
    assert found["calls"]["finish"]["fsync"] > 20


def test_a_full_disk_costs_time_and_no_frame(torture):
    found = torture("full", "--ways", "in_mid_run", "--cycles", "1", "--seed", "7")
    assert found["in_mid_run"]["account"]["whole"]


def test_a_share_that_goes_away_costs_time_and_no_frame(torture):
    found = torture("share", "--kinds", "gone,ESTALE,stale_listing", "--times", "1", "--burst", "60", "--seed", "7")
    assert found["account"]["committed"] > 60


def test_sigterm_drains_at_any_moment(torture):
    assert torture("sigterm", "--count", "4", "--seed", "7")["longest_drain_s"] < 10


def test_a_second_service_on_one_store_is_refused_by_whatever_path(torture):
    assert torture("two")["exit_codes_of_the_second"] == {"same": 1, "link": 1, "dots": 1}


def test_a_clock_that_jumps_an_hour_costs_nothing(torture):
    found = torture("clock", "--jumps", "2", "--seed", "7")
    assert len(set(found["offsets_s"])) > 1
