"""A plate as a crash left it, made whole again at opening: what is committed stays, what is not is moved aside.

Touches one plate's folder and the store's `.orphans`. The rules are those of reference/store.md: a bad last line is cut
(its bytes kept among the orphans), a bad line in the middle is skipped and told, a chunk without a journal line is an
orphan (`sweep`), every zarr.json (`documents`) and every reduced level (`derived`) can be made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cellvigil.errors import StoreError, store_failure
from cellvigil.journal import Journal, Line, open_journal, parse
from cellvigil.ledger import Series
from cellvigil.store.derived import damaged, make_anew
from cellvigil.store.documents import mend_documents
from cellvigil.store.gone import folder_of
from cellvigil.store.named import Named
from cellvigil.store.plate import Plate
from cellvigil.store.sweep import free_name, sweep

JOURNAL = "journal.jsonl"
ORPHANS = ".orphans"
FORMAT = 1
"""Of the journal and the layout; a plate of a later one is not touched."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening one plate had to mend, and what it could not."""

    plate: Path  # the plate's folder
    cut_bytes: int = 0  # of a bad last journal line
    skipped_lines: tuple[int, ...] = ()  # numbers (from 1) of bad journal lines before the last
    orphans: int = 0  # chunks (or whole fields) without a journal line, moved under `.orphans`
    temporaries: int = 0  # unfinished files, removed
    documents: int = 0  # zarr.json files written anew
    derived: int = 0  # reduced levels made anew
    dropped: int = 0  # chunks that retention had dropped and a crash kept, removed
    missing: int = 0  # chunks that the journal names and that are gone or damaged: `cellvigil repair` deals with them
    strange: bool = False  # a copied or renamed plate: its journal belongs to another folder; passed over
    doubled: int = 0  # frame lines that name one field's slot twice: no crash does that

    @property
    def clean(self) -> bool:
        """Whether there was nothing to mend and nothing to tell."""
        return self == Recovery(self.plate)


@dataclass(frozen=True, slots=True)
class Opened:
    """One plate, ready to be written."""

    folder: Path
    journal: Journal
    plate: Plate
    recovery: Recovery


def plate_folders(store: Path) -> list[Path]:
    """Every plate's folder in a store: <source>/<experiment>/<plate>.zarr with a journal in it.

    Of a plate that somebody copied inside the store only one is given, so that no cell is counted twice: the one in its
    own place, or the first. Raises StoreError if a journal cannot be read.
    """
    chosen: dict[Series | Path, Path] = {}
    for folder in _begun(store):
        series = _series_of(folder)
        if series is None:
            chosen[folder] = folder
        elif series not in chosen or folder == folder_of(store, series):
            chosen[series] = folder
    return sorted(chosen.values())


def own_folders(store: Path) -> tuple[list[Path], list[Path]]:
    """(every plate's folder in its own place, those that somebody copied or renamed): only the first are written."""
    whose = {folder: _series_of(folder) for folder in _begun(store)}
    strange = [folder for folder, series in whose.items() if series and folder != folder_of(store, series)]
    return [folder for folder in whose if folder not in strange], strange


def _begun(store: Path) -> list[Path]:
    return sorted(path.parent for path in store.glob(f"[!.]*/[!.]*/[!.]*.zarr/{JOURNAL}"))


def _series_of(folder: Path) -> Series | None:
    """Whose plate it is, as the first good line of its journal says; None if there is none."""
    path = folder / JOURNAL
    try:
        with path.open("rb") as file:
            lines = (line for row in file if (line := parse(row[:-1])) is not None)
            parts = next((parts for line in lines if (parts := line.get("series") or line.get("key"))), None)
    except FileNotFoundError:
        return None  # retention deleted it just now
    except OSError as error:
        raise StoreError(f"the journal cannot be read: {error.strerror}", where=path) from error
    return None if parts is None else (parts[0], parts[1], parts[2])


def recover(store: Path, folder: Path, take: Callable[[Line], object], *, settled: bool = False) -> Opened:
    """Open one plate and mend what a crash left; `take` is given every good journal line.

    `settled`: the last session closed the store and the machine ran on, so that every file is as it was written. Raises
    StoreError if the disk does not let it, StoreFull if it has no room for what must be made again.
    """
    aside = store / ORPHANS / folder.relative_to(store)
    plate, named = Plate(), Named()

    def apply(line: Line) -> None:
        if line.get("format", FORMAT) > FORMAT:
            hint = "open it with the version that wrote it, or a newer one"
            raise StoreError(f"the plate has format {line['format']}, this is {FORMAT}", where=folder, hint=hint)
        plate.apply(line)
        named.note(line)
        take(line)

    try:
        journal, found = open_journal(folder / JOURNAL, apply)
        if found.torn:
            aside.mkdir(parents=True, exist_ok=True)
            free_name(aside / f"{JOURNAL}.cut").write_bytes(found.torn)
        swept = sweep(folder, aside, plate, named)
        documents = mend_documents(folder, plate)
        wanted = swept.derived
        if not settled:
            lost = named.lost(plate)
            young = {place: late for place, late in named.young().items() if place not in lost}
            wanted = list(dict.fromkeys([*wanted, *damaged(folder, plate, young)]))
        derived, unmade = make_anew(folder, plate, wanted)
    except OSError as error:
        raise store_failure("the plate cannot be recovered", error, where=folder) from error
    recovery = Recovery(
        folder,
        cut_bytes=len(found.torn),
        skipped_lines=found.bad,
        orphans=swept.orphans,
        temporaries=swept.temporaries,
        documents=documents,
        derived=derived,
        dropped=swept.dropped,
        missing=swept.missing + unmade,
        doubled=named.doubled(),
    )
    return Opened(folder, journal, plate, recovery)
