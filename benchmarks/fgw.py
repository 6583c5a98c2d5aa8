"""Fused Gromov-Wasserstein of 2,000 x 2,000 cells: ours beside POT's default, in one run, with the costs of both.

    python benchmarks/fgw.py [--rounds 3] [--cells 2000] [--alpha 0.5] [--shift 1.0]
    python benchmarks/fgw.py --references INDEX --target INDEX --encoder NAME    cells of two indexes, not made ones

Made cells: five clumps in 1,280 dimensions, of which 30 matter, the target shifted, other class shares. Both are given
the same scaled matrices; geodesic graphs are timed apart. Two threads unless OMP_NUM_THREADS and OPENBLAS_NUM_THREADS
say otherwise. Ways take turns; seconds are medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before NumPy comes
    os.environ.setdefault(name, "2")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "indexes")]

import numpy as np  # noqa: E402 - after the number of threads
import ot  # noqa: E402

from cellvigil.bundle.index import open_index  # noqa: E402 - found through the path set above
from cellvigil_indexes.aligning.maps.comparing import distances  # noqa: E402
from cellvigil_indexes.aligning.maps.fused import Problem, cost, fused_plan, problem  # noqa: E402
from cellvigil_indexes.aligning.sharing.graph import geodesic  # noqa: E402

DIMENSIONS, THAT_MATTER, CLUMPS = 1280, 30, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--shift", type=float, default=1.0)
    parser.add_argument("--references", type=Path)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, POT {ot.__version__}, {os.cpu_count()} cores")
    sides = [made(options.cells, seed, shift) for seed, shift in ((0, 0.0), (1, options.shift))]
    if options.references and options.target:
        sides = [drawn(path, options.encoder, options.cells) for path in (options.references, options.target)]
    given = posed(sides[0], sides[1], options.alpha)
    ways: dict[str, Callable[[], tuple[float, str]]] = {"ours": lambda: ours(given), "POT": lambda: pots(given)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            found, told = way()
            seconds[name].append(time.perf_counter() - start)
            print(f"  {name:5s} {seconds[name][-1]:6.2f} s   cost {found:.8f}   {told}", flush=True)
    for name, spent in seconds.items():
        print(f"{name:5s} median {median(spent):.2f} s of {len(spent)}")


def made(cells: int, seed: int, shift: float) -> np.ndarray:
    """Clumps at the same places whatever the seed, in proportions of the seed's own."""
    rng, places = np.random.default_rng(seed), np.random.default_rng(99)
    means = 1.5 * places.normal(size=(CLUMPS, THAT_MATTER))
    turn = np.linalg.qr(places.normal(size=(DIMENSIONS, THAT_MATTER)))[0]
    labels = rng.choice(CLUMPS, cells, p=rng.dirichlet(np.full(CLUMPS, 5.0)))
    inner = (means[labels] + rng.normal(size=(cells, THAT_MATTER))) * np.linspace(1, 0.2, THAT_MATTER) + shift
    return (inner @ turn.T + 0.05 * rng.normal(size=(cells, DIMENSIONS))).astype(np.float32)


def drawn(path: Path, encoder: str, cells: int) -> np.ndarray:
    """So many cells of an index at random, or all."""
    block = np.asarray(open_index(path).embeddings[encoder], dtype=np.float32)
    return block[np.random.default_rng(0).permutation(len(block))[:cells]]


def posed(references: np.ndarray, target: np.ndarray, alpha: float) -> Problem:
    start = time.perf_counter()
    structures = [geodesic(side) for side in (references, target)]
    print(f"{len(references)} x {len(target)} cells, alpha {alpha}; two graphs {time.perf_counter() - start:.2f} s")
    masses = [np.full(len(side), 1 / len(side)) for side in (references, target)]
    return problem(distances(references, target), *structures, *masses, alpha=alpha)


def ours(given: Problem) -> tuple[float, str]:
    plan = fused_plan(given)
    return plan.cost, f"{plan.iterations} steps from {plan.start}"


def pots(given: Problem) -> tuple[float, str]:
    both: tuple[Any, Any] = (given.source.astype(np.float64), given.target.astype(np.float64))
    plan, told = ot.gromov.fused_gromov_wasserstein(
        given.features, *both, given.p, given.q, alpha=given.alpha, log=True
    )
    return cost(given, plan), f"{len(told['loss']) - 1} steps"


if __name__ == "__main__":
    main()
