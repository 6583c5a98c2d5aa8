"""Which classes of a reference a target has, told without the target's labels: section 3.2 of the transfer paper.

For cell types, never for cell states (`methods.md`): a class that is dropped can no longer be called.

The paper's way is `SharingSettings.letter()`: clusters of the encoders' vectors, matched by cosines (appendix A), and a
class that no cluster matches is dropped. Its own tables 1 and 2 show where that goes wrong, and both errors do not cost
the same: dropping a class that is there costs all of its cells, keeping one that is not costs a few. So by default
clusters are sought and matched along the axes of `common_axes`, both by the paper's algorithm and by Louvain's, a
second opinion is asked that needs no clusters (`mixture`), and a class is dropped only where all agree that it is not
there: no run's cluster matches it, and its estimated share is below 2 %.

Filtering may itself be untrustworthy, and the two opinions show it: where a cluster's match and the mixture name the
same class for fewer than 60 % of the matched cells, nothing is dropped. On made targets (`benchmarks/align_sharing.py`:
halves of `pbc`, altered pictures; 1 to 8 classes in random shares) that refuses half of the cases, in which 20 % of the
classes that are there would have been dropped; in the others 1.5 % are, with 0.8 % of the cells. `pbc` and `bccd` are
refused in both directions, rightly. Nothing is dropped either where one class alone is found: clusters and mixture that
fell into one clump agree on it (`pbc` to `bccd`, 26 um, four turns: all neutrophil), and where a target did have one
class it was now and then the wrong one that they agreed on. Whether such a fit is taken is for `choosing` to say.

Pure but for its own seeded draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cellvigil.data import F32, I32, Bools, Embeddings
from cellvigil_indexes.aligning.sharing.clusters import check_size
from cellvigil_indexes.aligning.sharing.common_axes import Common
from cellvigil_indexes.aligning.sharing.matching import match, shared_encoders
from cellvigil_indexes.aligning.sharing.mixture import Mixture, mixture_of
from cellvigil_indexes.aligning.sharing.propagating import UNLABELLED, propagated
from cellvigil_indexes.aligning.sharing.refining import refine
from cellvigil_indexes.aligning.sharing.runs import Run, Sides, runs_of, sides_of
from cellvigil_indexes.aligning.sharing.settings import AXES, LETTER, LOUVAIN, PAPER, SharingSettings
from cellvigil_indexes.aligning.sharing.told import Opinions, agreement, told_of
from cellvigil_indexes.aligning.values import F64, Clusters, Matches, Shared
from cellvigil_indexes.bank import Bank

__all__ = ["AXES", "LETTER", "LOUVAIN", "PAPER", "SharingSettings", "shared_classes"]


def shared_classes(
    bank: Bank, target: Embeddings, settings: SharingSettings | None = None, *, others: Sequence[Embeddings] = ()
) -> Shared:
    """Which classes of the reference `bank` the target's cells (M, d_e) are of.

    `others` are further unlabelled data sets of such cells, of any device, for the refinement (`refining`). A reference
    of one class, or none of whose classes is found, is kept whole, and `told` says so ("kept_whole"). Where clusters
    and mixture disagree (`told["confidence"]` below `least_agreement`) the same holds, and no cell is `unmatched`:
    what lies far from every class may then just as well be a shift that was not understood.

    Raises UsageError for a target with no encoder in common, or with fewer cells than one cluster needs.
    """
    settings = settings or SharingSettings()
    names = shared_encoders(target, bank)
    check_size(min(len(target[names[0]]), settings.subset), settings.clusters)
    sides = sides_of(bank, target, names, settings)
    runs = list(runs_of(bank, target, sides, settings))
    runs = _refined(runs, bank, sides, others, settings)
    votes = _votes(runs, bank)
    mixture = mixture_of(Common(sides.target, sides.reference)) if _mixes(sides, settings) else None
    return _judged(bank, sides, runs, votes, mixture, settings=settings)


def _mixes(sides: Sides, settings: SharingSettings) -> bool:
    return sides.axes and settings.least_share is not None


def _refined(
    runs: list[Run], bank: Bank, sides: Sides, others: Sequence[Embeddings], settings: SharingSettings
) -> list[Run]:
    """The runs with their clusters relabelled by those of further data sets; as they are, without any."""
    if not others:
        return runs
    plain = replace(settings, runs=1)
    further = [one.matches for other in others for one in _foreign(bank, other, plain)]
    own = _own(sides, settings)
    least = settings.matching.least_probability
    found = [refine(run.matches, further, own, least=least, seed=settings.seed).best for run in runs]
    return [replace(run, matches=replace(run.matches, best=best)) for run, best in zip(runs, found, strict=True)]


def _foreign(bank: Bank, other: Embeddings, settings: SharingSettings) -> list[Run]:
    """One run of another data set, by the first method."""
    names = shared_encoders(other, bank)
    check_size(min(len(other[names[0]]), settings.subset), settings.clusters)
    first = replace(settings, methods=settings.methods[:1])
    return list(runs_of(bank, other, sides_of(bank, other, names, first), first))


def _own(sides: Sides, settings: SharingSettings) -> Matches:
    """The reference's classes against themselves: the labelled points of figure 4."""
    reference = sides.reference
    labels = reference.labels.astype(np.int32)
    clusters = Clusters(labels, tuple(np.flatnonzero(labels == one) for one in range(len(reference.classes))))
    return match(reference.embeddings, clusters, reference, settings.matching)


