"""What is kept of a source's fits, in `state_dir`/aligned/SOURCE: a restart takes the last one up, and makes none anew.

    1/          the aligned index that the first fit made, 2/ the second's, ...: kept, since records name them
    1.csv       the frames that it was fitted on        1.log       what the fit said
    kept.json   the fit that is in force; a numbered folder beyond it was never used
    failed.json the last one that failed                asked.json  that a person asked for a new one, and when

Files are replaced whole. Only the service writes, but for asked.json, which the command writes.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cellvigil.data import FrameKey
from cellvigil.errors import StoreError, StoreFull, store_failure
from cellvigil.journal import fsync_path
from cellvigil.store.commit import replace_file
from cellvigil.store.lines import utc
from cellvigil.store.names import readable

KEPT, FAILED, ASKED = "kept.json", "failed.json", "asked.json"
_COLUMNS = ("source", "experiment", "plate", "well", "field", "timepoint", "revision")

Kind = TypeVar("Kind", "Kept", "Failed")


@dataclass(frozen=True, slots=True)
class Kept:
    """The fit that is in force."""

    number: int
    sha256: str  # of the aligned index
    basis: Mapping[str, Any]  # what it was fitted for: see `fit_basis.basis_of`
    at: str  # ISO 8601, UTC
    cells: int  # that it was fitted on
    answers: str = ""  # when it was asked for; "" = it was the first, and nobody asked
    hold: Mapping[str, Any] = field(default_factory=dict)  # see `straying.Hold`


@dataclass(frozen=True, slots=True)
class Failed:
    """The last fit that failed, after the one in force."""

    attempts: int  # in a row, for this basis and this asking
    cells: int  # that it had
    why: str
    basis: Mapping[str, Any]
    answers: str = ""


class Fits:
    """The folder of one source. Not safe for threads."""

    def __init__(self, state_dir: Path, source: str) -> None:
        self.folder = state_dir / "aligned" / source

    def kept(self) -> Kept | None:
        """The fit in force; None before the first. Raises StoreError."""
        return self._read(KEPT, Kept)

    def failed(self) -> Failed | None:
        """The last one that failed since. Raises StoreError."""
        return self._read(FAILED, Failed)

    def asked(self) -> str:
        """When a person last asked for a new fit, ISO 8601; "" = nobody did. Raises StoreError."""
        return str(self._plain(ASKED).get("at", ""))

    def ask(self, now: datetime) -> str:
        """Ask for a new fit; returns the moment it is known by. `now`: aware. Raises StoreError (StoreFull)."""
        self._write(ASKED, {"at": utc(now)})
        return utc(now)

    def bundle(self, number: int) -> Path:
        """Where the aligned index of a fit is."""
        return self.folder / str(number)

    def table(self, number: int) -> Path:
        """Where the frames of a fit are named."""
        return self.folder / f"{number}.csv"

    def log(self, number: int) -> Path:
        """Where a fit says what it has to say."""
        return self.folder / f"{number}.log"

    def prepare(self, frames: Iterable[tuple[FrameKey, int]], needs: int = 0) -> int:
        """Name the frames (and their revisions) of the next fit; returns its number. What a fit left that was cut off
        before it was in force is deleted. Raises StoreError; StoreFull also where less than `needs` bytes are free, so
        that a fit does not fail, and count as one that failed, for want of room.
        """
        kept = self.kept()
        number = 1 + (kept.number if kept else 0)
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(_COLUMNS)
        for key, revision in frames:
            names = map(readable, (*key.series, key.well, key.field))
            table.writerow([*names, key.timepoint, revision])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in (self.bundle(number), *self.folder.glob(f".{number}.*")):
                if left.exists():
                    shutil.rmtree(left)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise store_failure("a fit cannot be prepared", error, where=self.folder) from error
        if free < needs:
            what = f"{free / 1e6:.0f} MB free, and the aligned index may take {needs / 1e6:.0f} MB"
            raise StoreFull(what, where=self.folder, hint="free some space on that disk; then the fit begins by itself")
        replace_file(self.table(number), text.getvalue().encode())
        return number

    def keep(self, kept: Kept) -> None:
        """From now on this fit is in force. Raises StoreError (StoreFull)."""
        self._write(KEPT, asdict(kept))
        (self.folder / FAILED).unlink(missing_ok=True)

    def fail(self, failed: Failed) -> None:
        """Note that a fit failed. Raises StoreError (StoreFull)."""
        self._write(FAILED, asdict(failed))

    def _read(self, name: str, kind: type[Kind]) -> Kind | None:
        values = self._plain(name)
        try:
            return kind(**values) if values else None
        except TypeError as error:
            hint = "delete it: the source is fitted anew"
            raise StoreError(f"it is not what it should be: {error}", where=self.folder / name, hint=hint) from None

    def _plain(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StoreError(
                f"it cannot be read: {error}", where=path, hint="delete it: the source is fitted anew"
            ) from None
        return values if isinstance(values, dict) else {}

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(self.folder / name, (json.dumps(values, indent=1) + "\n").encode())
            fsync_path(self.folder)
        except OSError as error:
            raise store_failure("what is known of a fit cannot be kept", error, where=self.folder / name) from error
