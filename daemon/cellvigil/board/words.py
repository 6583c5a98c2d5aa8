"""Figures and times as people read them. Strings out."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, tzinfo

DASH = "\N{EN DASH}"


def age_text(span: timedelta) -> str:
    """A stretch of time as people say it."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def time_text(at: datetime | float, zone: tzinfo = UTC) -> str:
    """A moment (aware, or seconds since 1970) by the microscope's clock, and in UTC where that is another."""
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    there, utc = moment.astimezone(zone), moment.astimezone(UTC)
    if there.utcoffset() == utc.utcoffset():
        return f"{utc:%Y-%m-%d %H:%M} UTC"
    same_day = there.date() == utc.date()
    return f"{there:%Y-%m-%d %H:%M %Z} ({utc:{'%H:%M' if same_day else '%Y-%m-%d %H:%M'}} UTC)"


def share_text(value: float, low: float, high: float) -> str:
    """A share with its interval, in percent."""
    return _with_interval(value, low, high, ".1%")


def figure_text(value: float, low: float, high: float) -> str:
    """A ratio with its interval."""
    return _with_interval(value, low, high, ".2f")


def _with_interval(value: float, low: float, high: float, how: str) -> str:
    if not math.isfinite(value):
        return DASH
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{value:z{how}}"
    return f"{value:z{how}} ({low:z{how}} to {high:z{how}})"


def natural(text: str) -> tuple[tuple[int, float, str], ...]:
    """A key that sorts "B2" before "B10"."""
    parts = re.split(r"(\d+)", text)
    return tuple((1, float(part), "") if place % 2 else (0, 0.0, part.casefold()) for place, part in enumerate(parts))
