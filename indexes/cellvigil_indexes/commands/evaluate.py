"""`cellvigil-index evaluate`: score an index on labelled cells from elsewhere, or on its own cells held out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from cellvigil.bundle.index import ReferenceIndex, index_folder, open_index, reference_cells
from cellvigil.decide import Rejection
from cellvigil.errors import UsageError
from cellvigil_indexes import baselines
from cellvigil_indexes.carrying import CHOICES
from cellvigil_indexes.draft import check_original, draft_of
from cellvigil_indexes.evaluating import holdout
from cellvigil_indexes.evaluating.certifying import certified
from cellvigil_indexes.evaluating.evaluate import evaluate, summary
from cellvigil_indexes.evaluating.told_evaluation import told_held_out, told_target
from cellvigil_indexes.evaluating.told_transfers import told_transfers
from cellvigil_indexes.evaluating.transfers import compare
from cellvigil_indexes.evaluating.withheld import NOVEL_BELOW, withheld
from cellvigil_indexes.fit_options import add_fit, asked_of, options_given
from cellvigil_indexes.inputs import leaks
from cellvigil_indexes.options import add_common, add_input, has_input, labelled_set, share
from cellvigil_indexes.progress import counted, counting
from cellvigil_indexes.splitting import Split, usual_unit
from cellvigil_indexes.target import embed_cells, repeats
from cellvigil_indexes.telling import crop_rule, depth_warnings, tuned_on_own
from cellvigil_indexes.unlabelled import parted, unlabelled

ABOUT = "score an index on labelled cells, beside plain methods on the same vectors"
_FEW = 10
"""Cells of a class below which its recall is mostly chance."""
EXAMPLES = """examples:
  cellvigil-index evaluate assay --coco held_out.coco.json --pixel-size 0.322
  cellvigil-index evaluate blood --folds 5 --seeds 5 --withhold
  cellvigil-index evaluate blood --split 0.2 --split-by group --baselines 1-NN,linear-probe
  cellvigil-index evaluate blood --images other_scope/ --align all --held-out 0.3"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Say what `evaluate` can be asked."""
    add_common(command)
    add_input(command, required=False)
    add = command.add_argument
    add("--split", type=share, metavar="SHARE", help="hold out this share of the index's own cells instead")
    add("--folds", type=int, metavar="K", help="or call every one of its cells by the other folds")
    add("--seeds", type=int, default=5, help="random splits, or deals into folds (default: 5)")
    add("--split-by", default="cell", choices=["cell", "group"], help="hold out single cells, or whole groups")
    add("--withhold", action="store_true", help="with --split or --folds: is a class that the index lacks seen as new?")
    add(
        "--baselines",
        metavar="LIST",
        help=f"all, none, or some of {', '.join(baselines.BASELINES)} (default: all that are quick enough)",
    )
    add("--abstain", action="store_true", help="leave cells called unknown out, instead of counting them as wrong")
    add("--same-device", action="store_true", help="cells of the index's own device: novel ones are called unknown")
    add("--align", metavar="LIST", help="with cells from elsewhere: align to them first, without their labels; all, "
        f"or some of {', '.join(CHOICES['types'])}")  # fmt: skip
    add("--held-out", type=share, metavar="SHARE", help="with --align: score this share, which no fit has seen")
    add_fit(command)


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Score the index as asked, as values and as text. Raises UsageError for what cannot be asked together."""
    _check(args)
    index = open_index(index_folder(args.name, args.out))
    notes: list[str] = []
    if args.baselines is None:
        chosen, notes = baselines.usual(len(index))
    else:
        chosen = baselines.named(args.baselines)
    notes += depth_warnings(index)
    about = {"index": index.name, "sha256": index.sha256, "crop_rule": crop_rule(index.image_rule)}
    if args.align is not None:
        check_original(index)
        result = about | _aligned(index, args, chosen)
        result["warnings"] += notes
        return result, told_transfers(result)
    if args.split is None and args.folds is None:
        result = about | _on_target(index, args, chosen)
        result["warnings"] += notes
        return result, told_target(result)
    check_original(index)  # held out, its cells would still stand where a fit that knew them put them
    notes += [*_flattered(index, args.split_by), *leaks.within(reference_cells(index), index.thumbnails)]
    result = about | _held_out(index, args, chosen) | {"warnings": notes}
    return result, told_held_out(result)


def _flattered(index: ReferenceIndex, by: str) -> list[str]:
    """Why figures of an index's own cells may be better than those of new ones, in words."""
    found = []
    if tuned_on_own(index.manifest.get("tuning")):
        what = "encoders and settings were chosen by `tune` on these very cells: the figures flatter"
        found.append(f"{what}; its held-out score does not")
    if by == "cell" and usual_unit(index.cell_groups) == "group":
        what = "cells of one group are on both sides of a split: the figures flatter"
        found.append(f"{what}; --split-by group keeps groups whole")
    return found


