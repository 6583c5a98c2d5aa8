"""Options that say how an alignment is fitted, for `align` and `evaluate --align`. Runs nothing."""

from __future__ import annotations

import argparse

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.settings import VOTINGS
from cellvigil_indexes.carrying import CHOICES, MODES, Asked

_OF_TYPES = ("no_filter", "unmatched", "voting", "references_by", "weight", "alpha", "graph_k")
_OF_FIT = ("present", *_OF_TYPES)


def add_fit(command: argparse.ArgumentParser) -> None:
    """How the fit is made."""
    add = command.add_argument
    add("--mode", choices=MODES, help="types: classes are found out, and those that are not there dropped (default); "
        "states: the device's shift alone, from cells of --present")  # fmt: skip
    add("--present", action="append", default=[], metavar="CLASS,...", help="states: classes that the target's cells "
        "are of (default: those of the group alive); again for more")  # fmt: skip
    add("--no-filter", action="store_true", help="types: keep every class of the index")
    add("--unmatched", action=argparse.BooleanOptionalAction, help="types, auto: make a new class of clusters that "
        "seem to be of none (default: only say so)")  # fmt: skip
    add("--voting", choices=VOTINGS, help="types: who votes (default: chosen; docs/alignment.md)")
    add(
        "--references-by",
        metavar="RULE",
        help="types: map labelled data sets apart, told by this expression over paths",
    )
    add("--weight", action="append", default=[], type=_weight, metavar="ENCODER=W", help="types: what an "
        "encoder weighs in the vote (default: 1); again for more")  # fmt: skip
    add(
        "--alpha",
        type=_part,
        metavar="SHARE",
        help="of the transport: structure against features, 0 to 1 (auto: 0.1; fgw: 0.5)",
    )
    add("--graph-k", type=int, metavar="K", help="neighbours in the graphs of cells (default: 15)")


def asked_of(index: ReferenceIndex, args: argparse.Namespace, method: str) -> Asked:
    """What was asked for. Raises UsageError for options that contradict each other, or the index."""
    mode = args.mode or "types"
    if method not in CHOICES[mode]:
        raise UsageError(f"--align {method!r} is none of {', '.join(CHOICES[mode])}, which --mode {mode} has")
    if args.graph_k is not None and args.graph_k < 2:
        raise UsageError(f"--graph-k {args.graph_k}: a graph needs 2 neighbours a cell or more")
    if mode == "types" and args.present:
        raise UsageError("--present is for --mode states", hint="with types, the classes there are found out")
    if mode == "states" and (idle := [f"--{name.replace('_', '-')}" for name in _OF_TYPES if getattr(args, name)]):
        what = f"{', '.join(idle)} is for --mode types"
        raise UsageError(what, hint="no state is ever dropped, clustered or transported")
    return Asked(
        mode=mode,
        method=method,
        present=_present(index, args.present) if mode == "states" else (),
        filters=not args.no_filter,
        unmatched=bool(args.unmatched),
        voting=args.voting,
        references_by=args.references_by,
        alpha=args.alpha,
        graph_k=args.graph_k,
        weights=_weights(index, args.weight),
        seed=args.seed,
    )


def options_given(args: argparse.Namespace) -> list[str]:
    """The options of a fit that were given, as they are typed."""
    names = [name for name in _OF_FIT if getattr(args, name) not in (None, False, [])]
    return [f"--{name.replace('_', '-')}" for name in [*(["mode"] if args.mode else []), *names]]


def _present(index: ReferenceIndex, given: list[str]) -> tuple[str, ...]:
    own = {name.casefold(): name for name in index.classes}
    named = [part.strip() for text in given for part in ([text] if text.casefold() in own else text.split(","))]
    if unknown := [name for name in named if name.casefold() not in own]:
        what = f"--present names {', '.join(unknown)}, and the index has {', '.join(index.classes)}"
        raise UsageError(what, hint="give classes of the index")
    present = dict.fromkeys(own[name.casefold()] for name in named)
    present = present or dict.fromkeys(name for name in index.classes if index.groups[name] == "alive")
    if not present:
        raise UsageError("no class of this index counts as alive", hint="name the classes there with --present")
    return tuple(present)


def _weights(index: ReferenceIndex, given: list[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    names = [encoder.name for encoder in index.encoders]
    if unknown := [name for name, _ in given if name not in names]:
        raise UsageError(f"--weight names {', '.join(unknown)}, and the index is called by {', '.join(names)}")
    return tuple(dict(given).items())


def _weight(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not name or not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form efficientnet-lite0=2")
    return name, value


def _part(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1")
    return value
