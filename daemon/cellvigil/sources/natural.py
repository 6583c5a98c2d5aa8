"""Names in the order a person expects: `t2` before `t10`."""

from __future__ import annotations

import re

_LONGEST = 4000  # digits; Python reads no longer number
_DIGITS = re.compile(r"(\d+)", re.ASCII)


def natural_key(text: str) -> tuple[tuple[str | int, ...], str]:
    """A sort key: runs of digits compare as numbers, the rest without case; the text itself breaks ties."""
    parts = _DIGITS.split(text)
    return tuple(int(part[:_LONGEST]) if i % 2 else part.casefold() for i, part in enumerate(parts)), text