def _check(args: argparse.Namespace) -> None:
    if sum(each is not None for each in (args.split, args.folds, has_input(args) or None)) != 1:
        what = (
            "give the cells to score: --images, --coco, --frames or --store, or --split or --folds for the index's own"
        )
        raise UsageError(what, hint="just one of them")
    if args.withhold and args.split is None and args.folds is None:
        raise UsageError("--withhold takes the index's own cells", hint="give it with --split or --folds")
    if args.align is not None and not has_input(args):
        raise UsageError("--align needs cells from elsewhere", hint="give --images, --coco, --frames or --store")
    idle = [*options_given(args), *(["--held-out"] if args.held_out is not None else [])]
    if args.align is None and idle:
        raise UsageError(f"{', '.join(idle)} would change nothing without --align", hint="give it with --align")


def _aligned(index: ReferenceIndex, args: argparse.Namespace, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The index as it is beside its alignments to the given cells."""
    choices = CHOICES[args.mode or "types"]
    named = choices if args.align == "all" else [part.strip() for part in args.align.split(",") if part.strip()]
    asked = [asked_of(index, args, method) for method in dict.fromkeys(named)]
    if not asked:
        raise UsageError(f"--align {args.align!r} names no method", hint=f"all, or some of {', '.join(choices)}")
    found = labelled_set(args, split_by=None)
    cells = embed_cells(index, found, encoder_folder=args.encoders, device=args.device, progress=counting)
    target = unlabelled(cells, found.provenance, found.warnings)
    every = np.arange(len(target), dtype=np.int64)
    fit, ask = (every, every) if args.held_out is None else parted(target.groups, args.held_out, args.seed)
    compared = compare(
        index,
        target,
        asked,
        fit=fit,
        ask=ask,
        baselines=chosen,
        rejection=Rejection(same_device=args.same_device),
        abstain=args.abstain,
        step=counted("alignment"),
    )
    copies = int(np.count_nonzero(repeats(index, cells) >= 0))
    few = {name: target.names.count(name) for name in index.classes if 0 < target.names.count(name) < _FEW}
    return {
        "classes": [name for name in index.classes if name in set(target.names)],
        "fitted": compared.fitted,
        "scored": compared.scored,
        "transductive": compared.transductive,
        "foreign": dict(compared.foreign),
        "choices": {choice.name: choice.as_dict() for choice in compared.choices},
        "warnings": [
            *([f"{copies} of the cells are in the index themselves: the figures flatter"] if copies else []),
            *(f"class {name} has {n} cells, and its recall weighs like any other's" for name, n in few.items()),
            *([f"{compared.unnamed} cells have no class and are not scored"] if compared.unnamed else []),
            *target.warnings,
        ],
    }


def _on_target(index: ReferenceIndex, args: argparse.Namespace, chosen: Mapping[str, Any]) -> dict[str, Any]:
    found = evaluate(
        index,
        labelled_set(args, split_by=None),
        encoder_folder=args.encoders,
        device=args.device,
        abstain=args.abstain,
        progress=counting,
        baselines=chosen,
        rejection=Rejection(same_device=args.same_device),
    )
    reliability = found.certainty.reliability
    return {
        **found.scores.as_dict(),
        "median_k": found.median_k,
        "baselines": {name: scores.as_dict() for name, scores in found.baselines.items()},
        "calibration_error": reliability.error if reliability else None,
        "certainty": found.certainty.as_dict(),
        "not_in_index": dict(found.not_in_index),
        "warnings": found.warnings(),
    }


def _held_out(index: ReferenceIndex, args: argparse.Namespace, chosen: Mapping[str, Any]) -> dict[str, Any]:
    deals = _deals(index, args)
    aside = draft_of(index).set_aside
    bank = aside.bank(index.classes) if aside is not None else None
    found = holdout.dealt(
        index,
        deals,
        chosen,
        partial(certified, aside=bank),
        rejection=Rejection(same_device=args.same_device),
        step=counted("fold" if args.folds else "split"),
    )
    result = {
        "cells": len(index),
        "held_out": len(found[0].rows),
        "folds": args.folds,
        "split_by": args.split_by,
        "seeds": args.seeds,
        **summary(found, index.classes, abstain=args.abstain),
    }
    if args.withhold:
        level = index.calibration.novel_below if index.calibration else None
        level = NOVEL_BELOW if level is None else level
        missing = withheld(index, deals[0], level, step=counted("class withheld"))
        result["withheld"] = {name: each.as_dict() for name, each in missing.items()}
        result["withheld_level"] = level
    return result


def _deals(index: ReferenceIndex, args: argparse.Namespace) -> list[list[Split]]:
    if args.folds is not None:
        return holdout.split_in_folds(index, k=args.folds, by=args.split_by, seeds=args.seeds)
    return holdout.split_once(index, share=args.split, by=args.split_by, seeds=args.seeds)
