"""Vectors of a few cell states, searches over them, and as much of an index as a call looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cellvigil.neighbours import ExactSearch, GraphSearch
from cellvigil_indexes.searching import graphs

CELLS, DIMENSIONS = 2_000, 32


def states(rng, cells, dimensions, classes=4, width=6.0):
    """Vectors of a few overlapping cell states, and the states."""
    labels = rng.integers(0, classes, cells)
    centres = np.random.default_rng(99).normal(size=(classes, dimensions)) * width / np.sqrt(dimensions)
    return (centres[labels] + rng.normal(size=(cells, dimensions))).astype(np.float32), labels.astype(np.int16)


def exact_over(*blocks, scales=None):
    names = [f"encoder{number}" for number in range(len(blocks))]
    return ExactSearch.of(names, blocks, scales or [1.0] * len(blocks))


def graph_over(folder, exact, k=20):
    graphs.write_graph(folder, exact, k=k)
    return GraphSearch.opened(folder / "graph.faiss", exact)


def asked(exact, rows=None, noise=0.3, seed=5):
    """Queries near reference cells."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(exact), 100) if rows is None else rows
    return {
        name: (block[rows] + noise * rng.normal(size=(len(rows), block.shape[1]))).astype(np.float32)
        for name, block in zip(exact.names, exact.blocks, strict=True)
    }


def recall(found, true):
    """Share of the true neighbours' places that are filled as near; copies count as each other."""
    return np.mean(found.distances <= true.distances[:, -1:] * (1 + 1e-6))


@dataclass
class LabelledCells:
    """What `pipeline.called` needs of an index: labels, and what was measured on them."""

    labels: Any
    k_min: int = 3
    novelty: Any = None
    classes: tuple[str, ...] = tuple("abcdef")
    calibration: None = None
    sha256: str = "0" * 64
    voters: tuple[()] = ()

    def __post_init__(self):
        if self.novelty is None:
            self.novelty = np.full(len(self.labels), np.nan, dtype=np.float32)

    def __len__(self):
        return len(self.labels)

    @property
    def class_counts(self):
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def novelty_classes(self):
        return self.labels
