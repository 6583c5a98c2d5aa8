"""What the supervisor is told, on a real socket, by a real service; and that a stage that hangs is not healthy."""

import json
import socket
import time
import urllib.error
from pathlib import Path

import pytest
from prometheus_client import Gauge

from cellvigil.service.notify import Pulse, Supervisor
from lab import Lab

HINDERED = str(Path(__file__).with_name("hindered.py"))


class Listener:
    """A supervisor's end of NOTIFY_SOCKET."""

    def __init__(self, channel):
        self._channel = channel
        self.heard: list[str] = []

    def lines(self) -> list[str]:
        """Every state heard so far."""
        self._channel.setblocking(False)
        while True:
            try:
                self.heard += self._channel.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.heard

    def beats(self) -> int:
        return self.lines().count("WATCHDOG=1")


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        yield Listener(channel)


def test_the_supervisor_hears_when_it_is_ready_that_it_works_and_when_it_stops(lab: Lab, listener, tmp_path):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    lab.film(timepoints=1)
    with lab.service(program=(HINDERED, "beat"), environment=environment) as service:
        service.wait_for(lambda: service.committed() == 2)
        before = listener.beats()
        service.wait_for(lambda: listener.beats() >= before + 3)  # with nothing to do, too
        assert service.terminate() == 0
    said = [line for line in listener.lines() if not line.startswith(("WATCHDOG=", "STATUS="))]
    assert said == ["READY=1", "STOPPING=1"]


def test_a_stage_that_hangs_takes_the_beats_away_while_the_metrics_answer(lab: Lab, listener, tmp_path):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    lab.film(timepoints=4)
    with lab.service(program=(HINDERED, "soon,stale"), environment=environment) as service:
        service.wait_for(lambda: "HELD" in service.log.read_text())

        def silent() -> bool:  # what is past the stage still makes it beat
            before = listener.beats()
            time.sleep(1.5)  # three beats' time
            return listener.beats() == before > 0 and not healthy(service)

        service.wait_for(silent, 25)
        assert service.value("cellvigil_device_info", provider="cpu") == 1
        service.process.terminate()
        assert service.process.wait(10) == 0


def healthy(service) -> bool:
    try:
        return bool(json.loads(service.get("/healthz"))["ok"])
    except urllib.error.HTTPError as error:
        error.close()
        return error.code != 503


def test_an_address_in_the_abstract_space_is_understood():
    name = f"cellvigil-test-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0{name}")
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}).tell(READY="1", STATUS="watching")
        channel.settimeout(5)
        assert channel.recv(4096) == b"READY=1\nSTATUS=watching"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_nobody_who_listens_is_no_trouble(environment):
    Supervisor(environment).tell(READY="1")


def test_the_pulse_goes_by_the_monotonic_clock(monkeypatch):
    now = [100.0]
    heartbeat = Gauge("heartbeat", "when", registry=None)
    pulse = Pulse(heartbeat, Supervisor({}), clock=lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: -(10.0**9))  # whatever the wall clock says
    assert pulse.age_s == 0
    now[0] += 50
    assert pulse.age_s == 50
    pulse.beat()
    assert pulse.age_s == 0
