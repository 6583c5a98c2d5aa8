"""Which plates a row of a plate map or of an event list speaks of: its experiment and plate, * and ? match. Pure."""

from __future__ import annotations

import fnmatch

Rank = tuple[tuple[int, int], tuple[int, int]]


def covers(row: tuple[str, str], experiment: str, plate: str) -> bool:
    """Whether a row's (experiment, plate), as written, speak of this plate; a blank one speaks of every one."""
    return _matches(row[0], experiment) and _matches(row[1], plate)


def rank(row: tuple[str, str]) -> Rank:
    """How closely a row's (experiment, plate) name a plate; of two that cover it the higher one holds.

    The experiment decides first, since every microscope calls its plate "Plate 1"; of each, a full name stands above a
    pattern, a longer pattern above a shorter one, and a blank below all.
    """
    return _closeness(row[0]), _closeness(row[1])


def _matches(text: str, name: str) -> bool:
    # "[" means itself: microscopes put brackets into names.
    return not text or text == name or fnmatch.fnmatchcase(name, text.replace("[", "[[]"))


def _closeness(text: str) -> tuple[int, int]:
    if not text:
        return (0, 0)
    literal = len(text) - text.count("*") - text.count("?")
    return (2, 0) if literal == len(text) else (1, literal)
