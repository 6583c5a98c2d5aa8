"""`cellvigil-index tune`: choose encoders and settings by trying them all, and write the choice as a new version."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cellvigil.bundle.index import ReferenceIndex, index_folder, open_index
from cellvigil.data import frozen_array
from cellvigil.errors import UsageError
from cellvigil_indexes.bank import Bank, bank_of
from cellvigil_indexes.draft import Draft, check_original, draft_of
from cellvigil_indexes.options import add_common, add_input, has_input, labelled_set
from cellvigil_indexes.progress import counting
from cellvigil_indexes.settings import METRICS, SCALINGS
from cellvigil_indexes.splitting import usual_unit
from cellvigil_indexes.target import embed_target, repeats
from cellvigil_indexes.tuning.bar import Bar
from cellvigil_indexes.tuning.checking import checked
from cellvigil_indexes.tuning.choice import Tuned
from cellvigil_indexes.tuning.choose import choose
from cellvigil_indexes.tuning.grid import Grid
from cellvigil_indexes.tuning.limits import check_bank
from cellvigil_indexes.tuning.plan import FEW, SHARES, Plan, folds_plan, separate_plan, shares_plan
from cellvigil_indexes.tuning.record import entry, told, write_trials
from cellvigil_indexes.versions import succeed

ABOUT = "choose an index's encoders and settings by trying them all: a new version, the old one is kept"
EXAMPLES = """examples:
  cellvigil-index tune assay
  cellvigil-index tune assay --k-min 3,10 --k-max 100 --metric l2,canberra --split-by group --seeds 5
  cellvigil-index tune assay --coco friday.coco.json --pixel-size 0.322 --dry-run --trials trials.parquet

