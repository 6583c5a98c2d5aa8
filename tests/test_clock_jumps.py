"""The wall clock of a running service jumps by an hour, forwards and back: nothing waits, nothing is lost."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab import Lab
from test_full_disk import give, held_back, once_each

HINDERED = str(Path(__file__).with_name("hindered.py"))


def faketime() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed")
    return found[0]


@pytest.mark.parametrize("hours", [1, -1])
def test_a_jump_of_an_hour_changes_no_wait_and_loses_nothing(lab: Lab, hours: int):
    clock = lab.root / "clock"
    clock.write_text("+0s")
    environment = {
        "LD_PRELOAD": str(faketime()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    lab.film(timepoints=4, fields=2)
    later = held_back(lab, 3)
    expect = {"expect": {"fields": 3}}  # a field that never comes: time points wait for `frame_timeout_s`
    with lab.service(program=(HINDERED, "beat"), environment=environment, source=expect) as service:
        service.wait_for(lambda: service.committed() == 8)
        clock.write_text(f"{3600 * hours:+d}s")
        give(later)
        service.wait_for(lambda: service.committed() == 16)
        health = json.loads(service.get("/healthz"))
        assert health["ok"]
        assert health["heartbeat_age_s"] < 60
        assert service.value("cellvigil_frame_delay_seconds_sum") < 16 * 120
        assert service.terminate() == 0
    once_each(lab, 16)
    [series] = lab.ledger().series()
    at = [frame.committed_at for frame in lab.ledger().frames(series)]
    assert abs((max(at) - min(at)).total_seconds() - 3600) < 120  # the clock did jump
    assert min(at) > datetime(2020, 1, 1, tzinfo=UTC)
