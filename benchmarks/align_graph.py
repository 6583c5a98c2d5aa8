"""Geodesics, clusters and Louvain of 2,000 cells in 1,280 dimensions; and what clusters are worth on real cells.

Prints medians of 3 runs, the steps in turn, on made cells that resemble real ones: 8 classes of unequal size about a
few shared directions. With `--index DIR ...` (reference indexes on disk; at most 2,000 seeded cells of each) also the
number of clusters and their purity against the true classes, ours and Louvain, for each encoder and for all of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "indexes")]

import numpy as np  # noqa: E402 - found through the path set above, as all below

from cellvigil.bundle.index import open_index  # noqa: E402
from cellvigil.data import F32, I16, I32  # noqa: E402
from cellvigil_indexes.aligning.sharing.clusters import ClusterSettings, clusters_of, find_clusters  # noqa: E402
from cellvigil_indexes.aligning.sharing.graph import geodesic, weighted_graph  # noqa: E402
from cellvigil_indexes.aligning.sharing.louvain import louvain_clusters, louvain_of  # noqa: E402

CELLS, DIMENSIONS, CLASSES, SHARED = 2000, 1280, 8, 30
ROUNDS = 3


def made(count: int, seed: int = 0) -> F32:
    """Cells of 8 classes: class means and most of the spread in 30 directions, a little noise in all."""
    random = np.random.default_rng(seed)
    labels = random.choice(CLASSES, count, p=random.dirichlet(np.full(CLASSES, 5.0)))
    inner = random.normal(size=(CLASSES, SHARED))[labels] * 2 + random.normal(size=(count, SHARED))
    cells = inner @ random.normal(size=(SHARED, DIMENSIONS)) + random.normal(size=(count, DIMENSIONS))
    return np.asarray(cells, dtype=np.float32)


def timed(cells: F32) -> Mapping[str, float]:
    """Median seconds of each step; A B C, A B C, A B C."""
    steps: dict[str, Callable[[], object]] = {
        "geodesic distances": lambda: geodesic(cells),
        "clusters, from vectors": lambda: find_clusters(cells),
        "Louvain, from vectors": lambda: louvain_clusters(cells),
    }
    took: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            took[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in took.items()}


def purity(labels: I32, truth: I16) -> float:
    """Share of cells whose class is the commonest of their cluster."""
    return sum(np.bincount(truth[labels == cluster]).max() for cluster in np.unique(labels)) / len(truth)


def worth(folder: Path) -> None:
    index = open_index(folder)
    rows = np.sort(np.random.default_rng(0).permutation(len(index))[:CELLS])
    truth = np.asarray(index.labels[rows])
    blocks = {name: np.asarray(block[rows], dtype=np.float32) for name, block in index.embeddings.items()}
    if len(blocks) > 1:
        blocks["all"] = np.concatenate([block / block.std() for block in blocks.values()], axis=1)
    largest = np.bincount(truth).max() / len(truth)
    print(f"{folder.name}: {len(rows)} cells, {len(np.unique(truth))} classes, largest {largest:.3f}")
    for name, block in blocks.items():
        graph = weighted_graph(block)
        ours = clusters_of(block, graph, ClusterSettings())
        louvain = louvain_of(block, graph, ClusterSettings())
        print(
            f"  {name:20} ours {ours.count:2} purity {purity(ours.labels, truth):.3f} taken apart {list(ours.sparse)}"
            f"   Louvain {louvain.count:2} purity {purity(louvain.labels, truth):.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, nargs="*", default=[], help="indexes whose classes are to be found again")
    parser.add_argument("--cells", type=int, default=CELLS, help="made cells that are timed (%(default)s)")
    chosen = parser.parse_args()
    for name, seconds in timed(made(chosen.cells)).items():
        print(f"{name:26} {seconds:6.2f} s")
    for folder in chosen.index:
        worth(folder)


if __name__ == "__main__":
    main()
