"""Exact search beside FAISS's own, in one run, with the same answers asserted.

    python benchmarks/search.py query      200 cells, 13,000 x 5,376-d: ours at k 1000, FAISS Flat at k 3
    python benchmarks/search.py canberra   Canberra at 1,280-d and 5,376-d: ours, FAISS Flat
    options: [--rounds 7] [--cells 13000] [--by numba|numpy]; neither word: both

The vectors are seeded: eight clumps, cut off below zero as activations are. Two threads unless OMP_NUM_THREADS and
OPENBLAS_NUM_THREADS say otherwise. Ways take turns; seconds are medians over the rounds, the ratio that of the rounds'
ratios.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before NumPy and FAISS come
    os.environ.setdefault(name, "2")
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "daemon")]

import faiss  # noqa: E402 - after the number of threads
import numpy as np  # noqa: E402

from cellvigil.neighbours import ExactSearch, engine  # noqa: E402 - found through the path set above
from cellvigil.neighbours.canberra import canberra_table  # noqa: E402

DIMENSIONS = (256, 512, 768, 1024, 1280, 1536)  # six encoders, 5,376 together
QUERIES = 200
DEPTHS = (3, 6, 12, 24, 48, 96, 192, 384, 768, 1000)  # k_min 3 doubled up to k_max 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("query", "canberra", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cells", type=int, default=13_000)
    parser.add_argument("--by", choices=("numba", "numpy"), default=engine(), help="Canberra's arithmetic")
    options = parser.parse_args()
    packages = ", ".join(f"{name} {_version(name)}" for name in ("faiss-cpu", "numpy", "numba"))
    threads = f"{faiss.omp_get_max_threads()} threads of {os.cpu_count()} cores"
    print(f"{_processor()}, {threads}; Python {sys.version.split()[0]}, {packages}")
    if options.what != "canberra":
        query(options.cells, options.rounds)
    if options.what != "query":
        for dimension, queries in ((1280, 40), (5376, 10)):
            canberra(options.cells, dimension, queries, options.rounds, options.by)


def query(cells: int, rounds: int) -> None:
    """Ours fetches 1,000 neighbours, exact at every depth, over six encoders and over one block; FAISS three."""
    whole, asked = activations(cells, sum(DIMENSIONS), 0), activations(QUERIES, sum(DIMENSIONS), 1)
    ends = np.cumsum(DIMENSIONS)[:-1]
    names = [f"{dimension}-d" for dimension in DIMENSIONS]
    blocks = [np.ascontiguousarray(block) for block in np.split(whole, ends, axis=1)]
    parts = dict(zip(names, np.split(asked, ends, axis=1), strict=True))
    flat = faiss.IndexFlatL2(sum(DIMENSIONS))
    flat.add(whole)
    six, one = ExactSearch.of(names, blocks, [1.0] * len(blocks)), ExactSearch.of(["all"], [whole], [1.0])
    print(f"{QUERIES} cells, {cells} x {sum(DIMENSIONS)}-d; ours exact at depths {', '.join(map(str, DEPTHS))}")
    found = timed(
        {
            "FAISS Flat, k 3": lambda: flat.search(asked, 3),
            "ours, six encoders, k 1000": lambda: six.nearest(parts, 1000, DEPTHS),
            "ours, one block, k 1000": lambda: one.nearest({"all": asked}, 1000, DEPTHS),
            "FAISS Flat, k 1000": lambda: flat.search(asked, 1000),
        },
        rounds,
    )
    distances, ids = found["FAISS Flat, k 1000"]
    for name in ("ours, six encoders, k 1000", "ours, one block, k 1000"):
        assert (found[name].ids[:, :3] == found["FAISS Flat, k 3"][1]).all(), "the three nearest differ"
        # FAISS rounds its distances, so cells as good as equally far may change places at the end of its list.
        shared = [len(np.intersect1d(a, b)) for a, b in zip(found[name].ids, ids, strict=True)]
        assert np.mean(shared) > 999.5, "the thousand nearest differ"
        np.testing.assert_allclose(found[name].distances, np.sqrt(distances), rtol=1e-4)


def canberra(cells: int, dimension: int, queries: int, rounds: int, by: str) -> None:
    """The same neighbours where nothing is zero; beside double precision where half of everything is."""
    references, asked = activations(cells, dimension, 0), activations(queries, dimension, 1)
    began = time.perf_counter()
    canberra_table(asked[:4], references[:64], by=by)
    print(f"{queries} cells, {cells} x {dimension}-d, {by} ready after {time.perf_counter() - began:.2f} s")
    positive, asked_positive = references + np.float32(0.01), asked + np.float32(0.01)
    flat = faiss.IndexFlat(dimension, faiss.METRIC_Canberra)
    flat.add(positive)
    search = ExactSearch.of(["e"], [positive], [1.0], metric="canberra")
    ways: dict[str, Callable[[], object]] = {
        "FAISS Flat Canberra, k 3": lambda: flat.search(asked_positive, 3),
        "ours, table": lambda: canberra_table(asked_positive, positive, by=by),
        "ours, half zeros, table": lambda: canberra_table(asked, references, by=by),
    }
    if by == engine():
        ways["ours, search, k 1000"] = lambda: search.nearest({"e": asked_positive}, 1000, DEPTHS)
    found = timed(ways, rounds)
    distances, ids = found["FAISS Flat Canberra, k 3"]
    np.testing.assert_allclose(np.take_along_axis(found["ours, table"], ids, axis=1), distances, rtol=1e-4)
    np.testing.assert_allclose(np.sort(found["ours, table"], axis=1)[:, :3], distances, rtol=1e-4)
    if by == engine():
        assert (found["ours, search, k 1000"].ids[:, :3] == ids).mean() > 0.99, "the three nearest differ"
    error = np.abs(found["ours, half zeros, table"][:, :500] / double(asked, references[:500]) - 1).max()
    assert error < 1e-5, f"off by {error}"
    zeros = faiss.IndexFlat(dimension, faiss.METRIC_Canberra)
    zeros.add(references[:100])
    lost = int((zeros.search(asked, 3)[1] < 0).sum())
    print(f"  half zeros: ours within {error:.1e} of double precision; FAISS lost {lost} of {3 * queries} neighbours")


def double(asked: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Canberra in double precision, 0/0 = 0, one query after the other."""
    rows = []
    for one in asked.astype(float):
        under = np.abs(one) + np.abs(references)
        rows.append(np.divide(np.abs(one - references), under, out=np.zeros_like(under), where=under > 0).sum(axis=1))
    return np.array(rows)


def timed(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Run all ways in turn, `rounds` times after a first one that does not count; print medians against the first."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            found[name] = way()
            if round_:
                seconds[name].append(time.perf_counter() - began)
    first = next(iter(ways))
    for name, own in seconds.items():
        ratios = [mine / other for mine, other in zip(own, seconds[first], strict=True)]
        faster = f"1/{1 / median(ratios):.1f}" if median(ratios) < 0.5 else f"{median(ratios):.2f}"
        print(f"  {name:<28} {median(own):7.3f} s (least {min(own):.3f}), {faster} of the first")
    return found


def activations(cells: int, dimension: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(100).normal(size=(8, dimension)).astype(np.float32)
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((cells, dimension), dtype=np.float32)
    vectors += centres[rng.integers(0, 8, cells)]
    return np.maximum(vectors, 0, out=vectors)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "processor unknown")


if __name__ == "__main__":
    main()
