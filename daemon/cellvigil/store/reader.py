"""Reading a store without its lock, while a daemon may be writing it: journals as they stand, never mended here.

A line that is half written is left out; what a whole line names is whole, until retention says otherwise.
"""

from __future__ import annotations

from pathlib import Path

from cellvigil.journal import Line, fold, read
from cellvigil.ledger import Ledger
from cellvigil.store.gone import gone_series
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
    """The ledger of a whole store, deleted plates included. Raises StoreError."""
    ledger = Ledger()
    gone_series(store, ledger.add)
    for folder in plate_folders(store):
        fold(folder / JOURNAL, ledger.add)
    return ledger
