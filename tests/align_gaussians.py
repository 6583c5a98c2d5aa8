"""Made domains for the alignment's tests: classes as Gaussian clouds, a device that shifts, and class shares."""

from __future__ import annotations

import numpy as np

from cellvigil.data import Embeddings
from cellvigil_indexes.bank import Bank

ENCODERS = ("first", "second")
WIDTHS = (24, 32)


def domain(
    counts: tuple[int, ...], seed: int, *, moved: bool = False, apart: float = 6.0, encoders: tuple[str, ...] = ENCODERS
) -> tuple[Embeddings, np.ndarray]:
    """Cells of each class, encoder -> (n, d) f32, with their labels; `moved`: seen by another device."""
    fixed = np.random.default_rng(99)  # places and device are the same for every domain
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int16)
    rng = np.random.default_rng(seed)
    out = {}
    for name, width in zip(ENCODERS, WIDTHS, strict=True):
        places = fixed.normal(size=(len(counts), width)) * apart / np.sqrt(width)
        shift, stretch = fixed.normal(size=width) * 2.0, np.exp(fixed.normal(size=width) * 0.3)
        cells = places[labels] + rng.normal(size=(len(labels), width)) * 0.6
        out[name] = (cells * stretch + shift if moved else cells).astype(np.float32)
    return {name: out[name] for name in encoders}, labels


def bank_of(embeddings: Embeddings, labels: np.ndarray, classes: int) -> Bank:
    """Labelled cells as a reference."""
    names = tuple(f"class {number}" for number in range(classes))
    return Bank(names, embeddings, labels, np.arange(len(labels), dtype=np.int32))
