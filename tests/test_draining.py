"""SIGTERM in every stage: the service ends within ten seconds, well, and loses and doubles nothing."""

import signal
import time
from pathlib import Path

import pytest

from lab import Lab

HINDERED = str(Path(__file__).with_name("hindered.py"))
FRAMES = 8


def committed(lab: Lab) -> list:
    ledger = lab.ledger()
    return [frame.key for series in ledger.series() for frame in ledger.frames(series)]


def ended_within(service, seconds: float, *, signals: int = 1) -> int:
    """The exit code; the service is killed by the wait's own error if it takes longer."""
    for _ in range(signals):
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    return service.process.wait(seconds)


def finish(lab: Lab, **changes) -> None:
    """A second run does what the first left."""
    before = len(committed(lab))
    with lab.service(**changes) as service:
        service.wait_for(lambda: before + service.committed() == FRAMES)
        assert service.terminate() == 0
    keys = committed(lab)
    assert len(keys) == len(set(keys)) == FRAMES
    assert lab.quarantined() == {}


@pytest.mark.parametrize(
    "what", ["commit", *(f"soon,{stage}" for stage in ("look", "begin", "read", "segment", "embed", "call", "publish"))]
)
def test_a_stage_that_hangs_does_not_hold_up_the_end(lab: Lab, what: str):
    lab.film(timepoints=FRAMES // 2)
    with lab.service(program=(HINDERED, what)) as service:
        service.wait_for(lambda: "HELD" in service.log.read_text())
        assert ended_within(service, 10) == 0
    finish(lab)


def test_what_is_past_the_encoder_is_committed_and_a_second_signal_changes_nothing(lab: Lab):
    lab.film(timepoints=FRAMES // 2)
    with lab.service() as service:
        service.wait_for(lambda: service.committed() >= 1)
        assert ended_within(service, 10, signals=3) == 0
        log = service.log.read_text()
    assert "drained" in log
    assert "store closed" in log
    assert log.count("frame committed") == len(committed(lab)) >= 1
    finish(lab)


def test_a_signal_while_nothing_is_to_be_done_ends_it_at_once(lab: Lab):
    with lab.service() as service:
        assert service.address
        assert ended_within(service, 10) == 0


@pytest.mark.parametrize("stage", ["verify", "load"])
def test_a_signal_while_it_starts_ends_it(lab: Lab, stage: str):
    lab.film(timepoints=FRAMES // 2)
    with lab.service(program=(HINDERED, stage)) as service:
        service.wait_for(lambda: "HELD" in service.log.read_text())
        assert ended_within(service, 10, signals=2) == 0
        assert "serving" not in service.log.read_text()
    finish(lab)
