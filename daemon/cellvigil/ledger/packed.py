"""The ledger's two long lists, packed: a revision of a frame and a file are a fixed record of bytes each. Pure.

A weekend leaves 100,000 frames; as Python objects they cost 1.7 kB each, packed under 0.5 kB (benchmarks/opening.py).
Names are kept once and known by number. Lists only grow, and a record is whole before anything points at it, so one
thread may read while another adds.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from cellvigil.data import FileRef

NONE = -1
"""No row, no slot, no calls."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_T = TypeVar("_T")


def micros(text: str) -> int:
    """Microseconds since 1970 of a time as the journal writes it (ISO 8601, with its zone)."""
    since = datetime.fromisoformat(text) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(since: int) -> datetime:
    """The time, aware, UTC, that is `since` microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=since)


class Numbered(Generic[_T]):
    """Equal values, kept once and known by number."""

    def __init__(self) -> None:
        self._numbers: dict[_T, int] = {}
        self._values: list[_T] = []

    def __getitem__(self, number: int) -> _T:
        return self._values[number]

    def number(self, value: _T) -> int:
        """The number of a value; a new one gets the next."""
        known = self._numbers.get(value)
        if known is None:
            known = len(self._values)
            self._values.append(value)
            self._numbers[value] = known
        return known

    def find(self, value: _T) -> int:
        """The number of a value, or NONE."""
        return self._numbers.get(value, NONE)


class Row(NamedTuple):
    """One revision of one frame; names and lists of names by number."""

    field: int
    revision: int
    before: int  # the row before this of the same well and time; NONE = it is the first
    t: int = NONE  # slot; NONE = its frame line was not read (yet), and what follows up to `files` says nothing
    path: int = 0
    acquired: int = 0  # microseconds since 1970
    committed: int = 0  # microseconds since 1970
    n_cells: int = 0
    edge: int = 0
    outcome: int = 0
    focus: float = 0.0
    tables: int = 0  # a list of names
    channels: int = 0  # a list of names
    first_file: int = 0  # its files stand one after another in `Files`
    files: int = 0  # how many
    seq: int = NONE  # of the calls that stand; NONE = there are none
    bundle: int = 0
    states: int = 0  # a list of names
    counts: int = 0  # where its cells a state begin
    rated: int = 0  # cells that count, with a calibrated probability
    probability: float = 0.0  # sum of theirs, single precision
    tested: int = 0  # cells that count, with a novelty p-value
    novel: int = 0  # those of them with at most 0.1
    typical: int = 0  # those of them with above 0.5
    voted: int = 0  # cells that count, called by several voters
    agreement: float = 0.0  # sum of theirs, single precision
    series: int = 0
    well: int = 0
    timepoint: int = 0
    lost: bool = False


CALLS = slice(Row._fields.index("seq"), Row._fields.index("series"))
"""What a row says of its calls."""

BLANK = Row(0, 0, NONE)
"""A row of which nothing is known but its place."""

_ROW = struct.Struct("<iiiiiqqiiidiiiiqiiiifiiiifiii?")
_IDENTITY = struct.Struct("<iiii")  # the first four of a row


class Frames:
    """Every revision of every frame."""

    def __init__(self) -> None:
        self.names: Numbered[str] = Numbered()
        self.lists: Numbered[tuple[str, ...]] = Numbered()
        self._rows = bytearray()
        self._counts = array("q")

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    def __getitem__(self, number: int) -> Row:
        return Row._make(_ROW.unpack_from(self._rows, number * _ROW.size))

    def __setitem__(self, number: int, row: Row) -> None:
        _ROW.pack_into(self._rows, number * _ROW.size, *row)

    def append(self, row: Row) -> int:
        """Add a row; returns its number."""
        self._rows += _ROW.pack(*row)
        return len(self._rows) // _ROW.size - 1

    def chain(self, last: int) -> Iterator[tuple[int, int, int, int]]:
        """Every row of a well and time from its last one backwards: its number, field, revision and slot."""
        while last != NONE:
            field, revision, before, t = _IDENTITY.unpack_from(self._rows, last * _ROW.size)
            yield last, field, revision, t
            last = before

    def keep_counts(self, counts: Mapping[str, int]) -> tuple[int, int]:
        """Keep cells a state; returns `states` and `counts` of a row."""
        start = len(self._counts)
        self._counts.extend(map(int, counts.values()))
        return self.lists.number(tuple(counts)), start

    def counts(self, row: Row) -> dict[str, int]:
        """Cells a state of a row that has calls."""
        states = self.lists[row.states]
        return dict(zip(states, self._counts[row.counts : row.counts + len(states)], strict=True))


class Kept(NamedTuple):
    """One file as it was when it was read."""

    size: int
    mtime_ns: int
    digest: bytes
    row: int  # of the revision that it went into
    committed: int  # microseconds since 1970
    seq: int  # of the line that tells it


_FILE = struct.Struct("<qq32siqi")


class Files:
    """Every file that was ever read, in the order in which the journal tells them."""

    def __init__(self) -> None:
        self._records = bytearray()
        self._paths: list[str] = []
        self._odd: dict[int, str] = {}  # digests that are no sha256 in lower-case hex

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> Kept:
        return Kept._make(_FILE.unpack_from(self._records, number * _FILE.size))

    def append(self, parts: Sequence[Any], row: int, committed: int, seq: int) -> int:
        """Add a file of a row, read at that time: path, size, mtime_ns and digest, as a line has it. Its number."""
        path, size, mtime_ns, digest = parts
        number = len(self._paths)
        packed = _packed(digest)
        if not packed:
            self._odd[number] = digest
        self._records += _FILE.pack(size, mtime_ns, packed, row, committed, seq)
        self._paths.append(path)
        return number

    def ref(self, number: int) -> FileRef:
        """The file as data."""
        kept = self[number]
        odd = self._odd.get(number)
        return FileRef(self._paths[number], kept.size, kept.mtime_ns, kept.digest.hex() if odd is None else odd)


def _packed(digest: str) -> bytes:
    """The 32 bytes of a sha256 in lower-case hex; b"" for any other text."""
    if len(digest) != 64:
        return b""
    try:
        packed = bytes.fromhex(digest)
    except ValueError:
        return b""
    return packed if packed.hex() == digest else b""
