"""Do 95 % intervals of shares hold what they promise? Simulated assays, whose true shares are known.

    python benchmarks/intervals.py [--assays 600] [--seed 1] [--smoke]

Each assay draws its correlation of cells in a field (0.02 to 0.15), fields a well (1 to 4), cells a field (20 to 300),
spread of wells (0.005 to 0.05), control wells (3 to 12) and persistence over time; it has arms of 1 to 8 wells with
courses of their own, debris and missing fields. Counted by (well, time, state): does the interval hold the share that
infinitely many fields of the well would show? By (arm, time, state): that of infinitely many wells? Standard errors are
clustered by assay. Beside ours, what one would do at first. Seeded; about 10 s.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit
from scipy.stats import binom
from share_assays import ARM_WELLS, Assay, any_facts, clustered, simulate, stressed

from cellvigil.response.arms import arm_shares
from cellvigil.response.correlation import NOTHING_KNOWN, Correlation, intraclass
from cellvigil.response.intervals import NORMAL, wilson_ends
from cellvigil.response.shares import plain
from cellvigil.response.values import F64, Bools

SHARES = (0, 0.03, 0.1, 0.3, 0.7, 0.9, 1)


@dataclass(frozen=True, eq=False)
class Rows:
    """Intervals of one assay, one a row."""

    assay: Assay
    covered: Mapping[str, F64]  # by way: 1 where it holds the truth
    width: F64  # of ours
    true: F64
    arm: F64  # wells of the arm; NaN for intervals of wells


def wells(assay: Assay, correlation: Correlation | None = None) -> Rows:
    counts = assay.counts()
    ours = plain(counts, correlation or intraclass(counts, assay.controls))
    share = ours.value[..., :3]
    total = counts.total("alive", "dying", "dead")[..., None] * np.ones(3)
    cells = [binom.ppf(level, total, np.nan_to_num(share)) / np.maximum(total, 1) for level in (0.025, 0.975)]
    ways = {"ours": (ours.low[..., :3], ours.high[..., :3]), "binomial": wilson_ends(share, total, NORMAL)}
    return rows(assay, {**ways, "over cells": (cells[0], cells[1])}, assay.wells, np.full(share.shape, np.nan))


def arms(assay: Assay) -> Rows:
    counts = assay.counts()
    names, sizes, ours, _ = arm_shares(counts, assay.arms, None)
    share = plain(counts, NOTHING_KNOWN).value[..., :3]
    found = [over_wells(share[np.array(assay.arms) == name]) for name in names]
    ways = {
        "ours": (ours.low[..., :3], ours.high[..., :3]),
        "over wells": (np.stack([each[0] for each in found]), np.stack([each[1] for each in found])),
        "t of wells": (np.stack([each[2] for each in found]), np.stack([each[3] for each in found])),
    }
    return rows(assay, ways, assay.means, np.broadcast_to(sizes[:, None, None], assay.means.shape).astype(float))


def only(found: Rows, wanted: Callable[[F64], Bools]) -> Rows:
    """The arms whose number of wells is wanted."""
    keep = wanted(found.arm)
    covered = {way: inside[keep] for way, inside in found.covered.items()}
    return Rows(found.assay, covered, found.width[keep], found.true[keep], found.arm[keep])


def over_wells(share: F64) -> tuple[F64, F64, F64, F64]:
    """Ends of a percentile bootstrap and of Student's t over wells (n, T, 3), as one would at first."""
    size = len(share)
    if size < 2:
        nothing = np.full(share.shape[1:], np.nan)
        return nothing, nothing, nothing, nothing
    known = np.where(np.isnan(share), np.nanmean(share), share)  # a missing well is rare, and the naive ways' affair
    weights = np.random.default_rng(0).multinomial(size, np.full(size, 1 / size), size=500) / size
    low, high = np.quantile(np.tensordot(weights, known, axes=1), (0.025, 0.975), axis=0)
    middle, half = known.mean(axis=0), stdtrit(size - 1, 0.975) * known.std(axis=0, ddof=1) / np.sqrt(size)
    return low, high, middle - half, middle + half


def rows(assay: Assay, ways: Mapping[str, tuple[F64, F64]], true: F64, arm: F64) -> Rows:
    low, high = ways["ours"]
    there = ~np.isnan(low)
    covered = {name: ((a <= true + 1e-9) & (true - 1e-9 <= b))[there].astype(float) for name, (a, b) in ways.items()}
    return Rows(assay, covered, (high - low)[there], true[there], arm[there])


def report(title: str, found: Sequence[Rows], by: Iterable[str]) -> None:
    head(title, found)
    line("all", [(each, np.ones(len(each.width), dtype=np.bool_)) for each in found])
    for name in by:
        levels = [getattr(each.assay.facts, name) for each in found]
        for level in sorted(set(levels)):
            line(
                f"{name} {level:g}",
                [(each, each.width >= 0) for each, own in zip(found, levels, strict=True) if own == level],
            )
    for low, high in itertools.pairwise(SHARES):
        line(f"true share {low:g} to {high:g}", [(each, (each.true >= low) & (each.true < high)) for each in found])


def head(title: str, found: Sequence[Rows]) -> None:
    print(f"\n{title}: {sum(len(each.width) for each in found)} intervals of {len(found)} assays")
    print(f"{'':>24}" + "".join(f"{way:>16}" for way in found[0].covered) + "   width of ours")


def line(title: str, chosen: Sequence[tuple[Rows, Bools]]) -> None:
    """One row of the table: of each assay the intervals that are meant."""
    sizes = np.array([keep.sum() for _, keep in chosen], dtype=float)
    if not sizes.sum():
        return
    cells = []
    for way in chosen[0][0].covered:
        mean, error = clustered(np.array([each.covered[way][keep].sum() for each, keep in chosen]), sizes)
        cells.append(f"{mean:.3f} +- {error:.3f}")
    width = np.concatenate([each.width[keep] for each, keep in chosen]).mean()
    print(f"{title:>24}" + "".join(f"{cell:>16}" for cell in cells) + f"   {width:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assays", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a few assays: does it run?")
    options = parser.parse_args()
    seeds = [options.seed * 1_000_000 + place for place in range(8 if options.smoke else options.assays)]
    assays = [simulate(seed, any_facts(seed)) for seed in seeds]
    report(
        "wells",
        [wells(each) for each in assays],
        ("fields", "correlation", "cells", "wells", "controls", "persistence"),
    )
    by_arm = [arms(each) for each in assays]
    several = [only(each, lambda sizes: sizes > 1) for each in by_arm]
    report("arms of 2 to 12 wells", several, ("correlation", "wells", "fields", "controls"))
    for size in ARM_WELLS:
        line(f"arms of {size}", [(each, np.equal(each.arm, size)) for each in by_arm])
    report("wells where nothing is known", [wells(each, NOTHING_KNOWN) for each in assays], ("correlation",))
    print("\nOutside the promise: cells of treated wells resemble each other half as much again as those of controls")
    harder = [simulate(seed, stressed(seed)) for seed in seeds]
    report("wells", [wells(each) for each in harder], ("fields",))
    report("arms of 2 to 12 wells", [only(arms(each), lambda sizes: sizes > 1) for each in harder], ())


if __name__ == "__main__":
    main()
