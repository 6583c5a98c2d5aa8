"""A plate as a crash left it, made whole again at opening: what is committed stays, what is not is moved aside.

Touches one plate's folder and the store's `.orphans`; removes only unfinished temporary files, and moves everything
else. The rules are those of reference/store.md: a bad last line is cut (its bytes kept among the orphans), a bad line
in the middle is skipped and told, a chunk without a journal line is an orphan, and every zarr.json can be made again
from the journal.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cellvigil.errors import StoreError
from cellvigil.journal import Journal, Line, open_journal
from cellvigil.store.commit import TEMPORARY, replace_file
from cellvigil.store.layout import Geometry
from cellvigil.store.plate import Field, Plate, geometry_of

JOURNAL = "journal.jsonl"
ORPHANS = ".orphans"
FORMAT = 1
"""Of the journal and the layout; a plate of a later one is not touched."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening one plate had to mend."""

    plate: Path  # the plate's folder
    cut_bytes: int  # of a bad last journal line
    skipped_lines: tuple[int, ...]  # numbers (from 1) of bad journal lines before the last
    orphans: int  # chunks (or whole fields) without a journal line, moved under `.orphans`
    temporaries: int  # unfinished files, removed
    documents: int  # zarr.json files written anew

    @property
    def clean(self) -> bool:
        """Whether there was nothing to mend."""
        return not (self.cut_bytes or self.skipped_lines or self.orphans or self.temporaries or self.documents)


@dataclass(frozen=True, slots=True)
class Opened:
    """One plate, ready to be written."""

    folder: Path
    journal: Journal
    plate: Plate
    recovery: Recovery


def plate_folders(store: Path) -> list[Path]:
    """Every plate's folder in a store: <source>/<experiment>/<plate>.zarr with a journal in it."""
    return sorted(path.parent for path in store.glob(f"[!.]*/[!.]*/[!.]*.zarr/{JOURNAL}"))


def recover(store: Path, folder: Path, take: Callable[[Line], object]) -> Opened:
    """Open one plate and mend what a crash left; `take` is given every good journal line.

    Raises StoreError if the disk does not let it.
    """
    aside = store / ORPHANS / folder.relative_to(store)
    plate = Plate()

    def apply(line: Line) -> None:
        if line.get("format", FORMAT) > FORMAT:
            hint = "open it with the version that wrote it, or a newer one"
            raise StoreError(f"the plate has format {line['format']}, this is {FORMAT}", where=folder, hint=hint)
        plate.apply(line)
        take(line)

    try:
        journal, found = open_journal(folder / JOURNAL, apply)
        if found.torn:
            aside.mkdir(parents=True, exist_ok=True)
            _free_name(aside / f"{JOURNAL}.cut").write_bytes(found.torn)
        temporaries, orphans = _sweep(folder, aside, plate)
        documents = _mend_documents(folder, plate)
    except OSError as error:
        raise StoreError(f"the plate cannot be recovered: {error.strerror}", where=folder) from error
    recovery = Recovery(folder, len(found.torn), found.bad, orphans, temporaries, documents)
    return Opened(folder, journal, plate, recovery)


def _sweep(folder: Path, aside: Path, plate: Plate) -> tuple[int, int]:
    """Remove what is unfinished, move aside what no journal line names; how many of each."""
    fields = {one.path: one for one in plate.fields.values()}
    temporaries = orphans = 0
    for path in _strange(folder, fields):
        if not path.name.startswith(TEMPORARY):
            _move(path, aside / path.relative_to(folder))
            orphans += 1
        else:
            path.unlink()
            temporaries += 1
    return temporaries, orphans


def _strange(folder: Path, fields: dict[str, Field]) -> Iterator[Path]:
    """What no journal line accounts for: temporary files, chunks of uncommitted slots, folders of unknown fields."""
    rows = _folders(folder)
    wells = [well for row in rows for well in _folders(row)]
    for level in (folder, *rows, *wells):
        yield from (Path(entry.path) for entry in _entries(level) if entry.name.startswith(TEMPORARY))
    for well in wells:
        for path in _folders(well):
            one = fields.get(path.relative_to(folder).as_posix())
            yield from [path] if one is None else _strange_in_field(path, one)


def _strange_in_field(folder: Path, one: Field) -> Iterator[Path]:
    # Sets of names, and a Path only for what is strange: a store of 100,000 frames has 700,000 chunks.
    expected = {"zarr.json"}
    for slot in one.committed:
        expected |= {f"c.{slot}.0.0", f"c.{slot}.0.0.0"}
    for parent, _, names in os.walk(folder):
        for name in set(names) - expected:
            if name.startswith((TEMPORARY, "c.")):
                yield Path(parent, name)


def _folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if entry.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return list(found)


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(_free_name(target))


def _free_name(path: Path) -> Path:
    number = 0
    while (candidate := path.with_name(f"{path.name}.{number}") if number else path).exists():
        number += 1
    return candidate


def _mend_documents(folder: Path, plate: Plate) -> int:
    """Write every zarr.json anew that is not as the journal says it must be; how many."""
    if not plate.fields:
        return 0
    plate.geometry = plate.geometry or _geometry_shown(folder, plate)
    plate.times = max(_times_shown(folder / one.path) for one in plate.fields.values())
    plate.listed = {one.path for one in plate.fields.values()}
    mended = 0
    for one in plate.fields.values():
        mended += sum(_mended(folder / one.path / name, data) for name, data in plate.field_files(one).items())
    return mended + sum(_mended(folder / name, data) for name, data in plate.listing_files().items())


def _times_shown(field: Path) -> int:
    try:
        return int(json.loads((field / "0" / "zarr.json").read_bytes())["shape"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return 0  # lost or damaged: another field tells, and it is written anew below


def _geometry_shown(folder: Path, plate: Plate) -> Geometry:
    """The geometry as the fields' documents have it, where its journal line is lost. Raises StoreError."""
    for one in plate.fields.values():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads((folder / one.path / "zarr.json").read_bytes())
            return geometry_of(document["attributes"]["cellvigil"]["geometry"])
    hint = "move this plate out of the store; its frames will be done again"
    raise StoreError("neither the journal nor any field says how large an image is", where=folder, hint=hint)


def _mended(folder: Path, data: bytes) -> bool:
    path = folder / "zarr.json"
    try:
        if path.read_bytes() == data:
            return False
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)
    return True
