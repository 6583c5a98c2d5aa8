"""How labelled cells are chosen and embedded, beside the image rule: what may be asked of any input. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellvigil.errors import UsageError


@dataclass(frozen=True, slots=True)
class Gathering:
    """What is done with the cells of an input on their way to vectors; by default all of them are taken."""

    limit: int | None = None  # cells a class at most
    balance: bool = False  # as many of every class as of the smallest
    seed: int = 0  # of the choice
    drop_duplicates: bool = False  # of near-copies in a class only the first is kept
    skip_bad: bool = False  # images that do not open are left out and told, instead of ending the work
    by_class: bool = True  # limit and near-copies go class by class; False: labels are not looked at
    cache: Path | None = None  # folder of vectors made before; None: every cell is embedded anew

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} leaves no cell")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is below 0")

    @property
    def about(self) -> dict[str, Any]:
        """What was asked for, for a manifest; the cache is none of its business."""
        asked: dict[str, Any] = {"drop_duplicates": self.drop_duplicates, "skip_bad": self.skip_bad}
        asked |= {"limit": self.limit, "balance": self.balance}
        if self.limit or self.balance:
            asked["seed"] = self.seed
        return {name: value for name, value in asked.items() if value or name == "seed"}

    def class_of(self, name: str) -> str:
        """The class that a cell called `name` counts as when cells are chosen."""
        return name if self.by_class else ""

    @property
    def chooses(self) -> bool:
        """Whether cells may be left out, so that they must be known before any is embedded."""
        return self.limit is not None or self.balance or self.drop_duplicates
