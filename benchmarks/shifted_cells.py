"""Does the correction notice cells that its confusion was not measured on? Cells as points, called by their neighbours.

    python benchmarks/shifted_cells.py [--plates 20] [--seed 1] [--smoke]

Four classes of points (Gaussian, 12 dimensions, groups that differ a little), which neighbours confuse. The confusion
and the novelty p-values come from leaving whole groups out, as an index's do. Then plates of 20 wells, whose live
cells have moved: towards the apoptotic ones, or to a side, by a share of the distance between those two classes.
Printed: how often the live cells are called right, the share of control cells with a novelty p-value of at most 0.1,
how often the plate is flagged, by what, and the error of the live share where it is not. Control wells begin with 13
% dying or dead, or with 5 %. Seeded; a minute or two.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np
from share_assays import CLASSES, GROUPS, STATES

from cellvigil.response.correction import Confusion, corrected
from cellvigil.response.correlation import intraclass
from cellvigil.response.shares import plain
from cellvigil.response.values import F64, Ints, PlateCounts

DIMENSIONS, NEIGHBOURS, NEAR = 12, 15, 5
CENTRES = np.zeros((4, DIMENSIONS))
CENTRES[1, 0], CENTRES[2, 1], CENTRES[3, [1, 2]] = 2.6, 2.8, (1.6, 2.4)
GROUP_CELLS, GROUPS_A_CLASS, GROUP_SPREAD = 40, 10, 0.25
WELLS, CONTROLS, FIELDS, FIELD_CELLS = 20, 6, 2, 100
REJECTS = 0.01  # novelty p-value below which a cell is unknown, on the index's own device


@dataclass(frozen=True, eq=False)
class Index:
    """Reference cells and what leaving their groups out says of them."""

    cells: F64  # (N, D)
    labels: Ints  # (N,)
    groups: Ints  # (N,)
    novelty: F64  # (N,) mean distance to the nearest of other groups
    confusion: Confusion

    def call(self, cells: F64, *, rejects: bool) -> tuple[Ints, F64]:
        """(n,) class called, 4 = unknown, and (n,) novelty p-value against references of the class called."""
        called, distance = vote(self, cells, np.full(len(cells), -1))
        far = [np.sort(self.novelty[self.labels == place]) for place in range(4)]
        above = np.array([len(far[c]) - np.searchsorted(far[c], d) for c, d in zip(called, distance, strict=True)])
        p = (above + 1) / (np.array([len(each) for each in far])[called] + 1)
        return np.where(rejects & (p <= REJECTS), 4, called), p


def vote(index: Index, cells: F64, groups: Ints) -> tuple[Ints, F64]:
    """(n,) most frequent label of the nearest references of other groups, and (n,) mean distance to the nearest few."""
    square = (cells**2).sum(1)[:, None] - 2 * cells @ index.cells.T + (index.cells**2).sum(1)
    square[groups[:, None] == index.groups] = np.inf
    nearest = np.argpartition(square, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    votes = np.stack([(index.labels[nearest] == place).sum(1) for place in range(4)], axis=1)
    near = np.sort(np.take_along_axis(square, nearest, 1), axis=1)[:, :NEAR]
    return votes.argmax(1), np.sqrt(np.maximum(near, 0)).mean(1)


def build(random: np.random.Generator, *, rejects: bool) -> Index:
    labels = np.repeat(np.arange(4), GROUPS_A_CLASS * GROUP_CELLS)
    groups = np.repeat(np.arange(4 * GROUPS_A_CLASS), GROUP_CELLS)
    shift = random.normal(0, GROUP_SPREAD, (4 * GROUPS_A_CLASS, DIMENSIONS))
    cells = CENTRES[labels] + shift[groups] + random.normal(0, 1, (len(labels), DIMENSIONS))
    blank = Index(cells, labels, groups, np.zeros(len(labels)), Confusion(CLASSES, np.eye(4, 5)))
    called, distance = vote(blank, cells, groups)
    own = np.array([(distance[labels == c] >= d).mean() for c, d in zip(called, distance, strict=True)])
    called = np.where(rejects & (own <= REJECTS), 4, called)
    table = np.zeros((4, 5))
    np.add.at(table, (labels, called), 1)
    return Index(cells, labels, groups, distance, Confusion(CLASSES, table / 2))  # two cells of a group tell as one


def plate(
    random: np.random.Generator, index: Index, move: F64, dying: float, *, rejects: bool
) -> tuple[PlateCounts, F64, float, float]:
    """Counts, (W,) true live share, share of live cells called right, share of control cells that are novel."""
    dead = np.where(np.arange(WELLS) < CONTROLS, dying / 2, random.uniform(0.1, 0.9, WELLS))
    shares = np.stack([(1 - dead) * 0.9, dying + 0 * dead, dead * 0.9, 0.02 + 0 * dead], axis=1)
    shares /= shares.sum(1, keepdims=True)
    wells = np.repeat(np.arange(WELLS * FIELDS), FIELD_CELLS)
    of_fields = np.repeat(shares, FIELDS, axis=0)
    drawn = random.standard_gamma(of_fields * 19)  # intra-class correlation 0.05
    drawn /= drawn.sum(1, keepdims=True)
    true = np.concatenate([random.choice(4, FIELD_CELLS, p=row) for row in drawn])
    shift = random.normal(0, GROUP_SPREAD, (WELLS * FIELDS, DIMENSIONS))
    cells = CENTRES[true] + (true == 0)[:, None] * move + shift[wells] + random.normal(0, 1, (len(true), DIMENSIONS))
    called, p = index.call(cells, rejects=rejects)
    table = np.zeros((WELLS * FIELDS, 5), dtype=np.int32)
    np.add.at(table, (wells, called), 1)
    shape = (WELLS, 1)
    counts = PlateCounts(
        tuple(map(str, range(WELLS))), (0,), STATES, GROUPS, np.zeros(shape), table.reshape(WELLS, 1, FIELDS, 5),
        np.ones((*shape, FIELDS), dtype=np.bool_), np.ones(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int32),
    )  # fmt: skip
    control = wells < CONTROLS * FIELDS
    return (
        counts,
        shares[:, 0] / shares[:, :3].sum(1),
        float((called == 0)[true == 0].mean()),
        float((p <= 0.1)[control].mean()),
    )


def line(seeds: range, axis: int, amount: float, dying: float, *, rejects: bool) -> str:
    """One row of the table: plates whose live cells moved by `amount` along `axis`."""
    statuses: Counter[str] = Counter()
    controls = np.arange(WELLS) < CONTROLS
    right, novel, first, second = [], [], [], []
    for seed in seeds:
        random = np.random.default_rng((seed, 5))
        index = build(random, rejects=rejects)
        move = np.zeros(DIMENSIONS)
        move[axis] = amount * CENTRES[1, 0]
        counts, true, hits, far = plate(random, index, move, dying, rejects=rejects)
        correlation = intraclass(counts, controls)
        found, status = corrected(counts, index.confusion, correlation, novel=far, controls=controls)
        statuses[status] += 1
        right.append(hits)
        novel.append(far)
        first.append(np.nanmean(plain(counts, correlation).value[:, 0, 0] - true))
        if status == "ok":
            second.append(np.nanmean(found.value[:, 0, 0] - true))
    side = "towards apoptotic" if axis == 0 else "to a side"
    left = f"{np.mean(second):+.3f}" if second else "  none"
    flags = "  ".join(f"{statuses[name] / len(seeds):>8.2f}" for name in ("shifted", "residual", "ok"))
    return (
        f"{side:>18} {amount:4.2f}  {np.mean(right):.3f}  {np.mean(novel):.3f}  {flags}   {np.mean(first):+.3f}  {left}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="two plates a row: does it run?")
    options = parser.parse_args()
    seeds = range(options.seed * 1000, options.seed * 1000 + (2 if options.smoke else options.plates))
    for rejects, dying in ((False, 0.08), (True, 0.08), (False, 0.03)):
        told = "novel cells become unknown" if rejects else "novelty rejects nothing"
        print(f"\n{told}; {1.5 * dying:.0%} of the control cells dying or dead; {len(seeds)} plates a row")
        print(
            f"{'live cells moved':>23}  right  novel   shifted  residual        ok    plain  corrected where ok (live)"
        )
        for axis, amount in ((0, 0.0), (0, 0.15), (0, 0.3), (0, 0.5), (3, 0.3), (3, 0.6), (3, 1.0), (3, 1.5)):
            print(line(seeds, axis, amount, dying, rejects=rejects))


if __name__ == "__main__":
    main()