def _votes(runs: Sequence[Run], bank: Bank) -> F64:
    """Share of the runs in which some cluster, by any method, matched each class, (classes,)."""
    found: dict[bytes, set[int]] = {}
    for run in runs:
        found.setdefault(run.rows.tobytes(), set()).update(int(one) for one in run.matches.best if one >= 0)
    hits = np.zeros(len(bank.classes))
    for classes in found.values():
        hits[sorted(classes)] += 1.0
    return hits / len(found)


def _judged(
    bank: Bank, sides: Sides, runs: Sequence[Run], votes: F64, mixture: Mixture | None, *, settings: SharingSettings
) -> Shared:
    last = [run for run in runs if run.method == settings.methods[0]][-1]
    labels = _of_all(sides.vectors, last, settings)
    opinions = Opinions(
        votes,
        (votes > 0) & (votes >= settings.least_votes),
        None if mixture is None else mixture.shares,
        None if mixture is None else mixture.shares >= (settings.least_share or 0.0),
        None if mixture is None else agreement(last.matches.best[labels], mixture.labels),
    )
    there = bank.class_counts > 0
    seen = there & opinions.either
    why = _whole(there, seen, opinions.agreement, settings)
    kept = there if why else seen
    clusters = Clusters(labels, tuple(last.rows[rows] for rows in last.clusters.central), last.clusters.sparse)
    best = np.where(last.off < settings.reach, last.matches.best, -1).astype(np.int32)
    trusted = opinions.agreement is None or (
        opinions.agreement >= settings.least_agreement and np.count_nonzero(seen) != 1
    )
    unmatched = np.flatnonzero((best[labels] < 0) & trusted).astype(np.int64)
    told = told_of(bank.classes, opinions, runs=len({run.rows.tobytes() for run in runs}), kept_whole=why)
    return Shared(
        tuple(name for name, one in zip(bank.classes, kept, strict=True) if one),
        tuple(name for name, one in zip(bank.classes, kept, strict=True) if not one),
        clusters,
        replace(last.matches, best=best),
        dict(zip(bank.classes, votes.tolist(), strict=True)),
        unmatched,
        told,
    )


def _whole(there: Bools, seen: Bools, agreed: float | None, settings: SharingSettings) -> str:
    """Why every class is kept, whatever was found; "" where it is not."""
    if np.count_nonzero(there) < 2:
        return "the reference has one class"
    if not seen.any():
        return "no class was found"
    if agreed is not None and agreed < settings.least_agreement:
        return f"clusters and mixture agree on {agreed:.0%} of the cells only"
    if agreed is not None and np.count_nonzero(seen) == 1:
        return "one class alone was found, and one clump of cells looks like that whatever it is"
    return ""


def _of_all(vectors: F32, run: Run, settings: SharingSettings) -> I32:
    """Cluster ids of all cells of the target, (M,): those that were not in the run are called by those that were."""
    labels = np.full(len(vectors), UNLABELLED, dtype=np.int32)
    labels[run.rows] = run.clusters.labels
    return propagated(vectors, labels, settings.clusters.depth)
