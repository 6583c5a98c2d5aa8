"""A spreadsheet saved as CSV, as people make them: its text, its columns, its rows. Reads the one file it is given.

Excel writes a byte order mark or cp1252, a semicolon or a tab where a comma is decimal, and `sep=;` if asked; people
write headers in any case, leave lines empty, and trail separators. All of that is read. What is wrong is collected with
line and column, and told all at once.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cellvigil.errors import UsageError

_T = TypeVar("_T")
_LARGEST = 8_000_000  # bytes; a map of a hundred 1536-well plates has a tenth of it
_TOLD = 40  # wrong cells named in one message
_DELIMITERS = ",;\t"
_SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_WITH_UNIT = re.compile(r"(?P<name>[^\[(]+?)\s*[\[(](?P<unit>[^\])]*)[\])]")


@dataclass(frozen=True, slots=True)
class Line:
    """One row that holds something."""

    number: int  # in the file, from 1
    cells: Mapping[str, str]  # by column, trimmed; "" where blank or where the sheet has no such column


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet whose header is understood."""

    lines: tuple[Line, ...]
    unit: str  # of the column whose header may carry one ("dose [uM]"); "" = the header says none
    delimiter: str  # ",", ";" or a tab


class Wrong(ValueError):
    """A cell that cannot be taken. `str()` says what is wrong and what to do."""


class WrongCells(UsageError):
    """A sheet with cells that cannot be taken. `told` names each by line and column, with what to do."""

    def __init__(self, told: Sequence[str], path: Path) -> None:
        self.told = tuple(told)
        super().__init__("; ".join(told), where=path, hint="mend these cells and save the file again")


class Faults:
    """The wrong cells of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: list[str] = []

    def add(self, line: int, column: str, what: object) -> None:
        """Note one."""
        self._told.append(f"line {line}, column {column}: {what}")

    def __len__(self) -> int:
        return len(self._told)

    def taken(self, line: int, column: str, read: Callable[[], _T]) -> _T | None:
        """What `read` returns; None where it raises Wrong, which is noted."""
        try:
            return read()
        except Wrong as error:
            self.add(line, column, error)
            return None

    def settle(self) -> None:
        """Raise WrongCells if there is any, with all of them."""
        if self._told:
            more = len(self._told) - _TOLD
            told = [*self._told[:_TOLD], *([f"and {more} more"] if more > 0 else [])]
            raise WrongCells(told, self._path)


def read_sheet(path: Path, columns: Mapping[str, Sequence[str]], *, needs: Sequence[str], measured: str = "") -> Sheet:
    """Read a sheet.

    Args:
        path: the CSV file.
        columns: name of each column -> other names that are taken for it; in any case, blank or hyphen for "_".
        needs: the columns that must be there.
        measured: the column whose header may carry a unit, as in "dose_uM" or "dose [uM]".

    Raises UsageError for a file that cannot be read or is no sheet, an unknown or doubled column, or a row that has
    more cells than columns.
    """
    text = _text(path)
    delimiter, text, skipped = _delimiter(text)
    rows = list(_rows(path, text, delimiter, skipped))
    if not rows:
        raise UsageError("the file holds no row", where=path, hint=f"begin with a header: {','.join(columns)}")
    (header_line, header), *body = rows
    names, unit = _header(path, header_line, header, columns, measured)
    if missing := [name for name in needs if name not in names]:
        hint = f"the columns that are known: {', '.join(columns)}"
        raise UsageError(f"the header has no column {missing[0]!r}", where=path, hint=hint)
    faults = Faults(path)
    lines = [Line(number, _cells(number, row, names, columns, faults)) for number, row in body]
    faults.settle()
    return Sheet(tuple(lines), unit, delimiter)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path, hint="see that the path is right") from None
    if len(data) > _LARGEST:
        raise UsageError("the file is far too large for a sheet", where=path, hint="see that the path is right")
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UsageError("this is a workbook, no CSV", where=path, hint='in Excel: "Save as", "CSV UTF-8"')
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")  # what a European Excel means by plain "CSV"
    if "\0" in text or "\ufffd" in text:
        raise UsageError("the file is no text", where=path, hint='in Excel: "Save as", "CSV UTF-8"')
    return text


def _delimiter(text: str) -> tuple[str, str, int]:
    """The delimiter, the text after a line `sep=;`, and how many lines that was."""
    first, _, rest = text.partition("\n")
    if (told := _SEP.fullmatch(first)) and told[1] in _DELIMITERS:
        return told[1], rest, 1
    header = next((line for line in text.splitlines() if line.strip(_DELIMITERS + ' "')), "")
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count), text, 0  # of equals the first: a comma


def _rows(path: Path, text: str, delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each row that is not empty; the number of its first line where a cell holds line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    before = 0
    try:
        for row in reader:
            cells = [" ".join(cell.split()) for cell in row]
            if any(cell.strip(_DELIMITERS) for cell in cells):
                yield before + skipped + 1, cells
            before = reader.line_num
    except csv.Error as error:
        what = f"line {before + skipped + 1}: {error}"
        raise UsageError(what, where=path, hint='a cell that begins with " must end with one') from None


def _header(
    path: Path, number: int, header: Sequence[str], columns: Mapping[str, Sequence[str]], measured: str
) -> tuple[list[str], str]:
    """The column's name by place ("" where the header is blank), and the unit that the header carries."""
    known = {alias: name for name, aliases in columns.items() for alias in (name, *aliases)}
    names: list[str] = []
    if sum(text.isdecimal() for text in header) > 1:
        hint = f"write one line each, under a header: {','.join(columns)}"
        raise UsageError("this looks like a plate drawn as a grid", where=path, hint=hint)
    faults, unit = Faults(path), ""
    for text in header:
        name = known.get(_plain(text), "")
        if text and not name and measured:
            name, unit = _with_unit(text, known, measured, unit)
        if text and not name:
            near = difflib.get_close_matches(_plain(text), known, n=1, cutoff=0.0)
            faults.add(number, text, f"unknown column, did you mean {known[near[0]]!r}? Known are {', '.join(columns)}")
        elif name and name in names:
            faults.add(number, text, f"a second column {name!r}: take one of them away")
        names.append(name)
    faults.settle()
    return names, unit


def _with_unit(text: str, known: Mapping[str, str], measured: str, unit: str) -> tuple[str, str]:
    """The measured column's name and its unit, from a header like "dose_uM" or "Dose [uM]"."""
    if match := _WITH_UNIT.fullmatch(text):
        name, told = _plain(match["name"]), match["unit"].strip()
    else:
        parts = re.split(r"[_\s-]", text, maxsplit=1)
        name, told = _plain(parts[0]), parts[-1].strip() if len(parts) > 1 else ""
    return (measured, told) if told and known.get(name) == measured else ("", unit)


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", "_", text.strip().lower())


def _cells(
    number: int, row: Sequence[str], names: Sequence[str], columns: Mapping[str, Sequence[str]], faults: Faults
) -> dict[str, str]:
    cells = dict.fromkeys(columns, "")
    for place, text in enumerate(row):
        name = names[place] if place < len(names) else ""
        if name:
            cells[name] = text
        elif text:
            what = f"{text!r} stands under no header: name the column, or put a cell that holds a separator in quotes"
            faults.add(number, str(place + 1), what)
    return cells
