"""Tells the service's supervisor how it is, and keeps when it last was well. Sends to one socket, if there is one.

The protocol is systemd's sd_notify(3): datagrams to the address in NOTIFY_SOCKET. WATCHDOG=1 is sent by a token that
came through every thread, never by a timer: a thread that hangs takes the beats away, and systemd restarts the service.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from prometheus_client import Gauge

from cellvigil.service.log import LOGGER

WATCHDOG_S = 600
"""WatchdogSec of the units in systemd/: after so long without a beat the service is started again."""


class Supervisor:
    """Whoever started us and wants to be told; nobody, where NOTIFY_SOCKET is not set."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # @ stands for the abstract space

    def tell(self, **states: str) -> None:
        """Send states, e.g. READY="1". What cannot be sent is not worth the service: it is told of in the log."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in states.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(1.0)
                channel.sendto(message.encode(), self._address)
        except OSError as error:
            LOGGER.warning("the supervisor cannot be told", extra={"what": message, "why": str(error)})


class Pulse:
    """When a token, or a frame, last came through every queue. Any thread may beat and ask."""

    def __init__(
        self,
        heartbeat: Gauge,
        supervisor: Supervisor,
        *,
        status: Callable[[], str] = lambda: "working",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._heartbeat = heartbeat
        self._supervisor = supervisor
        self._status = status  # one line for a person, sent with each beat
        self._clock = clock  # monotonic: the wall clock may jump by hours
        self._at = clock()

    @property
    def age_s(self) -> float:
        """Seconds since the last beat."""
        return self._clock() - self._at

    def beat(self) -> None:
        """It came through: the gauge and the supervisor learn of it."""
        self._at = self._clock()
        self._heartbeat.set_to_current_time()
        self._supervisor.tell(WATCHDOG="1", STATUS=self._status())
