"""The page at / in headless Chromium, served by the real door: no message, no overflow, on a phone and in the dark."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, make_wsgi_app

from board_plates import MACHINE, WATCHED, grid, machine, plan_of, plate
from cellvigil import config
from cellvigil import page as door
from cellvigil.board.alerts import alerts_now
from cellvigil.board.page import page
from cellvigil.board.picture import drawn
from cellvigil.board.plate import plate_body
from cellvigil.board.values import LastFrame, colours_of
from cellvigil.events import Event
from lab import Lab
from plate_lines import GROUPS
from store_records import START, key

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LONG = "Plate_2_with_a_name_that_somebody_typed_at_the_microscope_without_a_single_space_in_it_at_all_really"
NOW = START + timedelta(hours=12)
LOOKED_AT = (
    "<script>addEventListener('load', () => parent.postMessage(JSON.stringify("
    + """{
  wide: document.documentElement.scrollWidth - innerWidth,
  width: innerWidth,
  clipped: [...document.querySelectorAll('p, li, h2, figcaption, .well span')]
    .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display == 'block').length,
  outside: [...document.querySelectorAll('.well span, .well b')].filter(e => { const box = e.getBoundingClientRect(),
    around = e.closest('.well').getBoundingClientRect(); return box.width && (box.right > around.right + 1 ||
    box.left < around.left - 1 || box.bottom > around.bottom + 1); }).length,
  shares: [...document.querySelectorAll('.c12 .well span')].filter(e => e.getBoundingClientRect().width > 0).length,
  paper: getComputedStyle(document.body).backgroundColor,
  told: (e => { e.focus(); return getComputedStyle(e, '::after').content; })(document.querySelector('[data-told^=B5]')),
  picture: (i => [i.complete, i.naturalWidth])(document.querySelector('figure img')),
}"""
    + "), '*'))</script>"
)
AROUND = """<!doctype html><meta name="color-scheme" content="light dark"><body style="margin:0">
<script>addEventListener('message', event => document.title = event.data)</script>
<iframe src="page.html" style="border:0;width:%dpx;height:%dpx"></iframe>"""
"""The browser's own window is never narrower than 500 pixels."""


