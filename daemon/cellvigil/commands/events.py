"""`event add|list|remove`: their options, and what each prints."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cellvigil import config
from cellvigil.commands.shared import DEFAULT_CONFIG, Commands, command, config_option, print_json
from cellvigil.errors import CellvigilError, UsageError
from cellvigil.events import KINDS
from cellvigil.plates import covers

if TYPE_CHECKING:
    from cellvigil.assays.added import Entry
    from cellvigil.ledger import Ledger, Series

_LONGEST = 48  # characters of wells in a line
_CURRENT = timedelta(hours=24)  # plates with a frame so shortly before the newest one are all at work


def add_event_command(commands: Commands) -> None:
    """The `event` command, with `add`, `list` and `remove` below it."""
    what = "what happened to a plate that no image shows: add it, list it, take it back"
    parser = command(commands, "event", what, "cellvigil event add --source lionheart --kind medium")
    below = parser.add_subparsers(required=True, metavar="add|list|remove")
    what = "add an event; a running service takes it up at its next look"
    add = command(below, "add", what, "cellvigil event add --source lionheart --kind dosed --wells B1-B6")
    config_option(add)
    add.add_argument("--source", help="the source's name (where there are several)")
    add.add_argument("--kind", required=True, metavar="KIND", help=", ".join(KINDS))
    add.add_argument("--wells", default="", help='"B1 B2", "B1-C6", "B-C" (rows), "3" (a column); the whole plate')
    add.add_argument("--experiment", help="* and ? match (with neither this nor --plate: the plate at work)")
    add.add_argument("--plate", help="* and ? match")
    add.add_argument("--at", help="as 2026-11-20T18:05, in the source's time zone, or with an offset (now)")
    add.add_argument("--note", default="", help="for whoever reads the record")
    add.add_argument("--json", action="store_true", help="print the event as JSON")
    add.set_defaults(run=_add)
    listing = command(below, "list", "list the events, of files and commands", "cellvigil event list --json")
    config_option(listing)
    listing.add_argument("--source", help="only of this source")
    listing.add_argument("--all", action="store_true", help="those taken back, too")
    listing.add_argument("--json", action="store_true", help="print them as JSON")
    listing.set_defaults(run=_list)
    what = "take back an event that was added by command; the record keeps both"
    remove = command(below, "remove", what, "cellvigil event remove 3")
    config_option(remove)
    remove.add_argument("id", type=int, metavar="ID", help="its number, as `event list` shows it")
    remove.set_defaults(run=_remove)


def _add(args: argparse.Namespace) -> int:
    from cellvigil.assays.added import Entry, add_event  # noqa: PLC0415 - see the package's first docstring
    from cellvigil.assays.event_list import kind_of  # noqa: PLC0415
    from cellvigil.assays.sheet import Wrong  # noqa: PLC0415
    from cellvigil.assays.times import moment  # noqa: PLC0415
    from cellvigil.assays.wells import wells_of  # noqa: PLC0415
    from cellvigil.store.reader import read_ledger  # noqa: PLC0415

    settings = config.load(args.config)
    source = _source(args, settings)
    now = datetime.now(UTC)
    try:
        kind = kind_of(args.kind)
        wells_of(args.wells)
        at = moment(args.at.strip(), source.timezone) if args.at else now
    except Wrong as error:
        raise UsageError(str(error), where="event add") from None
    ledger = read_ledger(settings.store.path)
    of_source = [series for series in ledger.series() if series[0] == source.name]
    experiment, plate = _plate(args, ledger, of_source)
    note, wells = " ".join(args.note.split()), " ".join(args.wells.split())
    entry = add_event(settings.store.path, Entry(source.name, at, kind, wells, experiment, plate, note), now)
    for text in _doubts(entry, of_source, now, source.timezone):
        print(f"warning: {text}", file=sys.stderr)
    told = _told([entry])[0]
    if args.json:
        print_json(told)
    else:
        given = "" if args.config == DEFAULT_CONFIG else f" --config {shlex.quote(str(args.config))}"
        print(f"{_shown(told, settings)}\ntake it back: cellvigil event remove{given} {entry.id}")
    return 0


def _source(args: argparse.Namespace, settings: config.Config) -> config.Source:
    named = [source for source in settings.sources if args.source in (None, source.name)]
    known = ", ".join(source.name for source in settings.sources)
    if not named:
        raise UsageError(f"there is no source {args.source!r}", where=args.config, hint=f"known: {known}")
    if len(named) > 1:
        raise UsageError("which source?", where="event add", hint=f"give --source, one of {known}")
    return named[0]


def _plate(args: argparse.Namespace, ledger: Ledger, of_source: list[Series]) -> tuple[str, str]:
    """Experiment and plate as asked for; the plate at work where nothing is said. Raises UsageError if several are."""
    if args.experiment is not None or args.plate is not None:
        return (args.experiment or "").strip(), (args.plate or "").strip()
    last = {series: at for series in of_source if (at := ledger.last_commit(series)) is not None}
    if not last:
        return "", ""
    newest = max(last.values())
    current = [series for series, at in last.items() if newest - at < _CURRENT]
    if len(current) > 1:
        names = "; ".join(f"--experiment '{one[1]}' --plate '{one[2]}'" for one in current)
        raise UsageError("which plate? Several are at work", where="event add", hint=f"give {names}; or --plate '*'")
    return current[0][1], current[0][2]


def _doubts(entry: Entry, of_source: list[Series], now: datetime, zone: str) -> Iterator[str]:
    """What is allowed and may be a mistake."""
    if not any(covers((entry.experiment, entry.plate), *series[1:]) for series in of_source):
        there = ", ".join("/".join(series[1:]) for series in of_source[-5:]) or "none"
        yield f"no such plate is in the store yet (there: {there}); the event holds once it is"
    if not (entry.experiment or entry.plate):
        yield "the event holds for every plate of the source; name one with --experiment and --plate"
    if entry.at > now + timedelta(minutes=5):
        yield f"{_local(entry.at, zone)} is in the future"


def _list(args: argparse.Namespace) -> int:
    from cellvigil.assays.added import read_added  # noqa: PLC0415

    settings = config.load(args.config)
    sources = [_source(args, settings)] if args.source is not None else list(settings.sources)
    names = {source.name for source in sources}
    entries = [one for one in read_added(settings.store.path) if one.source in names]
    told = _told([one for one in entries if args.all or one.removed_at is None])
    wrong: list[CellvigilError] = []
    for source in sources:
        try:
            told += _listed(source)
        except CellvigilError as error:
            wrong.append(error)
    told.sort(key=lambda one: str(one["at"]))
    if args.json:
        print_json(told)
    else:
        for one in told:
            print(_shown(one, settings))
        print(f"{len(told)} events" if len(told) != 1 else "1 event")
    for fault in wrong:
        print(f"events that cannot be read: {fault}", file=sys.stderr)
    return 1 if wrong else 0


def _remove(args: argparse.Namespace) -> int:
    from cellvigil.assays.added import remove_event  # noqa: PLC0415

    settings = config.load(args.config)
    entry = remove_event(settings.store.path, args.id, datetime.now(UTC))
    if entry is None:
        hint = "see `cellvigil event list`; what stands in a file is taken out there"
        raise UsageError(f"there is no event {args.id}", where="event remove", hint=hint)
    print(f"taken back: {_shown(_told([entry])[0], settings)}")
    return 0


def _listed(source: config.Source) -> list[dict[str, object]]:
    """The events of a source's file, as plain values."""
    from cellvigil.assays.added import Entry  # noqa: PLC0415
    from cellvigil.assays.event_list import read_events  # noqa: PLC0415

    if source.events is None:
        return []
    rows = read_events(source.events, timezone=source.timezone)
    entries = [
        Entry(source.name, row.event.at, row.event.kind, " ".join(row.event.wells), row.experiment, row.plate,
              row.event.note)
        for row in rows
    ]  # fmt: skip
    return _told(entries, file=str(source.events))


