"""The ledger of a store: what its journals say is done, and the well-by-time table of counts."""

from cellvigil.ledger.book import Ledger
from cellvigil.ledger.design import Design, design_of
from cellvigil.ledger.values import (
    NONE_COMPARED,
    TIERS,
    CalledBy,
    CommittedFrame,
    FieldCounts,
    FileNote,
    Series,
    Shift,
    Unit,
    WellTime,
    called_by,
    committed_frame,
    joined,
    shares,
)

__all__ = [
    "NONE_COMPARED",
    "TIERS",
    "CalledBy",
    "CommittedFrame",
    "Design",
    "FieldCounts",
    "FileNote",
    "Ledger",
    "Series",
    "Shift",
    "Unit",
    "WellTime",
    "called_by",
    "committed_frame",
    "design_of",
    "joined",
    "shares",
]
