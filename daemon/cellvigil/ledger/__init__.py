"""The ledger of a store: what its journals say is done, and the well-by-time table of counts."""

from cellvigil.ledger.book import Ledger
from cellvigil.ledger.values import (
    CalledBy,
    CommittedFrame,
    FileNote,
    Series,
    WellTime,
    committed_frame,
    shares,
)

__all__ = ["CalledBy", "CommittedFrame", "FileNote", "Ledger", "Series", "WellTime", "committed_frame", "shares"]
