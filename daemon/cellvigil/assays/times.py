"""Times as people write them, in the clock of the microscope. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cellvigil.assays.sheet import Wrong

_ISO = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[T ]+(?P<hour>\d{1,2}):(?P<rest>\d\d(?::\d\d(?:\.\d{1,6})?)?)"
    r"\s*(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?",
    re.IGNORECASE | re.ASCII,
)
_DOTTED = re.compile(
    r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4}) +(?P<hour>\d{1,2}):(?P<rest>\d\d(?::\d\d)?)", re.ASCII
)
_EXAMPLE = "write it like 2026-11-20 18:05"


def moment(text: str, zone: str) -> datetime:
    """The time, aware, UTC. `zone`: name of the time zone of a time that tells none; "" = UTC.

    Taken are ISO 8601 (with or without an offset) and 20.11.2026 18:05. Raises Wrong for anything else, and for a time
    that the zone's clock shows twice or never.
    """
    if match := _DOTTED.fullmatch(text):
        iso, offset = f"{match['year']}-{match['month']:0>2}-{match['day']:0>2}", ""
    elif match := _ISO.fullmatch(text):
        iso, offset = match["date"], (match["zone"] or "").upper()
    elif re.fullmatch(r"\d{4}-\d\d-\d\d|\d{1,2}\.\d{1,2}\.\d{4}", text, re.ASCII):
        raise Wrong(f"{text!r} has no time of day: {_EXAMPLE}")
    else:
        raise Wrong(f"{text!r} is no time that can be read without guessing: {_EXAMPLE}")
    try:
        found = datetime.fromisoformat(f"{iso}T{match['hour']:0>2}:{match['rest']}{offset}")
    except ValueError as error:
        raise Wrong(f"{text!r} is no time ({error}): {_EXAMPLE}") from None
    if not 1970 <= found.year <= 2200:
        raise Wrong(f"{text!r} is in a year when nobody filmed cells: {_EXAMPLE}")
    return found.astimezone(UTC) if found.tzinfo else _placed(found, zone or "UTC", text)


def _placed(local: datetime, zone: str, text: str) -> datetime:
    """A time of the zone's clock in UTC."""
    first, second = (local.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    if first.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != local:
        raise Wrong(f"{text!r} never was: the clocks of {zone} went forward over it; correct it")
    both = " or ".join(one.isoformat(sep=" ", timespec="minutes") for one in (first, second))
    raise Wrong(f"{text!r} was twice, since the clocks of {zone} went back: write {both}")