Ctrl-C ends the search and keeps the best so far: it is written like any other, the result says "interrupted", and the
exit code is 0. A second Ctrl-C, or one before anything was scored, ends without a trace (exit code 130)."""

_GRID = Grid()
_T = TypeVar("_T")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Say what `tune` can be asked."""
    add_common(command)
    add_input(command, required=False)
    add = command.add_argument
    add("--k-min", type=_several(int), default=_GRID.k_min, metavar="K,...", help="default: 3,10,20,33")
    add("--k-max", type=_several(int), default=_GRID.k_max, metavar="K,...", help="default: 100,1000")
    add("--threshold", type=_several(float), default=_GRID.threshold, metavar="H,...", help="default: 0.1,0.2,0.3,0.6")
    add(
        "--metric",
        type=_several(_one_of(METRICS)),
        default=_GRID.metric,
        metavar="M,...",
        help="l2,canberra: both, in twice the time (default: l2)",
    )
    add("--reweight", type=_several(_on_or_off), default=_GRID.reweight, metavar="on,off", help="default: on,off")
    add("--scale", type=_several(_one_of(SCALINGS)), default=_GRID.scaling, metavar="S,...", help="default: all three")
    add("--encoder", action="append", metavar="E", help="try only these; again for more (default: all that it keeps)")
    how = command.add_mutually_exclusive_group()
    how.add_argument(
        "--shares",
        type=_shares,
        metavar="T/V/T",
        help=f"training, validation and test, in per cent (default from {FEW} cells: 90/9/1, as published)",
    )
    how.add_argument("--folds", type=int, metavar="K", help=f"nested folds instead (default below {FEW} cells: 5)")
    add("--seeds", type=int, default=3, help="repeated splits, or sets of folds (default: 3)")
    add("--split-by", choices=["cell", "group"], help="keep groups whole (default: where some have more than one cell)")
    add("--trials", type=Path, metavar="FILE", help="write the table of trials there too, as Parquet")
    add("--dry-run", action="store_true", help="choose, and leave the index as it is")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Choose, check the choice on cells kept back, and write it. Raises as `choose` and `succeed` do."""
    grid = Grid(args.k_min, args.k_max, args.threshold, args.metric, args.reweight, args.scale)
    if args.seeds < 1:
        raise UsageError("--seeds must be 1 or more")
    if args.trials and not args.trials.absolute().parent.is_dir():  # told now, not after hours of search
        raise UsageError("there is no such folder", where=args.trials.parent, hint="make it, or name another --trials")
    index = open_index(index_folder(args.name, args.out))
    check_original(index)
    bank, plan, dropped = _asked(index, args)
    began = time.monotonic()
    tuned = choose(bank, grid, plan.splits, Bar("choosing", sys.stderr))
    parts = len(plan.held)
    if tuned.interrupted:
        plan = replace(plan, held=tuple(held for held in plan.held if not held.choose_on))
    found = checked(
        bank, grid, plan, tuned, lambda part: Bar(f"checking the choice, {part + 1} of {parts}", sys.stderr)
    )
    found = replace(found, planned=parts)
    tuning = entry(grid, plan, tuned, found, time.monotonic() - began)
    tuning["notes"] += dropped
    with tempfile.TemporaryDirectory() as work:
        table = Path(work) / "trials.parquet"
        write_trials(tuned, table)
        if args.trials:
            shutil.copyfile(table, args.trials)
        written = _write(index, tuned, tuning, table, dry=args.dry_run)
    result = {"index": index.name, "interrupted": tuned.interrupted, "tuning": tuning, **written}
    return result, told(result)


def _asked(index: ReferenceIndex, args: argparse.Namespace) -> tuple[Bank, Plan, list[str]]:
    """The cells, who is asked and who answers, and what was left out."""
    separate = has_input(args)
    if separate and (args.folds or args.shares):
        raise UsageError("other cells are the validation cells here: --folds and --shares split an index's own")
    own = _only(bank_of(index), args.encoder)
    check_bank(own)
    if separate:
        found = labelled_set(args, split_by=None)
        target = embed_target(
            index, found, encoder_folder=args.encoders, device=args.device, progress=counting, spares=True
        )
        others = _only(target.collected.bank(index.classes), args.encoder)
        by = args.split_by or usual_unit(others.groups)
        left = [
            f"{count} cells of {name} were left out: the index lacks that class"
            for name, count in target.not_in_index.items()
        ]
        if copies := int(np.count_nonzero(repeats(index, target.collected) >= 0)):
            left.append(f"{copies} of the validation cells are in the index themselves: the figures flatter")
        both = joined(own, others)
        plan = separate_plan(both, len(own), by)
        return both, replace(plan, about={**plan.about, "cells": dict(found.provenance)}), left
    by = args.split_by or usual_unit(own.groups)
    if args.folds is not None or (len(own) < FEW and args.shares is None):
        return own, folds_plan(own, by, args.seeds, args.folds), []
    return own, shares_plan(own, by, args.seeds, args.shares or SHARES), []


def joined(first: Bank, then: Bank) -> Bank:
    """The cells of both, the groups kept apart. Both have the same classes and encoders."""
    after = int(first.groups.max()) + 1
    return Bank(
        first.classes,
        {
            name: frozen_array(np.concatenate([block, then.embeddings[name]], dtype=np.float32))
            for name, block in first.embeddings.items()
        },
        frozen_array(np.concatenate([first.labels, then.labels])),
        frozen_array(np.concatenate([first.groups, then.groups + after])),
    )


def _only(bank: Bank, encoders: list[str] | None) -> Bank:
    """The bank with these encoders only. Raises UsageError for one that it does not have."""
    for name in encoders or []:
        if name not in bank.embeddings:
            raise UsageError(
                f"the index keeps no vectors of encoder {name}", hint=f"it has {', '.join(bank.embeddings)}"
            )
    wanted = set(encoders or bank.embeddings)
    return replace(bank, embeddings={name: block for name, block in bank.embeddings.items() if name in wanted})


def _write(index: ReferenceIndex, tuned: Tuned, tuning: dict[str, Any], table: Path, *, dry: bool) -> dict[str, Any]:
    draft = tuned_draft(draft_of(index), tuned, tuning, table)
    if dry:
        return {"version": None, "sha256": None, "written": "nothing was written (--dry-run)"}
    new = succeed(index, draft, "tuned")
    version = new.manifest["version"]
    kept = new.manifest["history"][-1]["kept_as"]
    written = f"written as version {version} of {index.folder}; the one before is kept as {kept}"
    return {"version": version, "sha256": new.sha256, "written": written}


def tuned_draft(draft: Draft, tuned: Tuned, tuning: dict[str, Any], table: Path) -> Draft:
    """The index with the choice: its encoders used, the others kept; how it is searched and stored stays as it is."""
    chosen = asdict(tuned.settings)
    kept = {name: getattr(draft.settings, name) for name in ("search", "storage")}
    return replace(
        draft,
        settings=type(draft.settings)(**{**chosen, **kept}),
        used=list(tuned.encoders),
        tuning=tuning,
        trials=table,
    )


def _several(kind: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    """A comma-separated list, as argparse wants a type."""

    def read(text: str) -> tuple[_T, ...]:
        try:
            return tuple(kind(part.strip()) for part in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no list such as 3,10") from None

    return read


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(allowed)}")
        return text

    return read


def _on_or_off(text: str) -> bool:
    return _one_of(("on", "off"))(text) == "on"


def _shares(text: str) -> tuple[float, ...]:
    try:
        train, validation, test = (float(part) / 100 for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 90/9/1") from None
    return (train, validation, test)
