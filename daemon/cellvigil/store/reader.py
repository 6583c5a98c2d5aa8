"""Reading a store without its lock, while a daemon may be writing it: journals as they stand, never mended here."""

from __future__ import annotations

from pathlib import Path

from cellvigil.journal import Line, fold, read
from cellvigil.ledger import Ledger
from cellvigil.store.recover import JOURNAL, plate_folders


def plate_lines(folder: Path) -> list[Line]:
    """The good journal lines of one plate. Raises StoreError."""
    return read(folder / JOURNAL)


def plate_ledger(folder: Path) -> Ledger:
    """The ledger of one plate. Raises StoreError."""
    ledger = Ledger()
    fold(folder / JOURNAL, ledger.add)
    return ledger


def read_ledger(store: Path) -> Ledger:
    """The ledger of a whole store. Raises StoreError."""
    ledger = Ledger()
    for folder in plate_folders(store):
        fold(folder / JOURNAL, ledger.add)
    return ledger
