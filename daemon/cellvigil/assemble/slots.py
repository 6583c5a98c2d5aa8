"""Which of a frame's files are used: one image a channel and slice, raw or derived, and none twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cellvigil.data import FileStat, Sighting, Slice
from cellvigil.sources.natural import natural_key

_STAND_IN = 1 << 30  # rank of a derived image that nobody asked for


@dataclass(frozen=True, slots=True)
class Choice:
    """The files chosen for one frame."""

    slices: tuple[Slice, ...]  # by channel, then z
    derived: dict[str, str]  # the kind ("" = raw) that was chosen for each channel
    notes: tuple[str, ...]  # a line for each file that lost its place to another of its own kind


def rank(derived: str, kinds: tuple[str, ...]) -> int:
    """Which of several kinds of a channel's image is taken, the lowest: those asked for, then raw, then the rest."""
    if derived in kinds:
        return kinds.index(derived)
    return _STAND_IN if derived else len(kinds)


def stands_in(derived: str, kinds: tuple[str, ...]) -> bool:
    """True for a derived image that is used only where no raw one comes."""
    return rank(derived, kinds) == _STAND_IN


def choose(files: Iterable[tuple[FileStat, Sighting]], kinds: tuple[str, ...], *, stand_ins: bool) -> Choice:
    """One file a channel and slice: of the best kind, and of two alike the first by folder depth, then by name.

    `kinds`: the derived images that are asked for; `stand_ins`: whether others may be used where nothing else is.
    """
    usable = [item for item in files if stand_ins or not stands_in(item[1].derived, kinds)]
    best: dict[str, Sighting] = {}
    for _, sighting in usable:
        before = best.setdefault(sighting.channel, sighting)
        if rank(sighting.derived, kinds) < rank(before.derived, kinds):
            best[sighting.channel] = sighting
    taken: dict[tuple[str, int | None], FileStat] = {}
    notes = []
    for stat, sighting in sorted(usable, key=lambda item: _path_order(item[0].path)):
        if rank(sighting.derived, kinds) != rank(best[sighting.channel].derived, kinds):
            continue
        winner = taken.setdefault((sighting.channel, sighting.z), stat)
        if winner is not stat:
            notes.append(f"{stat.path} is left out: {winner.path} is the same image")
    slices = in_order(Slice(channel, z, stat) for (channel, z), stat in taken.items())
    return Choice(slices, {channel: sighting.derived for channel, sighting in best.items()}, tuple(notes))


def in_order(slices: Iterable[Slice]) -> tuple[Slice, ...]:
    """By channel, then slice; an image outside the stack first."""
    return tuple(sorted(slices, key=lambda item: (item.channel, -1 if item.z is None else item.z)))


def depths(slices: Iterable[Slice]) -> dict[str, frozenset[int]]:
    """The slice numbers of each channel that has any."""
    found: dict[str, set[int]] = {}
    for item in slices:
        if item.z is not None:
            found.setdefault(item.channel, set()).add(item.z)
    return {channel: frozenset(numbers) for channel, numbers in found.items()}


def _path_order(path: str) -> tuple[object, ...]:
    return path.count("/"), natural_key(path)
