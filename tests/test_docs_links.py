"""Every link of the manual leads somewhere: the file is there, and so is the heading that is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """The text without its code."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in _LINK.findall(prose(page)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_of_the_manual_is_linked_from_another() -> None:
    """One that nothing leads to is not found."""
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in _LINK.findall(prose(page))
        if not link.startswith("http")
    }
    assert set((ROOT / "docs").glob("*.md")) <= linked


def test_a_page_named_in_words_is_there() -> None:
    """Comments, docstrings and messages name pages as docs/NAME.md."""
    places = [ROOT / "config.yaml", *(ROOT / "systemd").iterdir(), *(ROOT / "dashboards").rglob("*.yaml")]
    for folder in ("daemon", "export", "indexes", "dashboards"):
        places += (ROOT / folder).rglob("*.py")
    named = {name for place in [*places, *PAGES] for name in re.findall(r"\bdocs/[\w-]+\.md", place.read_text("utf-8"))}
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()
