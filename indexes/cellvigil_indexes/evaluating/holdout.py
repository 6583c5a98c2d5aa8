"""Cells of an index called by its others: splits and folds, with plain methods beside. Prints and writes nothing.

A deal is one seed's way to part the cells. In folds every cell is called once by cells that had no part in it; the
figures of a deal are of all its cells together, those of several deals give a mean and a standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import F32, I16, I64, Embeddings, frozen_array
from cellvigil.decide import Rejection
from cellvigil.errors import UsageError
from cellvigil_indexes.baselines import Baseline
from cellvigil_indexes.baselines.neighbours import knn_chosen
from cellvigil_indexes.calling import scale_of
from cellvigil_indexes.evaluating.answers import Answers, answers_of, joined
from cellvigil_indexes.evaluating.certifying import Caller, plain
from cellvigil_indexes.evaluating.parts import call, rows_of
from cellvigil_indexes.settings import settings_of
from cellvigil_indexes.splitting import Split, folds, held_out, units_of
from cellvigil_indexes.threads import one_thread

Step = Callable[[int, int], None]
"""Told (splits done, splits in all)."""

Make = Callable[[ReferenceIndex, I64, int], Caller]
"""(index, rows to build of, seed) -> what calls the others. It may tune and calibrate, on those rows alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Deal:
    """What one seed gave. Row i of everything is the cell rows[i]."""

    rows: I64  # (n,) of the index
    answers: Answers  # of the index's own method
    plain: Mapping[str, I16]  # baseline -> class ids (n,)


def split_once(index: ReferenceIndex, *, share: float, by: str, seeds: int) -> list[list[Split]]:
    """For each seed one split that holds out this share of the cells, by "cell" or by "group".

    Raises UsageError for no seed, and for an index too small to be split so.
    """
    _check_seeds(seeds)
    units = units_of(index.cell_groups, by)
    deals = []
    for seed in range(seeds):
        held = held_out(index.labels, units, share, seed)
        if not 0 < len(held) < len(index):
            what = f"{len(index)} cells in {len(np.unique(units))} parts cannot be split so"
            raise UsageError(what, hint="more cells or groups, or another --split")
        deals.append([Split(np.setdiff1d(np.arange(len(index)), held), held)])
    return deals


def split_in_folds(index: ReferenceIndex, *, k: int, by: str, seeds: int) -> list[list[Split]]:
    """For each seed k folds, by "cell" or by "group". Raises UsageError for no seed, and as `splitting.folds` does."""
    _check_seeds(seeds)
    units = units_of(index.cell_groups, by)
    return [folds(index.labels, units, k, seed, index.classes) for seed in range(seeds)]


def dealt(
    index: ReferenceIndex,
    deals: Sequence[Sequence[Split]],
    baselines: Mapping[str, Baseline],
    make: Make = plain,
    *,
    rejection: Rejection | None = None,
    step: Step | None = None,
) -> list[Deal]:
    """Call the held-out cells of every deal; `make` builds what calls them, `rejection` makes cells unknown.

    Raises UsageError as a baseline does.
    """
    total, found = sum(len(deal) for deal in deals), []
    with one_thread():
        for seed, deal in enumerate(deals):
            parts = []
            for split in deal:
                caller = make(index, split.reference, seed)
                parts.append(_called(index, split, baselines, caller, rejection=rejection, seed=seed))
                if step:
                    step(sum(len(d) for d in deals[:seed]) + len(parts), total)
            found.append(_together(parts))
    return found


def vectors_of(index: ReferenceIndex, rows: I64, queries: Embeddings) -> tuple[F32, F32]:
    """Concatenated vectors of the encoders in use, scaled as the index says but measured on `rows` alone.

    (len(rows), d) and (n, d) f32; their squared L2 is the index's, whatever its metric.
    """
    settings = replace(settings_of(index.manifest), metric="l2")
    fit, asked = [], []
    for encoder in index.encoders:
        block = np.asarray(index.embeddings[encoder.name][rows], dtype=np.float32)
        factor = np.float32(np.sqrt(scale_of(block, settings)))
        fit.append(block * factor)
        asked.append(np.asarray(queries[encoder.name], dtype=np.float32) * factor)
    return np.hstack(fit), np.hstack(asked)


def _called(
    index: ReferenceIndex,
    split: Split,
    baselines: Mapping[str, Baseline],
    caller: Caller,
    *,
    rejection: Rejection | None,
    seed: int,
) -> Deal:
    asked, queries = split.validation, rows_of(index, split.validation)
    calls = call(caller.index, queries, rejection)
    sets = None if caller.sets is None else call(caller.sets, queries).conformal_set
    truth = frozen_array(index.labels[asked])
    whole = not np.isin(index.cell_groups[asked], index.cell_groups[split.reference]).any()
    plain = plain_calls(index, split.reference, queries, baselines, seed, of_other_groups=whole)
    return Deal(asked, answers_of(calls, truth, sets), plain)


def plain_calls(
    index: ReferenceIndex,
    rows: I64,
    queries: Embeddings,
    baselines: Mapping[str, Baseline],
    seed: int = 0,
    *,
    of_other_groups: bool = True,
) -> dict[str, I16]:
    """What each baseline, fitted on these rows, calls the queries: class ids (n,) by name.

    `of_other_groups`: no query is of a group that the rows have, so k-NN chooses its k without groups, too.
    """
    if not baselines:
        return {}
    if of_other_groups:
        left_out = partial(knn_chosen, groups=index.cell_groups[rows])
        baselines = {name: left_out if method is knn_chosen else method for name, method in baselines.items()}
    fit, asked = vectors_of(index, rows, queries)
    labels, classes = np.asarray(index.labels[rows]), len(index.classes)
    return {
        name: method(fit, labels, asked, classes, seed).argmax(axis=1).astype(np.int16)
        for name, method in baselines.items()
    }


def _together(parts: Sequence[Deal]) -> Deal:
    names = parts[0].plain
    return Deal(
        rows=np.concatenate([part.rows for part in parts]),
        answers=joined([part.answers for part in parts]),
        plain={name: np.concatenate([part.plain[name] for part in parts]) for name in names},
    )


def _check_seeds(seeds: int) -> None:
    if seeds < 1:
        raise UsageError("--seeds must be 1 or more")
