"""What lies in a plate's folder, held against what its journal names. Touches that folder and `.orphans`.

Removes unfinished temporary files and chunks that retention has dropped already (a crash kept it from deleting them);
moves aside every other chunk that no line names, and whole fields without a committed frame; tells what is not there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cellvigil.ledger import TIERS
from cellvigil.store.commit import TEMPORARY
from cellvigil.store.named import Named, Place
from cellvigil.store.plate import Plate, chunk_name, is_derived, tier_of


@dataclass(slots=True, eq=False)
class Swept:
    """What was found."""

    temporaries: int = 0  # unfinished files, removed
    orphans: int = 0  # chunks or whole fields without a journal line, moved aside
    dropped: int = 0  # chunks of dropped tiers, removed
    missing: int = 0  # chunks that the journal names and that are not there; none that can be made again
    derived: list[tuple[Place, str]] = field(default_factory=list)  # reduced levels that are not there, and their array


def sweep(folder: Path, aside: Path, plate: Plate, named: Named) -> Swept:
    """Go through a plate's folder; what is moved goes below `aside`. Raises OSError."""
    swept = Swept()
    gone = {tier: {t for t, tiers in plate.dropped.items() if tier in tiers} for tier in TIERS}
    lost = named.lost(plate)
    paths = {one.path for one in plate.fields.values()}
    rows = _folders(folder)
    wells = [well for row in rows for well in _folders(row)]
    for level in (folder, *rows, *wells):
        for name in _names(level):
            if name.startswith(TEMPORARY):
                _remove(level / name)
                swept.temporaries += 1
    there = {path.relative_to(folder).as_posix() for well in wells for path in _folders(well)}
    for path in sorted(there - paths):
        _move(folder / path, aside / path)
        swept.orphans += 1
    for path in sorted(paths):
        arrays = named.arrays(path)
        for place, array in _sweep_field(folder / path, aside / path, arrays, gone, swept):
            if (one := Place(path, place)) in lost:
                continue
            if is_derived(array):
                swept.derived.append((one, array))
            else:
                swept.missing += 1
    return swept


def _sweep_field(
    folder: Path, aside: Path, arrays: dict[str, set[int]], gone: dict[str, set[int]], swept: Swept
) -> list[tuple[int, str]]:
    """Put away what should not be there; returns what should be there and is not: slot and array."""
    absent: list[tuple[int, str]] = []
    for array, slots in arrays.items():
        # Sets of names, and a Path only for what is strange: a store of 100,000 frames has 700,000 chunks.
        there = set(_names(folder / array))
        there.discard("zarr.json")
        wanted = _chunk_names(chunk_name(array, 0).removeprefix("c.0"), frozenset(slots - gone[tier_of(array)]))
        if there == wanted:
            continue
        for name in there - wanted:
            _tidy(folder / array / name, aside / array / name, gone[tier_of(array)], swept)
        absent += [(_slot(name), array) for name in wanted - there]
    for array, name in _elsewhere(folder, "", arrays):
        _tidy(folder / array / name, aside / array / name, gone[tier_of(array)], swept)
    return absent


@lru_cache(maxsize=16)  # most fields have the same
def _chunk_names(tail: str, slots: frozenset[int]) -> frozenset[str]:
    return frozenset([f"c.{slot}{tail}" for slot in slots])


def _tidy(path: Path, aside: Path, gone: set[int], swept: Swept) -> None:
    """Put away one name that should not be there, if it is ours."""
    if path.name.startswith(TEMPORARY):
        _remove(path)
        swept.temporaries += 1
    elif path.name.startswith("c.") and _slot(path.name) in gone:
        _remove(path)
        swept.dropped += 1
    elif path.name.startswith("c."):
        _move(path, aside)
        swept.orphans += 1


def _elsewhere(folder: Path, inside: str, known: dict[str, set[int]]) -> Iterator[tuple[str, str]]:
    """Temporary files and chunks of a field that lie in none of its arrays: array and name."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        below = f"{inside}/{entry.name}" if inside else entry.name
        if entry.is_dir(follow_symlinks=False):
            if below not in known:
                yield from _elsewhere(folder / entry.name, below, known)
        elif entry.name.startswith((TEMPORARY, "c.")):
            yield inside, entry.name


def _slot(name: str) -> int:
    part = name.split(".")[1]
    return int(part) if part.isdecimal() else -1


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names, and no Path for each of 700,000
    except FileNotFoundError:
        return []


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as found:
        return sorted(Path(entry.path) for entry in found if entry.is_dir() and not entry.name.startswith(TEMPORARY))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(free_name(target))


def free_name(path: Path) -> Path:
    """`path`, or the first of `path`.1, .2, ... that is not there yet."""
    number = 0
    while (candidate := path.with_name(f"{path.name}.{number}") if number else path).exists():
        number += 1
    return candidate
