"""HNSW against exact search over the vectors that `augmented_cells.py` made: the same 200 cells, called both ways.

Prints, as one run: how long the index takes to write and its graph to build; how long it takes to call cells (EWC, 3 to
100 neighbours, threshold 0.3) through the graph, by our exact search and through FAISS's flat index (exact: whichever
is faster), A B C A B C, medians and their ratio; how often the labels agree; how long the index takes to open a second
time, in a process of its own, and how much memory that process holds against the size of the files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "indexes")]

import faiss  # noqa: E402 - found through the path set above, as all below
import numpy as np  # noqa: E402

from cellvigil import decide, pipeline  # noqa: E402
from cellvigil.bundle.index import ReferenceCell, ReferenceIndex, open_index  # noqa: E402
from cellvigil.data import ImageRule  # noqa: E402
from cellvigil.neighbours import ExactSearch, Neighbours, open_search  # noqa: E402
from cellvigil_indexes.collected import Collected  # noqa: E402
from cellvigil_indexes.draft import Draft  # noqa: E402
from cellvigil_indexes.searching import graphs  # noqa: E402
from cellvigil_indexes.settings import IndexSettings  # noqa: E402
from cellvigil_indexes.writing import write_index  # noqa: E402

ENCODER = "lite0"
TIMED = 200  # queries a timing


class FlatSearch:
    """FAISS's flat index, as a search that a call can use."""

    deepens = False

    def __init__(self, block: np.ndarray) -> None:
        self.flat = faiss.IndexFlatL2(block.shape[1])
        for start in range(0, len(block), 65_536):
            self.flat.add(np.ascontiguousarray(block[start : start + 65_536], dtype=np.float32))

    def __len__(self) -> int:
        return self.flat.ntotal

    def nearest(self, embeddings: dict[str, np.ndarray], k: int, cuts: Any = ()) -> Neighbours:  # noqa: ARG002 - the protocol's
        squared, ids = self.flat.search(embeddings[ENCODER], min(k, len(self)))
        return Neighbours(ids.astype(np.int32), np.sqrt(np.maximum(squared, 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that augmented_cells.py filled")
    parser.add_argument("--cells", type=int, help="reference cells (default: as many as are there)")
    parser.add_argument("--queries", type=int, default=1_000, help="cells whose labels are compared")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--storage", default="float32", choices=["float32", "float16"])
    parser.add_argument("--index", type=Path, help="write the index here and keep it; one that is there is used again")
    parser.add_argument("--opened", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.opened:
        print(json.dumps(opened_again(args.opened)))
        return
    with tempfile.TemporaryDirectory(dir=args.data) as scratch:
        folder = args.index or Path(scratch) / "index"
        if not folder.exists():
            write(folder, args)
        measure(folder, args)


def write(folder: Path, args: argparse.Namespace) -> None:
    there = int((args.data / "reference.done").read_text())
    cells = min(args.cells or there, there)
    labels = np.load(args.data / "reference_labels.npy")[:cells]
    block = np.load(args.data / "reference.npy", mmap_mode="r")[:cells]
    names = [f"class{label}" for label in range(int(labels.max()) + 1)]
    draft = Draft(
        collected=Collected(
            [ReferenceCell(names[label], "", (0, 0, 9, 9), str(cell)) for cell, label in enumerate(labels)],
            {ENCODER: block},
            np.zeros((cells, 64, 64, 1), dtype=np.uint8),
        ),
        set_aside=None,
        groups=dict.fromkeys(names, "none"),
        encoders={ENCODER: "0" * 64},
        used=[ENCODER],
        image_rule=ImageRule(),
        settings=IndexSettings(search="hnsw", storage=args.storage),
        provenance={},
    )
    took: list[float] = []
    build = graphs.write_graph

    def timed(*given: Any, **named: Any) -> graphs.GraphFigures:
        start, busy = time.perf_counter(), time.process_time()
        figures = build(*given, **named)
        took.extend([time.perf_counter() - start, time.process_time() - busy])
        return figures

    graphs.write_graph = timed
    start = time.perf_counter()
    write_index(folder, draft)
    print(f"{cells:,} cells x {block.shape[1]}, {args.storage}, {faiss.omp_get_max_threads()} threads")
    print(f"index written in {time.perf_counter() - start:.0f} s, of that the graph, on one thread, in {took[0]:.0f} s")
    print(f"  ({took[1]:.0f} s of processor time: the rest is other work on this machine)")


def measure(folder: Path, args: argparse.Namespace) -> None:
    memory = folder.parent / "seen.json"
    index = open_index(folder, memory=memory)
    print(f"graph: {index.manifest['graph']}")
    print(f"storage: {index.manifest['storage_check']}")
    compare(index, np.load(args.data / "queries.npy")[: args.queries], args.rounds)
    command = [sys.executable, __file__, "--opened", str(folder)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    print(f"opened a second time in {told['seconds']:.2f} s, files {size:.0f} MiB")
    print(f"memory: {told['opened']:.0f} MiB when open, {told['called']:.0f} MiB after {TIMED} calls")


def compare(index: ReferenceIndex, queries: np.ndarray, rounds: int) -> None:
    searches = {
        "graph": open_search(index),
        "exact": ExactSearch.over(index),
        "FAISS flat": FlatSearch(index.embeddings[ENCODER]),
    }
    settings = decide.Settings(3, 100, 0.3)

    def calls(name: str, count: int) -> Any:
        return pipeline.called({ENCODER: queries[:count]}, index, searches[name], settings)

    found = {name: calls(name, len(queries)) for name in ("graph", "exact")}  # and everything is in memory
    calls("FAISS flat", TIMED)
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(rounds):
        for name in searches:
            seconds[name].append(clocked(lambda name=name: calls(name, TIMED)))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = min(("exact", "FAISS flat"), key=medians.__getitem__)
    for name, median in medians.items():
        spread = f"{min(seconds[name]) * 1e3:.0f} to {max(seconds[name]) * 1e3:.0f}"
        print(f"{name}: {median * 1e3:.0f} ms for {TIMED} cells ({spread})")
    print(f"graph {medians[best] / medians['graph']:.1f} times faster than {best}")
    same = found["graph"].best_ids == found["exact"].best_ids
    deep = np.mean(found["exact"].k > 48)
    print(f"labels agree for {100 * same.mean():.2f} % of {len(queries)} cells; {100 * deep:.0f} % went beyond k 48")


def clocked(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def opened_again(folder: Path) -> dict[str, float]:
    """Open a known index in this fresh process: seconds, and MiB held beyond what the libraries hold."""
    before = resident()
    start = time.perf_counter()
    index = open_index(folder, memory=folder.parent / "seen.json")
    search = open_search(index)
    seconds = time.perf_counter() - start
    opened = resident()
    block = index.embeddings[ENCODER]
    some = {ENCODER: np.asarray(block[:: len(block) // TIMED][:TIMED], dtype=np.float32)}
    pipeline.called(some, index, search, decide.Settings(3, 100, 0.3))
    return {"seconds": seconds, "opened": opened - before, "called": resident() - before}


def resident() -> float:
    """MiB of this process in memory, mapped files included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
