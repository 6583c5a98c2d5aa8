"""A signal may come at any instant, also while the main thread holds the lock that telling of it needs."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest

from cellvigil.errors import DeviceError
from cellvigil.service.log import LOGGER
from cellvigil.service.pause import Stopped
from cellvigil.service.stopping import Stopping, signals


@pytest.fixture(autouse=True)
def earlier_handlers() -> Iterator[None]:
    """Back where they were: after a signal `signals` keeps its own, since a process that ends needs no others."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_inside_a_wait_does_not_hang(number):
    with signals() as stopping:
        with stopping.wake._cond, stopping.stop._cond:  # as `Event.wait` holds it when it returns
            signal.raise_signal(number)
        assert stopping.stop.wait(5)
        assert stopping.wake.wait(5)
    assert stopping.at is not None


def test_a_signal_while_the_log_is_written_does_not_break_it(caplog: pytest.LogCaptureFixture):
    class Interrupted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "a line":
                signal.raise_signal(signal.SIGTERM)
            lines.append(record.getMessage())

    lines: list[str] = []
    handler = Interrupted()
    LOGGER.addHandler(handler)
    try:
        with signals():
            LOGGER.warning("a line")
    finally:
        LOGGER.removeHandler(handler)
    assert lines[0] == "a line"


def opened(stopping: Stopping) -> None:
    stopping.starts = True
    signal.raise_signal(signal.SIGTERM)


def imported(stopping: Stopping) -> None:
    """As a library whose import is interrupted: it turns whatever comes into an error of its own."""
    try:
        opened(stopping)
    except BaseException as error:
        raise DeviceError("it is installed but does not load") from error


def test_the_first_signal_cuts_short_what_is_being_opened():
    with signals() as stopping, pytest.raises(Stopped):
        opened(stopping)
    assert stopping.stop.is_set()


def test_a_library_that_is_cut_short_while_it_loads_is_no_error():
    with signals() as stopping:
        imported(stopping)
    assert stopping.stop.is_set()


def test_an_error_that_no_signal_made_is_raised():
    with pytest.raises(DeviceError), signals():
        raise DeviceError("no device")
