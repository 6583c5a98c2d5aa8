"""`quarantine list|retry`: their options, and what each prints."""

from __future__ import annotations

import argparse
import fnmatch
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cellvigil import config
from cellvigil.commands.shared import Commands, command, config_option, print_json
from cellvigil.errors import REASONS, UsageError

if TYPE_CHECKING:
    from cellvigil.quarantine import Entry


def add_quarantine(commands: Commands) -> None:
    """The `quarantine` command, with `list` and `retry` below it."""
    what = "the files that could not become a frame: list them, or have them tried again"
    parser = command(commands, "quarantine", what, "cellvigil quarantine list --reason truncated")
    below = parser.add_subparsers(required=True, metavar="list|retry")
    listing = command(below, "list", "list the files, each with its reason", "cellvigil quarantine list --json")
    _options(listing)
    listing.add_argument("--traceback", action="store_true", help="show the traceback where one was kept")
    listing.set_defaults(run=_list)
    what = "have files tried again as they are; a running service takes them up at its next look"
    retry = command(below, "retry", what, "cellvigil quarantine retry '*/Plate 1/*' --reason unreadable")
    _options(retry)
    retry.add_argument("paths", nargs="*", metavar="PATH", help="as listed; * and ? match")
    retry.add_argument("--all", action="store_true", help="every file (that --reason and --source leave)")
    retry.set_defaults(run=_retry)


def _options(parser: argparse.ArgumentParser) -> None:
    config_option(parser)
    parser.add_argument("--reason", choices=sorted(REASONS), metavar="REASON", help="only these: " + ", ".join(REASONS))
    parser.add_argument("--source", help="only files of this source")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _list(args: argparse.Namespace) -> int:
    from cellvigil.quarantine import FILE, read_entries  # noqa: PLC0415 - see the package's first docstring

    settings = config.load(args.config)
    entries = _chosen(args, settings, read_entries(settings.state_dir / FILE))
    if args.json:
        print_json([asdict(entry) for entry in entries])
        return 0
    for entry in entries:
        old = "" if entry.config == settings.sha256 else "  (under another configuration: it is tried again anyway)"
        print(_shown(f"{entry.at:%Y-%m-%d %H:%M:%SZ}  {entry.reason:16}  {entry.source}/{entry.path}{old}"))
        print(_shown(f"    {entry.stage}: {entry.message.replace(f' ({entry.path})', '')}"))
        if args.traceback and entry.traceback:
            print("\n".join(_shown(f"    {line}") for line in entry.traceback.splitlines()))
    counts = Counter(entry.reason for entry in entries)
    told = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    print(f"{len(entries)} in quarantine" + (f": {told}" if told else ""))
    return 0


def _retry(args: argparse.Namespace) -> int:
    from cellvigil.quarantine import FILE, read_entries, release  # noqa: PLC0415

    if not (args.paths or args.all or args.reason):
        hint = "give paths, --reason, or --all (with --source: all of that source)"
        raise UsageError("nothing is named to be tried again", where="retry", hint=hint)
    settings = config.load(args.config)
    path = settings.state_dir / FILE
    entries = _chosen(args, settings, read_entries(path))
    if args.paths:
        globs = [each.replace("[", "[[]") for each in args.paths]  # a channel's name may hold a bracket
        entries = [entry for entry in entries if any(fnmatch.fnmatchcase(entry.path, glob) for glob in globs)]
    if entries:
        release(path, entries, datetime.now(UTC))
    if args.json:
        print_json({"released": [{"source": entry.source, "path": entry.path} for entry in entries]})
    else:
        for entry in entries:
            print(_shown(f"{entry.source}/{entry.path}"))
        hint = "" if entries else "; `cellvigil quarantine list` shows the paths as they must be given"
        print(f"{len(entries)} to be tried again{hint}")
    return 0 if entries or not args.paths else 1


def _chosen(args: argparse.Namespace, settings: config.Config, entries: Sequence[Entry]) -> list[Entry]:
    names = [source.name for source in settings.sources]
    if args.source is not None and args.source not in names:
        raise UsageError(f"there is no source {args.source!r}", where=args.config, hint=f"known: {', '.join(names)}")
    return [entry for entry in entries if args.reason in (None, entry.reason) and args.source in (None, entry.source)]


def _shown(text: str) -> str:
    """The text with what a terminal would act on (a file's name may hold it) written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
