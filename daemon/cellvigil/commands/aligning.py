"""`align`: how the sources' alignments stand, and asking for a new fit."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from cellvigil import config
from cellvigil.commands.shared import Commands, command, config_option, print_json
from cellvigil.errors import UsageError

_ABOUT = """Without --refit it only tells. A fit stands, through restarts and for all later plates of its source, until
somebody asks for another one: then the running service (or the next one) fits anew, on the newest cells of untouched
wells, and the plates that run begin a new baseline."""


def add_align(commands: Commands) -> None:
    """The `align` command."""
    what = "tell how the sources' indexes are aligned to their microscopes, or ask for a new fit"
    parser = command(commands, "align", what, "cellvigil align --refit lionheart --config config.yaml")
    parser.description = f"{parser.description} {_ABOUT}"
    config_option(parser)
    parser.add_argument("--refit", metavar="SOURCE", help="have this source's index fitted anew")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_align)


def _align(args: argparse.Namespace) -> int:
    from cellvigil.service.fits import Fits  # noqa: PLC0415 - heavy, and not needed for --help

    settings = config.load(args.config)
    sources = {source.name: source for source in settings.sources}
    if args.refit is not None:
        _check_refit(args.refit, sources)
        Fits(settings.state_dir, args.refit).ask(datetime.now(UTC))
    told = [_told(source, Fits(settings.state_dir, source.name)) for source in sources.values()]
    if args.json:
        print_json(told)
        return 0
    for one in told:
        print(f"{one['source']}: {one['text']}")
    return 0


def _check_refit(name: str, sources: dict[str, config.Source]) -> None:
    if name not in sources:
        raise UsageError(f"there is no source {name!r}", where="--refit", hint=f"there are: {', '.join(sources)}")
    if sources[name].align.mode == "off":
        raise UsageError(f"source {name} is not aligned", where="--refit", hint="set its align.mode to states or types")


def _told(source: config.Source, fits: Any) -> dict[str, Any]:
    """How one source stands, by what is kept."""
    kept, failed, asked = fits.kept(), fits.failed(), fits.asked()
    values: dict[str, Any] = {"source": source.name, "mode": source.align.mode, "refit_asked": None}
    if source.align.mode == "off":
        return {**values, "text": "off"}
    text = "no fit yet"
    if kept is not None:
        values |= {"fit": kept.number, "bundle": kept.sha256, "cells": kept.cells, "at": kept.at}
        text = f"fitted on {kept.cells} cells at {kept.at[:16]}Z, bundle {kept.sha256[:12]}"
    if failed is not None:
        values |= {"failed": failed.why, "attempts": failed.attempts}
        text += f"; the last fit failed: {failed.why}"
    if asked and (kept is None or kept.answers != asked):
        values["refit_asked"] = asked
        text += f"; a new fit was asked for at {asked[:16]}Z"
    return {**values, "text": text}
