"""Counts of one plate, made by hand or drawn, for the tests of `response`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellvigil.response.values import F64, PlateCounts

CLASSES = ("live", "apoptotic", "necrotic", "debris")
STATES = (*CLASSES, "unknown")
GROUPS = {"live": "alive", "apoptotic": "dying", "necrotic": "dead", "debris": "artefact"}
HOME = np.array(
    [
        [0.85, 0.09, 0.03, 0.01, 0.02],
        [0.08, 0.85, 0.04, 0.01, 0.02],
        [0.02, 0.06, 0.85, 0.05, 0.02],
        [0.02, 0.03, 0.06, 0.85, 0.04],
    ]
)  # P(called | true), unknown last


def plate_counts(cells: npt.ArrayLike, *, states: Sequence[str] = STATES, **changes: npt.ArrayLike) -> PlateCounts:
    """From cells (W, T, F, S); a field without cells counts all the same unless `counted` says otherwise."""
    array = np.asarray(cells, dtype=np.int32)
    wells, times, fields, _ = array.shape
    given = {
        "acquired_s": np.tile(np.arange(times) * 3600.0, (wells, 1)),
        "counted": np.ones((wells, times, fields), dtype=np.bool_),
        "settled": np.ones((wells, times), dtype=np.bool_),
        "version": np.zeros((wells, times), dtype=np.int32),
        **{name: np.asarray(array) for name, array in changes.items()},
    }
    names = tuple(f"A{place + 1}" for place in range(wells))
    return PlateCounts(names, tuple(range(times)), tuple(states), GROUPS, counts=array, **given)


def clustered_cells(mean: npt.ArrayLike, fields: int, cells: int, correlation: float, seed: int) -> F64:
    """Cells (W, T, fields, S) of shares `mean` (W, T, S), whose fields differ with this intra-class correlation."""
    random = np.random.default_rng(seed)
    weights = np.maximum(np.asarray(mean)[:, :, None], 1e-9) * (1 - correlation) / correlation
    drawn = random.standard_gamma(np.repeat(weights, fields, axis=2)) + 1e-12
    return np.asarray(random.multinomial(cells, drawn / drawn.sum(axis=-1, keepdims=True)))


def called_cells(true: npt.ArrayLike, rates: F64, seed: int) -> F64:
    """Cells (W, T, F, C + 1) by call, from cells by true class (W, T, F, C)."""
    random, array = np.random.default_rng(seed), np.asarray(true)
    return np.asarray(sum(random.multinomial(array[..., place], row) for place, row in enumerate(rates)))


def mixture(*shares: float, wells: int = 6, cells: int = 4000, rates: np.ndarray = HOME, seed: int = 0) -> np.ndarray:
    """Cells (wells, 2, 2, 5) by call, of wells with these shares of true classes and no difference between fields."""
    mean = np.tile(shares, (wells, 2, 1))
    return called_cells(clustered_cells(mean, 2, cells, 1e-6, seed), rates, seed)
