"""What the ledger knows of one series beside its frames and files. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cellvigil.data import Baseline
from cellvigil.ledger.design import Design
from cellvigil.ledger.values import TIERS, Shift


@dataclass(slots=True, eq=False)
class Book:
    """What is known of one series."""

    number: int = 0  # of the series
    wells: dict[str, dict[int, int]] = field(default_factory=dict)  # well -> timepoint -> last row of that place
    fields: dict[str, set[str]] = field(default_factory=dict)
    baseline: tuple[int, Baseline] | None = None
    design: tuple[int, Design] | None = None  # with the seq of the line that told it
    shifts: dict[tuple[str, int], dict[str, tuple[int, Shift]]] = field(default_factory=dict)
    """(well, timepoint) -> field -> what the newest line says of it, and that line's seq."""
    called: tuple[int, str] = (-1, "")  # seq of the newest calls, and the index that made them
    ordinals: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)  # -> (seq, timepoint)
    sizes: dict[int, list[int]] = field(default_factory=dict)  # slot -> bytes by tier, in the order of TIERS
    newest: dict[int, int] = field(default_factory=dict)  # slot -> last commit, microseconds since 1970
    last: tuple[int, int] = (-1, -1)  # seq of the newest frame line, and its row
    dropped: dict[int, frozenset[str]] = field(default_factory=dict)  # slot -> tiers that are gone

    def weigh(self, line: Mapping[str, Any]) -> None:
        """Add what a line left on the disk to its slot."""
        sizes = self.sizes.get(line["t"])
        if sizes is None:
            sizes = self.sizes[int(line["t"])] = [0] * len(TIERS)
        for tier, size in line.get("bytes", {}).items():
            if tier in TIERS:
                sizes[TIERS.index(tier)] += int(size)