@pytest.fixture(scope="module")
def browser() -> str:
    """Chromium's program, from CELLVIGIL_TEST_CHROMIUM or the path."""
    found = os.environ.get("CELLVIGIL_TEST_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is installed (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def text() -> str:
    """A page with all there can be: 96 and 384 wells, onsets, alerts, a plate that is out, long and odd names."""
    ninety_six = plate(grid(8, 12), plan_of(grid(8, 12), 12), left_out=("C5", "D1"))
    out = Event(START + timedelta(hours=11), "plate_out")
    large = plate(grid(16, 24), plan_of(grid(16, 24), 24), series=("scope", "240302_run", LONG), events=(out,))
    odd = plate(["slide-1", "slide-2 <b>'\"&", "x" * 90], timepoints=2, series=("scope", "240303_run", "slides"))
    kind = {"up": False, "name": "lionheart-2 " + "y" * 60}
    watched = machine(WATCHED, replace(WATCHED, **kind), heartbeat_age_s=900)
    plates = (ninety_six, large, odd)
    last = LastFrame(key(), NOW, "excluded", GROUPS, {"live": 190, "apoptotic": 3, "unknown": 2}, 4)
    alerts = alerts_now(plates, watched, config.Alerts(), NOW)
    assert {alert.severity for alert in alerts} == {"critical", "warning", "info"}
    return page(plates, watched, alerts, last, NOW, body=lambda figures: plate_body(figures, UTC))


def picture() -> bytes:
    """A field of round cells."""
    y, x = np.mgrid[:1224, :904]
    labels = np.zeros(y.shape, np.int32)
    for number in range(1, 60):
        row, column = 60 + 150 * ((number - 1) // 8), 60 + 105 * ((number - 1) % 8)
        labels[(y - row) ** 2 + (x - column) ** 2 < 30**2] = number
    plane = (30_000 + 9_000 * np.sin(x / 9) * np.cos(y / 7) + 4_000 * (labels > 0)).astype(np.uint16)
    states = {number: ("live", "apoptotic", "necrotic", "unknown")[number % 4] for number in range(1, 60)}
    return drawn(plane, labels, states, colours_of((*GROUPS, "unknown"), GROUPS))


class Served:
    """Gives pages an address, at the real door."""

    def __init__(self, stack: ExitStack, text: str) -> None:
        self.text = text
        self._stack = stack

    def at(self, text: str) -> str:
        pages = {
            "/": lambda: ("text/html; charset=utf-8", text.encode()),
            "/frame.jpg": lambda: ("image/jpeg", picture()),
        }
        app = door.application(make_wsgi_app(CollectorRegistry()), lambda: (True, {}), "", pages)
        port = self._stack.enter_context(door.served(app, listen="127.0.0.1", port=0))
        return f"http://127.0.0.1:{port}/"


@pytest.fixture
def served(text: str) -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(stack, text)


def run(browser: str, address: str, profile: Path, *switches: str) -> tuple[str, list[str]]:
    """The document as the browser has it in the end, and every message in its console."""
    always = "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --enable-logging=stderr --dump-dom"
    command = [browser, *always.split(), "--virtual-time-budget=3000", *switches, f"--user-data-dir={profile}", address]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=100, check=True)
    return done.stdout, re.findall(r":CONSOLE[:(][^\n]*", done.stderr)


def test_it_opens_without_a_message(browser: str, served: Served, tmp_path: Path) -> None:
    document, messages = run(browser, served.at(served.text), tmp_path / "profile")
    assert messages == []
    assert "<title>in trouble: Cellvigil</title>" in document
    assert document.count("data-told=") == 96 + 384 + 3
    assert '<meta http-equiv="refresh" content="15">' in document


FAULTS = {
    "a picture from elsewhere": '<img src="https://example.org/a.png" alt="x">',
    "a style sheet from elsewhere": '<link rel="stylesheet" href="https://example.org/a.css">',
    "a script": "<script>document.title = 'changed'</script>",
    "a script of ours": '<script src="/metrics"></script>',
    "a frame": '<iframe src="/"></iframe>',
    "a handler": '<img src="/none" alt="" onerror="document.title = \'changed\'">',
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(fault: str, browser: str, served: Served, tmp_path: Path) -> None:
    """The control: the same page with one thing that must not be there; the door's policy stops it."""
    broken = served.text.replace("<body>", "<body>" + FAULTS[fault], 1)
    document, messages = run(browser, served.at(broken), tmp_path / "profile")
    assert messages
    assert any("Content Security Policy" in message for message in messages)
    assert "changed</title>" not in document


DARK = "--blink-settings=preferredColorScheme=0"


def looked_at(browser: str, text: str, folder: Path, size: tuple[int, int], *switches: str) -> dict[str, object]:
    """What a script finds of the page as a file, where no policy of the door holds the script back."""
    (folder / "around.html").write_text(AROUND % size, encoding="utf-8")
    (folder / "frame.jpg").write_bytes(picture())
    path = folder / "page.html"
    path.write_text(re.sub(r"frame\.jpg\?[^\"]*", "frame.jpg", text).replace("</head>", LOOKED_AT + "</head>"))
    document, _ = run(browser, path.with_name("around.html").as_uri(), folder / "profile", *switches)
    found = re.search(r"<title>(.*?)</title>", document)
    assert found is not None
    return dict(json.loads(found[1]))


SCREENS = {"phone": (390, 844), "tablet": (820, 1180), "laptop": (1280, 720), "desk": (1920, 1080)}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_it_fits_any_screen(screen: str, browser: str, text: str, tmp_path: Path, *, dark: bool) -> None:
    found = looked_at(browser, text, tmp_path, SCREENS[screen], *([DARK] if dark else []))
    assert found["width"] == SCREENS[screen][0]
    assert (found["wide"], found["clipped"], found["outside"]) == (0, 0, 0)
    assert found["shares"] == 96  # every share of a 96-well plate can be read, on a phone too
    assert found["picture"] == [True, 886]
    assert str(found["told"]).startswith('"B5 (')  # a tap selects the well, and its figures come up
    assert found["paper"] == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")


def test_what_does_not_fit_is_seen(browser: str, text: str, tmp_path: Path) -> None:
    """Controls: something too wide, and a share beside its well."""
    wide = text.replace("<body>", '<body><div style="width:900px">x</div>', 1)
    beside = text.replace("</style>", ".well span { margin-right: -3rem; }</style>", 1)
    for name, broken, figure in (("wide", wide, "wide"), ("beside", beside, "outside")):
        (tmp_path / name).mkdir()
        assert looked_at(browser, broken, tmp_path / name, SCREENS["phone"])[figure] != 0


def test_a_quiet_page_fits_a_phone_too(browser: str, tmp_path: Path) -> None:
    last = LastFrame(key(), NOW, "counted", GROUPS, {"live": 1}, 0)
    text = page((plate(["B5"], timepoints=1),), MACHINE, (), last, NOW, body=lambda figures: plate_body(figures, UTC))
    assert looked_at(browser, text, tmp_path, SCREENS["phone"])["wide"] == 0


def test_a_running_service_is_looked_at_without_a_message(browser: str, lab: Lab, tmp_path: Path) -> None:
    lab.film(timepoints=2)
    with lab.service(source={"plate_map": "plate.csv", "events": "events.csv"}) as service:
        service.wait_for(lambda: service.committed() == 4)
        service.tallied()
        document, messages = run(browser, f"{service.address}/", tmp_path / "profile")
    assert messages == []
    assert document.count("data-told=") == 2
    assert "<title>working: Cellvigil</title>" in document
