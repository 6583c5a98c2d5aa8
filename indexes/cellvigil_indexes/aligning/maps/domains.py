"""What every map asks of the two sides, and how much each reference cell weighs. Pure: arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from cellvigil.data import F32, I16
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.values import F64

_NO_SPREAD = 1e-6  # of the largest value: differences below it are rounding


def check_domains(references: F32, labels: I16, target: F32) -> None:
    """Raises UsageError unless both sides have at least two cells that differ, finite, in the same dimensions."""
    if references.ndim != 2 or target.ndim != 2 or references.shape[1] != target.shape[1]:
        raise UsageError(
            f"references {references.shape} and target {target.shape} are not cells of one encoder",
            hint="embed both with the same encoders",
        )
    if len(labels) != len(references):
        raise UsageError(f"{len(references)} reference cells have {len(labels)} labels", hint="one label a cell")
    for side, block in (("reference", references), ("target", target)):
        check_side(side, block)


def check_side(side: str, block: F32) -> None:
    """Raises UsageError unless `block` (n, d) has at least two cells, all finite, that are not all the same."""
    if len(block) < 2:
        raise UsageError(
            f"{len(block)} {side} cell{'s' if len(block) != 1 else ''} cannot be mapped: two at least",
            hint="give more cells, or --align none",
        )
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(bad):
        raise UsageError(
            f"{len(bad)} {side} cells have vectors that are not finite, first row {bad[0]}",
            hint="look at their pictures, or export the encoder in fp32",
        )
    if float(np.ptp(block, axis=0).max(initial=0.0)) <= _NO_SPREAD * float(np.abs(block).max(initial=0.0)):
        raise UsageError(
            f"all {len(block)} {side} cells are the same: nothing says how they vary",
            hint="give cells of several images, or --align none",
        )


def cell_masses(labels: I16, shares: F64 | None) -> F64:
    """The mass of every cell, (N,) f64, sum 1: equal, or equal within each class, which has its share.

    The share of a class that no cell has is spread over the others in their proportions.

    Raises UsageError for shares that are negative, not finite, too few for the labels, or 0 for every class there is.
    """
    if shares is None:
        return np.full(len(labels), 1.0 / len(labels))
    given = np.asarray(shares, dtype=np.float64)
    if given.ndim != 1 or len(given) <= int(labels.max()) or not np.isfinite(given).all() or (given < 0).any():
        raise UsageError(
            f"class shares {np.round(given, 3).tolist()} are not one number from 0 up for each class",
            hint="give a share for every class of the index",
        )
    counts = np.bincount(labels, minlength=len(given))
    total = float(given[counts > 0].sum())
    if not total > 0:
        raise UsageError("no class that has reference cells has a share above 0", hint="give shares of known classes")
    return np.asarray((given / np.maximum(counts, 1) / total)[labels])
