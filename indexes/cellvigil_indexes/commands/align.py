"""`cellvigil-index align`: carry an index to another microscope, by cells of it that nobody labelled."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cellvigil.bundle.index import ReferenceIndex, index_folder, open_index
from cellvigil.bundle.origin import original_of
from cellvigil.errors import BundleError, UsageError
from cellvigil_indexes.aligned import write_aligned
from cellvigil_indexes.aligning.sharing.told import mixture_shares
from cellvigil_indexes.aligning.states.spanning import check_spans
from cellvigil_indexes.carrying import CHOICES, MODES, Asked, carried
from cellvigil_indexes.evaluating.spot import spot_scores
from cellvigil_indexes.fit_options import add_fit, asked_of
from cellvigil_indexes.options import add_common, share
from cellvigil_indexes.progress import counting
from cellvigil_indexes.target import embed_cells
from cellvigil_indexes.target_options import add_target, further_sets, store_of, stored, target_name, target_set
from cellvigil_indexes.telling_alignment import refused, told_alignment
from cellvigil_indexes.unlabelled import WITNESSES, Unlabelled, parted, unlabelled

ABOUT = "carry an index to another microscope, by unlabelled cells of it: writes an aligned index"
EXAMPLES = """examples:
  cellvigil-index align blood --target other_scope/
  cellvigil-index align blood --images other_scope/ --pixel-size 0.1 --to blood-lab2 --align coral
  cellvigil-index align types --frames frames/ --pixel-size 0.322 --further lab3/ --further lab4/
  cellvigil-index align death --store store/ --mode states --present live"""

_WHEN_REFUSED = (
    "of one stain and one setting of the microscope; better still, label a few dozen and `add` them "
    "(docs/alignment.md, What is refused); or write it, marked as not accepted, by --force"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Say what `align` can be asked."""
    add_common(command)
    add_target(command)
    add = command.add_argument
    add("--to", metavar="NEWNAME", help="the aligned index, or its folder (default: NAME-<the target's folder>)")
    maps = "; of states: ".join(", ".join(CHOICES[mode][1:]) for mode in MODES)
    add("--align", default="auto", metavar="METHOD", help=f"auto (default), or one map: {maps}")
    add_fit(command)
    more = "unlabelled cells of a third device, which settle doubtful clusters; again for a fourth"
    add("--further", type=Path, action="append", default=[], metavar="DIR", help=more)
    add("--witnesses", type=share, default=WITNESSES, metavar="SHARE", help="of the cells kept out of the fit (0.2)")
    add("--score", action="store_true", help="print how right it is where the target's folders or categories say so")
    add(
        "--force",
        action="store_true",
        help="write it though it is not accepted, or a group is not there",
    )
    add("--replace", action="store_true", help="in the place of an index of that name")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Fit, judge, write and describe. Raises UsageError for what cannot be fitted, BundleError where it is refused."""
    index = open_index(index_folder(args.name, args.out))
    if index.voters:
        raise UsageError(f"index {index.name} is aligned already", hint=f"align {original_of(index)} to the new target")
    asked = asked_of(index, args, args.align)
    folder = _folder(args)
    target = _target(index, args)
    fit, kept_out = parted(target.groups, args.witnesses, args.seed)
    further = [_embedded(index, args, found).embeddings for found in further_sets(args)]
    alignment = carried(index, target.vectors(fit), asked, further)
    if not alignment.accepted and not args.force:
        raise BundleError(refused(alignment), hint=_WHEN_REFUSED)
    if asked.mode == "types" and not args.force:
        check_spans(alignment.shares, index.groups)
        if alignment.shared is not None and (seen := mixture_shares(alignment.shared.told)):
            # the fit's own shares are drawn towards even ones; the mixture errs to too few, and so to a refusal
            check_spans(seen, index.groups)
    about = {**target.provenance, "cells": len(target), "fit_cells": len(fit), "witnesses": len(kept_out)}
    written = write_aligned(
        folder, index, alignment, witnesses=target.vectors(kept_out), target_provenance=about, replace=args.replace
    )
    result = _described(written, index, asked, target)
    if args.score:
        parts = {"cells of the fit": fit, "witnesses": kept_out}
        result["score"] = spot_scores(index, written, target, parts)
    return result, told_alignment(result)


def _folder(args: argparse.Namespace) -> Path:
    """Where the aligned index goes; looked at before any cell is embedded. Raises UsageError, BundleError."""
    name = args.to or f"{Path(args.name).name}-{target_name(args)}"
    if not Path(name).name or Path(name).name.startswith("."):
        raise UsageError(f"--to {name!r} is no name for an index", hint="letters, digits, _ and -, or a path")
    folder = Path(name) if Path(name).name != name else Path(args.out) / name
    if folder.resolve() == index_folder(args.name, args.out).resolve():
        raise UsageError("an index is never changed in place", where=folder, hint="choose another name with --to")
    if folder.exists() and not args.replace:
        raise BundleError("there is an index of this name already", where=folder, hint="choose --to, or --replace")
    return folder


def _target(index: ReferenceIndex, args: argparse.Namespace) -> Unlabelled:
    store = store_of(args)
    if store is not None:
        return stored(args, index, store)
    return _embedded(index, args, target_set(args))


def _embedded(index: ReferenceIndex, args: argparse.Namespace, found: Any) -> Unlabelled:
    cells = embed_cells(index, found, encoder_folder=args.encoders, device=args.device, progress=counting)
    return unlabelled(cells, found.provenance, found.warnings)


def _described(written: ReferenceIndex, index: ReferenceIndex, asked: Asked, target: Unlabelled) -> dict[str, Any]:
    return {
        "name": written.name,
        "folder": str(written.folder),
        "sha256": written.sha256,
        "mode": asked.mode,
        **written.manifest["alignment"],
        "of": index.name,
        "warnings": list(target.warnings),
    }