def _told(entries: Iterable[Entry], file: str = "") -> list[dict[str, object]]:
    """Events as plain values; those of a file have no number."""
    return [
        {
            "id": one.id or None,
            "file": file,
            "source": one.source,
            "experiment": one.experiment,
            "plate": one.plate,
            "at": one.at.astimezone(UTC).isoformat(),
            "kind": one.kind,
            "wells": one.wells,
            "note": one.note,
            "removed_at": one.removed_at.isoformat() if one.removed_at else None,
        }
        for one in entries
    ]


def _shown(one: dict[str, object], settings: config.Config) -> str:
    """One event as a line, by its microscope's clock; what a terminal would act on (a note may hold it) written out."""
    where = "/".join(str(one[name] or "*") for name in ("source", "experiment", "plate"))
    zones = {source.name: source.timezone for source in settings.sources}
    at = _local(datetime.fromisoformat(str(one["at"])), zones.get(str(one["source"]), ""))
    note = f"  {one['note']}" if one["note"] else ""
    gone = "  (taken back)" if one["removed_at"] else ""
    wells = str(one["wells"]) or "whole plate"
    wells = wells if len(wells) <= _LONGEST else f"{wells[:_LONGEST]}..."
    text = f"{one['id'] or 'file':>4}  {at}  {one['kind']:9}  {where}  {wells}{note}{gone}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _local(at: datetime, zone: str) -> str:
    """A time by the clock of its microscope, as people type it, and its offset."""
    return at.astimezone(ZoneInfo(zone or "UTC")).isoformat(sep=" ", timespec="seconds")
