"""Made cells of three states on two devices: what is fitted on one class must carry the others, by construction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I16
from cellvigil_indexes.aligning.values import Alignment
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.settings import IndexSettings

CLASSES = ("live", "apoptotic", "necrotic")
GROUPS = {"live": "alive", "apoptotic": "dying", "necrotic": "dead"}
DIMENSIONS = 24
CALLING = IndexSettings(scaling="discriminant", k_max=24)


@dataclass(frozen=True)
class Device:
    """x -> (x turned) * gain + offset, along every axis."""

    offset: float = 0.0
    gain: float = 1.0

    def seen(self, cells: F32) -> F32:
        """The cells as this device shows them."""
        rng = np.random.default_rng(5)
        way = rng.normal(size=DIMENSIONS)
        way[:2] = 0  # not from live to dead: what that does to a fit is a test of its own
        return np.asarray(cells * self.gain + self.offset * way / np.linalg.norm(way), dtype=np.float32)


def cells_of(counts: tuple[int, int, int], seed: int) -> tuple[F32, I16]:
    """Cells of the three classes, correlated noise about three centres."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).normal(0, 0.35, (DIMENSIONS, DIMENSIONS)) + np.eye(DIMENSIONS)
    centres = np.zeros((3, DIMENSIONS))
    centres[1, 0], centres[2, 1] = 9.0, 11.0
    labels = np.repeat(np.arange(3), counts).astype(np.int16)
    noise = rng.normal(size=(len(labels), DIMENSIONS)) @ mixing
    return np.asarray(centres[labels] + noise, dtype=np.float32), labels


def bank_of_cells(counts: tuple[int, int, int] = (150, 60, 60), encoders: int = 2) -> Bank:
    """References on the first device; another encoder sees the same cells with its own noise."""
    cells, labels = cells_of(counts, 11)
    groups = np.random.default_rng(2).integers(0, 20, len(labels)).astype(np.int32)
    return Bank(CLASSES, seen_by(cells, encoders), labels, groups)


def seen_by(cells: F32, encoders: int = 2) -> dict[str, F32]:
    """Vectors of several encoders."""
    rng = np.random.default_rng(len(cells))
    return {
        f"encoder{place}": np.asarray(cells + 0.3 * rng.normal(size=cells.shape), dtype=np.float32)
        for place in range(encoders)
    }


def called_by(alignment: Alignment, bank: Bank, cells: dict[str, F32]) -> I16:
    """What the voters of an alignment call cells together, class ids of the alignment."""
    total = np.zeros((len(next(iter(cells.values()))), len(alignment.classes)))
    for voter in alignment.voters:
        own = Bank(alignment.classes, voter.vectors, bank.labels[alignment.rows], bank.groups[alignment.rows])
        total += voter.weight * ewc(own, cells, CALLING).share
    return np.asarray(total.argmax(axis=1), dtype=np.int16)
