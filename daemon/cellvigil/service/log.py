"""The service's log on standard error, as text for a person or as one JSON object a line for a collector."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from cellvigil import config

LOGGER = logging.getLogger("cellvigil")
_PLAIN = set(vars(logging.makeLogRecord({})))


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, event, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {"at": _utc(record), "level": record.levelname.lower(), "event": record.getMessage(), **_extra(record)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """Time, level, event and key=value pairs."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        pairs = "".join(f" {key}={value}" for key, value in _extra(record).items() if value != "")
        line = _one_line(f"{_utc(record)} {record.levelname.lower():7} {record.getMessage()}{pairs}")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(settings: config.Log) -> None:
    """Send the `cellvigil` logger to standard error in the configured form; replaces what an earlier call set up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.format == "json" else TextLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(settings.level.upper())


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {
        key: value for key, value in vars(record).items() if key not in _PLAIN and key not in {"message", "asctime"}
    }


def _one_line(text: str) -> str:
    """The text with what is not visible written out: a file's name may hold a new line, or a terminal's orders."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def _utc(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
