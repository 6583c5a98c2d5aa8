"""Does the correction for an index's confusion bring back the true shares, hold its intervals, and notice a shift?

    python benchmarks/correction.py [--assays 200] [--seed 1] [--smoke]

The simulated assays of `intervals.py`, whose cells are called with 15 % confusion; a confusion matrix measured on so
many independent cells a class. One: the error where the plain share is 5 points off or more. Two: coverage of corrected
intervals by (well, time, state) and (arm, time, state), standard errors clustered by assay, and how often a plate is
flagged for nothing. Three: how often it is flagged when live cells are called otherwise than was measured, by the fit
alone; what novelty adds stands in `shifted_cells.py`. Seeded; about two minutes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from share_assays import CLASSES, Assay, Facts, any_facts, clustered, simulate

from cellvigil.response.arms import arm_shares
from cellvigil.response.correction import Confusion, corrected, take_apart, well_shares
from cellvigil.response.correlation import intraclass
from cellvigil.response.shares import plain

HOME = {
    "live": (0.85, 0.09, 0.03, 0.01, 0.02),
    "apoptotic": (0.08, 0.85, 0.04, 0.01, 0.02),
    "necrotic": (0.02, 0.06, 0.85, 0.05, 0.02),
    "debris": (0.02, 0.03, 0.06, 0.85, 0.04),
}
SHIFTS = {
    "none": HOME,
    "fewer live right (0.70), called apoptotic": {**HOME, "live": (0.70, 0.24, 0.03, 0.01, 0.02)},
    "fewer live right (0.70), unknown": {**HOME, "live": (0.70, 0.09, 0.03, 0.01, 0.17)},
    "fewer live right (0.70), everywhere": {**HOME, "live": (0.70, 0.14, 0.06, 0.04, 0.06)},
    "more live right (0.95)": {**HOME, "live": (0.95, 0.03, 0.01, 0.00, 0.01)},
    "more live right (1.00)": {**HOME, "live": (1.00, 0.00, 0.00, 0.00, 0.00)},
}
BIG = Facts(correlation=0.001, fields=4, cells=5000, wells=0.02, controls=6, persistence=0.6)


def confusion(cells: int, seed: int) -> Confusion:
    """HOME as measured on so many cells a class; 0 = exactly."""
    if not cells:
        return Confusion(CLASSES, np.array([HOME[name] for name in CLASSES]) * 1e7)
    random = np.random.default_rng((seed, 3))
    return Confusion(CLASSES, np.array([random.multinomial(cells, HOME[name]) for name in CLASSES]))


def accuracy(seeds: Sequence[int], cells: int) -> None:
    """Wells of 20,000 cells, so that what is left is the method's own error."""
    plain_errors, errors, every = [], [], []
    for seed in seeds:
        assay = simulate(seed, BIG)
        counts = assay.counts(HOME)
        correlation = intraclass(counts, assay.controls)
        first = plain(counts, correlation).value[..., :3] - assay.wells
        second = corrected(counts, confusion(cells, seed), correlation)[0].value[..., :3] - assay.wells
        off = (np.abs(first) >= 0.05) & ~np.isnan(second)
        plain_errors.append(first[off])
        errors.append(second[off])
        every.append(second[~np.isnan(second)])
    first, second = np.concatenate(plain_errors), np.concatenate(errors)
    told = f"measured on {cells} cells a class" if cells else "known exactly"
    print(
        f"{told}: {len(first)} shares with plain 5 points off or more: mean |error| plain {np.abs(first).mean():.3f}"
        f", corrected {np.abs(second).mean():.4f}, mean error {second.mean():+.4f}, within 2 points "
        f"{(np.abs(second) <= 0.02).mean():.3f}; of all {(np.abs(np.concatenate(every)) <= 0.02).mean():.3f}"
    )


def coverage(assays: Sequence[Assay], cells: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {"wells": [], "arms": [], "plain wells": []}
    statuses: Counter[str] = Counter()
    widths = []
    for assay in assays:
        counts = assay.counts(HOME)
        correlation = intraclass(counts, assay.controls)
        matrix = confusion(cells, assay.seed)
        mixtures, status = take_apart(counts, matrix, correlation)
        statuses[status] += 1
        if mixtures is None:
            continue
        ours = well_shares(counts, mixtures, correlation)
        _, _, _, of_arms = arm_shares(counts, assay.arms, mixtures)
        first = plain(counts, correlation)
        for name, made, true in (
            ("wells", ours, assay.wells), ("arms", of_arms, assay.means), ("plain wells", first, assay.wells)
        ):  # fmt: skip
            low, high = made.low[..., :3], made.high[..., :3]
            there = ~np.isnan(low)
            inside = (low <= true + 1e-9) & (true - 1e-9 <= high)
            found[name].append((float(inside[there].sum()), float(there.sum())))
        widths.append(np.nanmean(ours.high - ours.low))
    told = f"{cells} cells a class" if cells else "known exactly"
    figures = {name: clustered(*np.array(rows).T) for name, rows in found.items()}
    text = ", ".join(f"{name} {mean:.3f} +- {error:.3f}" for name, (mean, error) in figures.items())
    rows = int(sum(size for _, size in found["wells"]))
    print(f"{told:>20}: {text}; {rows} well rows, width {np.mean(widths):.3f}; {dict(statuses)}")


def shifts(seeds: Sequence[int], cells: int, size: str) -> None:
    for name, calls in SHIFTS.items():
        statuses: Counter[str] = Counter()
        kept, plain_errors = [], []
        for seed in seeds:
            facts = replace(any_facts(seed), cells=300, fields=3) if size == "rich" else any_facts(seed)
            assay = simulate(seed, facts)
            counts = assay.counts(calls)
            correlation = intraclass(counts, assay.controls)
            ours, status = corrected(counts, confusion(cells, seed), correlation)
            statuses[status] += 1
            live = plain(counts, correlation).value[..., 0] - assay.wells[..., 0]
            plain_errors.append(np.nanmean(live))
            if status == "ok":
                kept.append(np.nanmean(ours.value[..., 0] - assay.wells[..., 0]))
        left = f"{np.mean(kept):+.3f}" if kept else "none"
        print(
            f"{name:>44}: flagged {1 - statuses['ok'] / len(seeds):.3f}; mean error of the live share: plain "
            f"{np.mean(plain_errors):+.3f}, corrected where not flagged {left}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assays", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a few assays: does it run?")
    options = parser.parse_args()
    seeds = [options.seed * 1_000_000 + place for place in range(5 if options.smoke else options.assays)]
    print("error, wells of 20,000 cells")
    for cells in (0, 1000, 300):
        accuracy(seeds[:40], cells)
    print("\ncoverage of the promised 0.95")
    assays = [simulate(seed) for seed in seeds]
    for cells in (0, 500, 150, 50):
        coverage(assays, cells)
    for size in ("rich", "any"):
        print(f"\nshift of live cells, confusion measured on 300 cells a class, {size} wells; flagged by the fit alone")
        shifts(seeds, 300, size)


if __name__ == "__main__":
    main()
