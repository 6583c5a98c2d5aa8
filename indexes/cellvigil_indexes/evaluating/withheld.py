"""Leave-one-class-out: is a cell of a class that the references lack seen to be new? Pure but for one thread.

Each class in turn is taken out of the references. Its cells are held against held-out cells of the classes that are
there: by the raw novelty (mean distance to the k_min nearest), by its conformal p-value for the class that was called,
and by the papers' certainty 1 - H, which was not made for this and is shown for that reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import I64, Bools
from cellvigil.decide import Settings, call, depths, neighbours_needed
from cellvigil.neighbours import ExactSearch
from cellvigil_indexes.evaluating.holdout import Step
from cellvigil_indexes.evaluating.parts import part_of, rows_of
from cellvigil_indexes.measures.selective import auroc
from cellvigil_indexes.splitting import Split
from cellvigil_indexes.threads import one_thread

NOVEL_BELOW = 0.05
"""The p-value below which a cell counts as unknown where the index's calibration says nothing else."""

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Withheld:
    """One class that the references were without."""

    n: int  # its cells
    known: int  # cells of the other classes, each counted once
    auroc: float | None  # of the raw novelty: chance that a cell of the class is further out than a known one
    auroc_p: float | None  # of the p-value, with 1 - p as the novelty
    auroc_papers: float | None  # of the papers' entropy
    unknown: float  # share of its cells with a p-value below the level
    known_unknown: float  # share of the known cells with one: the price
    called_as: dict[str, int]  # what its cells are taken for

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Held-out cells of one split, called without one class."""

    strange: Bools  # of the class that is missing
    novelty: F64
    p: F64  # 1 where there is none
    entropy: F64
    best: I64


def withheld(
    index: ReferenceIndex, splits: Sequence[Split], level: float = NOVEL_BELOW, step: Step | None = None
) -> dict[str, Withheld]:
    """By class name, for the classes of an index of three or more that have held-out cells; empty for fewer classes.

    `splits` are of one deal: their cells are pooled. `level` is the p-value below which a cell counts as unknown.
    """
    there = [class_id for class_id, count in enumerate(index.class_counts) if count]
    if len(there) < 3:
        return {}
    found: dict[str, Withheld] = {}
    with one_thread():
        for done, class_id in enumerate(there, start=1):
            asked = [_without(index, split, class_id) for split in splits]
            if any(part.strange.any() for part in asked):
                found[index.classes[class_id]] = _judged(asked, index.classes, level)
            if step:
                step(done, len(there))
    return found


def _without(index: ReferenceIndex, split: Split, class_id: int) -> _Asked:
    kept = split.reference[index.labels[split.reference] != class_id]
    part = part_of(index, kept)
    settings = Settings.of(part)
    needed = neighbours_needed(part, settings)
    search = ExactSearch.over(part)
    near = search.nearest(rows_of(index, split.validation), needed, depths(settings, len(part)))
    calls = call(near.ids, near.distances, part, settings)
    return _Asked(
        strange=np.asarray(index.labels[split.validation] == class_id),
        novelty=near.distances[:, : part.k_min].mean(axis=1).astype(np.float64),
        p=np.nan_to_num(calls.novelty_p.astype(np.float64), nan=1.0),
        entropy=calls.entropy.astype(np.float64),
        best=calls.best_ids.astype(np.int64),
    )


def _judged(parts: Sequence[_Asked], classes: Sequence[str], level: float) -> Withheld:
    strange, novelty, p, entropy, best = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("strange", "novelty", "p", "entropy", "best")
    )
    taken = np.bincount(best[strange], minlength=len(classes))
    return Withheld(
        n=int(strange.sum()),
        known=int((~strange).sum()),
        auroc=auroc(novelty[strange], novelty[~strange]),
        auroc_p=auroc(-p[strange], -p[~strange]),
        auroc_papers=auroc(entropy[strange], entropy[~strange]),
        unknown=float(np.mean(p[strange] < level)),
        known_unknown=float(np.mean(p[~strange] < level)) if (~strange).any() else 0.0,
        called_as={classes[i]: int(taken[i]) for i in np.argsort(-taken, kind="stable") if taken[i]},
    )
