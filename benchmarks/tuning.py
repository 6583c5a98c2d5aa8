"""Choosing encoders and settings: `tune`'s search beside an HNSW index rebuilt and searched for every subset.

    python benchmarks/tuning.py [--all] [--rounds 3] [--canberra]

13,000 reference and 1,300 validation cells, six encoders of 256 to 1,536 dimensions (5,376 together), 63 subsets x
3 k_min x 3 k_max x 4 thresholds. The vectors are made up (eight classes of normal clouds, seeded): speed does not
depend on what they mean. Each round of ours is a fresh process, whose peak memory counts vectors and all; the HNSW
side (FAISS, M 32, efConstruction 40, efSearch 1,000, the 1,000 nearest of every cell) takes turns with the rounds. Its
depths, votes and scores are not timed. Without --all it builds two subsets a size, drawn with a fixed seed (one where
there is one), and each size's mean stands for all subsets of the size.

Targets: 20 times faster, peak memory at most 4 GiB, and on a small case the same scores and choice as `slow_choice`,
which builds an exact index for every trial.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from math import comb
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "indexes", "tests")]

import faiss  # noqa: E402 - found beside what the path set above brings
import numpy as np  # noqa: E402

from cellvigil_indexes.bank import Bank  # noqa: E402
from cellvigil_indexes.splitting import Split, folds, units_of  # noqa: E402
from cellvigil_indexes.tuning.choose import choose  # noqa: E402
from cellvigil_indexes.tuning.grid import Grid, power_set  # noqa: E402
from tuning_cells import made_up, slow_choice  # noqa: E402

DIMENSIONS = (256, 512, 768, 1024, 1280, 1536)
CLASSES = 8
REFERENCES, VALIDATION = 13_000, 1_300
GRID = Grid((3, 10, 33), (100, 300, 1000), (0.1, 0.2, 0.3, 0.6), reweight=(True,), scaling=("none",))
FASTER, MEMORY_GIB = 20, 4


def cells() -> Bank:
    """Made-up vectors with class structure, and cells on the borders."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, REFERENCES + VALIDATION)
    blocks = {}
    for dimension in DIMENSIONS:
        block = rng.standard_normal((len(labels), dimension), dtype=np.float32)
        block += 0.12 * rng.standard_normal((CLASSES, dimension), dtype=np.float32)[labels]
        blocks[f"e{dimension}"] = block
    return Bank(tuple("abcdefgh"), blocks, labels.astype(np.int16), np.arange(len(labels), dtype=np.int32))


def ours(metric: str) -> None:
    """One whole search in this process; prints what it took."""
    bank = cells()
    grid = Grid(GRID.k_min, GRID.k_max, GRID.threshold, (metric,), GRID.reweight, GRID.scaling)
    split = Split(np.arange(REFERENCES), np.arange(REFERENCES, REFERENCES + VALIDATION))
    began = time.perf_counter()
    tuned = choose(bank, grid, [split])
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({"seconds": seconds, "peak_gib": peak, "trials": len(tuned.trials), "best": tuned.best.as_dict()}))


def fresh(metric: str = "l2") -> dict:
    """`ours` in a process of its own."""
    command = [sys.executable, __file__, "--one", metric]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def hnsw(bank: Bank, subset: tuple[str, ...]) -> float:
    """Seconds to concatenate, build and search one subset's index."""
    began = time.perf_counter()
    whole = np.concatenate([bank.embeddings[name] for name in subset], axis=1)
    index = faiss.IndexHNSWFlat(whole.shape[1], 32)
    index.hnsw.efConstruction = 40
    index.add(whole[:REFERENCES])
    index.hnsw.efSearch = max(GRID.k_max)
    index.search(whole[REFERENCES:], max(GRID.k_max))
    return time.perf_counter() - began


def drawn(everything: bool) -> list[tuple[str, ...]]:
    """The subsets that the HNSW side builds."""
    subsets = power_set([f"e{dimension}" for dimension in DIMENSIONS])
    if everything:
        return subsets
    rng = np.random.default_rng(0)
    by_size = [[s for s in subsets if len(s) == size] for size in range(1, 1 + len(DIMENSIONS))]
    return [group[i] for group in by_size for i in rng.permutation(len(group))[:2]]


def compare(everything: bool, rounds: int) -> None:
    """Both sides in turns; raises SystemExit where a target is missed."""
    bank, subsets, runs, taken = cells(), drawn(everything), [], []
    parts = np.array_split(np.arange(len(subsets)), rounds)
    for part in parts:
        runs.append(fresh())
        print(f"ours: {runs[-1]['seconds']:.1f} s, peak {runs[-1]['peak_gib']:.2f} GiB", flush=True)
        for number in part:
            taken.append((len(subsets[number]), hnsw(bank, subsets[number])))
            print(f"HNSW of {'+'.join(subsets[number])}: {taken[-1][1]:.1f} s", flush=True)
    sizes = range(1, 1 + len(DIMENSIONS))
    theirs = sum(comb(len(DIMENSIONS), size) * mean(s for n, s in taken if n == size) for size in sizes)
    mine, peak = median(run["seconds"] for run in runs), max(run["peak_gib"] for run in runs)
    how = "all measured" if everything else f"scaled up from {len(subsets)}"
    print(f"HNSW, 63 subsets: {theirs:.0f} s ({how}); ours, median of {rounds}: {mine:.1f} s")
    print(f"{theirs / mine:.0f} times faster (target {FASTER}); peak {peak:.2f} GiB (target {MEMORY_GIB})")
    if theirs / mine < FASTER or peak > MEMORY_GIB:
        raise SystemExit("a target is missed")


def agree() -> None:
    """The small case; raises SystemExit where scores or choice differ."""
    bank = made_up(300, 4, (16, 8, 12))
    splits = folds(bank.labels, units_of(bank.groups, "cell"), 3, 0)[:1]
    tuned = choose(bank, GRID, splits)
    best, scores = slow_choice(bank, GRID, splits)
    same = {(t.encoders, t.settings): list(t.scores) for t in tuned.trials} == scores
    print(f"small case: {len(scores)} trials, scores {'the same' if same else 'DIFFER'}; chosen {tuned.best.as_dict()}")
    if not same or (tuned.encoders, tuned.settings) != best:
        raise SystemExit("the quick search and the slow one differ")


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--all", action="store_true", help="build all 63 HNSW indexes (several minutes and more)")
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--canberra", action="store_true", help="also time the search by Canberra distance, once")
    command.add_argument("--one", metavar="METRIC", help=argparse.SUPPRESS)
    args = command.parse_args()
    if args.one:
        ours(args.one)
        return
    agree()
    compare(args.all, args.rounds)
    if args.canberra:
        run = fresh("canberra")
        print(f"by Canberra: {run['seconds']:.1f} s, peak {run['peak_gib']:.2f} GiB")


if __name__ == "__main__":
    main()
