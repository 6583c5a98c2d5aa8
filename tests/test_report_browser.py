"""A report in headless Chromium: not one message in the console, and what it would say if there were a fault."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cellvigil_indexes.report.write import write_report
from report_fixtures import write_reportable

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> str:
    """Chromium's program, from CELLVIGIL_TEST_CHROMIUM or the path."""
    found = os.environ.get("CELLVIGIL_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A report of an index that has everything, hostile class names included."""
    folder = tmp_path_factory.mktemp("browsed")
    index = write_reportable(folder / "all")
    now = datetime(2026, 1, 2, tzinfo=UTC)
    write_report(index, folder / "all.html", projection="pca", now=now, tell=lambda _step: None)
    return folder / "all.html"


def opened(browser: str, page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document as the browser has it in the end, and every message in its console."""
    switches = "--headless=new --no-sandbox --disable-gpu --enable-logging=stderr --virtual-time-budget=5000 --dump-dom"
    run = subprocess.run(
        [browser, *switches.split(), f"--user-data-dir={profile}", page.resolve().as_uri()],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100,
        check=True,
    )
    return run.stdout, re.findall(r":CONSOLE[:(][^\n]*", run.stderr)


def test_a_report_opens_without_a_message(browser, report, tmp_path):
    document, messages = opened(browser, report, tmp_path / "profile")
    assert messages == []
    assert "<title>Reference index all</title>" in document  # and no class name's script has changed it
    assert document.count("<section") == 10
    assert document.count("<svg") >= 10


FAULTS = {
    "a picture from elsewhere": '<img src="https://example.org/a.png" alt="x">',
    "a style sheet from elsewhere": '<link rel="stylesheet" href="https://example.org/a.css">',
    "a script": "<script>document.title = 'changed'</script>",
    "a drawing from elsewhere": '<svg><image href="https://example.org/a.png"/></svg>',
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(fault, browser, report, tmp_path):
    """The control: the same page with one thing that must not be there."""
    broken = tmp_path / "broken.html"
    text = report.read_text(encoding="utf-8")
    broken.write_text(text.replace("<main>", "<main>" + FAULTS[fault], 1), encoding="utf-8")
    document, messages = opened(browser, broken, tmp_path / "profile")
    assert messages
    assert "Content Security Policy" in messages[0]
    assert "changed</title>" not in document


def test_an_error_of_a_script_is_seen(browser, tmp_path):
    """Another control: a page without the policy, whose script fails."""
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>x</title><script>nowhere()</script>", encoding="utf-8")
    _, messages = opened(browser, page, tmp_path / "profile")
    assert any("nowhere is not defined" in message for message in messages)
