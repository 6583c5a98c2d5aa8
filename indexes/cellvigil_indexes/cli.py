"""`cellvigil-index`: build, evaluate and show reference indexes. Reads arguments, calls one function, prints."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from cellvigil.bundle.index import index_folder, open_index
from cellvigil.errors import CellvigilError, UsageError
from cellvigil_indexes import telling
from cellvigil_indexes.build import Plan, build
from cellvigil_indexes.evaluate import evaluate, evaluate_split
from cellvigil_indexes.options import image_rule, index_settings, labelled_set, parser
from cellvigil_indexes.scoring import mean_and_spread


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 2 bad usage, 1 anything else; an error is one line on stderr."""
    try:
        args = parser().parse_args(argv)
        result, text = _COMMANDS[args.command](args)
    except CellvigilError as error:
        print(f"cellvigil-index: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"cellvigil-index: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(result, indent=2) if args.json else text)
    return 0


def _build(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    found = labelled_set(args, split_by=args.split_by)
    plan = Plan(
        folder=args.out / args.name,
        images=found.images,
        classes=found.classes,
        states=args.states,
        rule=image_rule(args, found.pixel_size_um),
        intensity="auto" if args.intensity == "auto" else "",
        colour="auto" if args.colour == "auto" else "",
        pixel_size_um=found.pixel_size_um,
        cell_diameter_um=args.cell_diameter,
        encoders=args.encoder,
        encoder_folder=args.encoders,
        device=args.device,
        settings=index_settings(args),
        provenance=found.provenance,
        replace=args.force,
    )
    index = build(plan, _progress)
    dropped = [name for name in found.classes if name not in index.classes]
    if dropped:
        print(f"left out, having no cells: {', '.join(dropped)}", file=sys.stderr)
    summary = {**telling.described(index), "dropped_classes": dropped}
    return summary, telling.told_index(summary)


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    index = open_index(index_folder(args.name, args.out))
    if (args.split is None) == (args.images is None and args.coco is None):
        raise UsageError("give the cells to score: --images, --coco, or --split for the index's own (just one of them)")
    about = {"index": index.name, "sha256": index.sha256, "crop_rule": telling.crop_rule(index.image_rule)}
    if args.split is not None:
        by_group = args.split_by == "group"
        runs = evaluate_split(index, share=args.split, seeds=args.seeds, by_group=by_group, abstain=args.abstain)
        names = list(runs[0].baselines)
        result = {
            **about,
            "cells": len(index),
            "held_out": runs[0].held_out,
            "split_by": args.split_by,
            "seeds": args.seeds,
            "median_k": runs[0].median_k,
            **_flat(mean_and_spread([run.ewc for run in runs])),
            "baselines": {name: _flat(mean_and_spread([run.baselines[name] for run in runs])) for name in names},
            "runs": [run.ewc.as_dict() for run in runs],
        }
        return result, telling.told_split(result)
    found = evaluate(
        index,
        labelled_set(args, split_by="image"),
        encoder_folder=args.encoders,
        device=args.device,
        abstain=args.abstain,
        progress=_progress,
    )
    result = {**about, **found.scores.as_dict(), "not_in_index": found.not_in_index, "warnings": found.warnings()}
    return result, telling.told_scores(result)


def _show(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    summary = telling.described(open_index(index_folder(args.name, args.out)))
    return summary, telling.told_index(summary)


def _flat(spread: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Means by their own names, as a single evaluation has them, the deviations beside them under "std"."""
    return {**{k: v["mean"] for k, v in spread.items()}, "std": {k: v["std"] for k, v in spread.items()}}


def _progress(done: int, total: int) -> None:
    """One line that counts up on a terminal; in a log, one at the end."""
    if sys.stderr.isatty() or done == total:
        end = "\r" if sys.stderr.isatty() and done < total else "\n"
        print(f"embedded {done} of {total} cells", end=end, file=sys.stderr, flush=True)


_COMMANDS = {"build": _build, "evaluate": _evaluate, "show": _show}
