"""The ledger of a store: what its journals say is done, and the well-by-time table of counts."""

from cellvigil.ledger.book import Ledger
from cellvigil.ledger.values import (
    TIERS,
    CalledBy,
    CommittedFrame,
    FileNote,
    Series,
    Unit,
    WellTime,
    committed_frame,
    shares,
)

__all__ = [
    "TIERS",
    "CalledBy",
    "CommittedFrame",
    "FileNote",
    "Ledger",
    "Series",
    "Unit",
    "WellTime",
    "committed_frame",
    "shares",
]
