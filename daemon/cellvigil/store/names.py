"""Names from files made safe as file names: reversible, never able to leave the store. Pure.

A segment keeps letters, digits, `-`, `_`, `.` and inner spaces; every other byte of its UTF-8 becomes `~XX`. So does a
leading dot or space (hidden files and `..` cannot arise), a trailing dot or space, and the first letter of a name that
some system reserves (CON, NUL, ...). An empty name is `~-`. A name too long for a file name keeps its head, then `~~`
and 32 hex digits of its sha256; the journal holds every name in full.
"""

from __future__ import annotations

import hashlib
import re

LONGEST = 120
"""Bytes of a segment; file systems allow 255, and ".zarr" and temporary names need room."""

_KEPT = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_. ")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_USUAL_WELL = re.compile(r"([A-Za-z]{1,8})([0-9]{1,8})", re.ASCII)
_ODD_ROW = "0"


def segment(name: str) -> str:
    """One path segment for any text: see the file's docstring. Different short names give different segments."""
    raw = name.encode("utf-8", "surrogateescape")
    if not raw:
        return "~-"
    last = len(raw) - 1
    guarded = {0} if _RESERVED.fullmatch(name) or raw[0] in b". " else set()
    guarded |= {last} if raw[last] in b". " else set()
    text = "".join(
        chr(byte) if byte in _KEPT and place not in guarded else f"~{byte:02X}" for place, byte in enumerate(raw)
    )
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 34]}~~{hashlib.sha256(raw).hexdigest()[:32]}"


def original(text: str) -> str | None:
    """The name that `segment` made `text` from; None where it was too long to keep (the journal knows it)."""
    if text == "~-":
        return ""
    if "~~" in text:
        return None
    raw = re.sub(rb"~([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode())
    return raw.decode("utf-8", "surrogateescape")


def readable(name: str) -> str:
    """The name as text that every reader takes: bytes that were no UTF-8 show as "?"."""
    return name.encode("utf-8", "replace").decode()


def row_and_column(well: str) -> tuple[str, str]:
    """The plate's row and column of a well, as OME-Zarr wants them: letters and digits only.

    Letters followed by digits split there: A1 -> (A, 1), AF48 -> (AF, 48), pos3 -> (pos, 3). Any other name stands in
    a row of its own, "0" (which no split name can have), its column the name with every byte but ASCII letters (save
    Z) and digits as Z and two hex digits; a very long one ends in a hash, as a segment does.
    """
    if usual := _USUAL_WELL.fullmatch(well):
        return usual[1], usual[2]
    raw = well.encode("utf-8", "surrogateescape")
    column = "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 and byte != 0x5A else f"Z{byte:02X}" for byte in raw
    )
    if len(column) > LONGEST:
        column = f"{column[: LONGEST - 34]}ZZ{hashlib.sha256(raw).hexdigest()[:32]}"
    return _ODD_ROW, column or "Z"
