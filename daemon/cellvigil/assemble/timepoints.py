"""Which time point of its series a frame is: ordinals, given out once and never changed.

A name's number is the ordinal (less the number that the format begins with). Where a name has none, where dated
folders are merged, or where two dated folders of one plate claim the same number, it is the next free one of the
series, given out in the order of folder and number when first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cellvigil.data import Sighting
from cellvigil.sources.natural import natural_key

Series = tuple[str, str, str]
"""Source, experiment, plate."""

_natural = lru_cache(maxsize=8192)(natural_key)  # few texts, asked for at every look

_MOST_ORDINAL = 99_999  # a larger number is a date or a serial: it orders, but is no ordinal


@dataclass(frozen=True, slots=True)
class Round:
    """One time point of a series, as names tell it."""

    series: Series
    folder: str
    number: int  # -1: `folder` alone tells the time points apart

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key: by series, then folder, then number."""
        return (self.series, _natural(self.folder), self.number)


@dataclass(frozen=True, slots=True)
class Place:
    """Which frame, before its time point has an ordinal."""

    round: Round
    well: str
    field: str

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key: by time, then well, then field."""
        return (*self.round.order, _natural(self.well), _natural(self.field))


def place_of(source: str, sighting: Sighting) -> Place:
    """The frame that an image belongs to."""
    series = (source, sighting.experiment, sighting.plate)
    return Place(Round(series, sighting.folder, sighting.number), sighting.well, sighting.field)


class Timepoints:
    """The ordinals of one source."""

    def __init__(self, first_number: int, *, merged: bool, known: Mapping[tuple[Series, str, int], int]) -> None:
        self._first_number = first_number
        self._merged = merged
        self._ordinals: dict[Round, int] = {}
        self._taken: dict[Series, set[int]] = {}
        self._next: dict[Series, int] = {}  # above every ordinal taken
        for (series, folder, number), ordinal in known.items():
            self.keep(Round(series, folder, number), ordinal)

    def keep(self, round_: Round, ordinal: int) -> None:
        """Take an ordinal that was given out before a restart."""
        self._ordinals[round_] = ordinal
        self._taken.setdefault(round_.series, set()).add(ordinal)
        self._next[round_.series] = max(ordinal + 1, self._next.get(round_.series, 0))

    def known(self, round_: Round) -> int | None:
        """The round's ordinal; None if it has none yet."""
        return self._ordinals.get(round_)

    def of(self, round_: Round) -> tuple[int, str]:
        """The round's ordinal, and a note ("" if there is none) when its own number was taken by another folder."""
        if round_ in self._ordinals:
            return self._ordinals[round_], ""
        wanted = max(round_.number - self._first_number, 0)
        by_name = not self._merged and 0 <= round_.number <= _MOST_ORDINAL
        ordinal = (
            wanted if by_name and wanted not in self._taken.get(round_.series, ()) else self._next.get(round_.series, 0)
        )
        self.keep(round_, ordinal)
        if not by_name or ordinal == wanted:
            return ordinal, ""
        place = f"time {round_.number} of {round_.folder or 'the top folder'}"
        note = f"{place} is there already in {'/'.join(round_.series)}: the series goes on as time point {ordinal}"
        return ordinal, note
