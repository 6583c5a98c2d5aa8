"""What docs/machine.md types, section by section."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "machine.md"


def commands(heading: str) -> list[str]:
    """The shell lines of one section."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    return "".join(re.findall(r"^```sh\n(.*?)^```", section[1], flags=re.MULTILINE | re.DOTALL)).splitlines()
