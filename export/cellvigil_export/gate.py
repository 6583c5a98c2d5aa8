"""Is an encoder of lower precision still the same encoder? Asked of real cells, whose vectors and calls are compared.

Two figures are held against limits. Centred cosine: the fp32 vectors' mean is taken from both sides first, for the
vectors of cells all point much the same way (their plain cosines hide what tells cells apart); of all cells the 1st
percentile counts, as the smallest of n only falls as n grows, and a median hides a class that suffers. Agreement: the
share of cells whose 5 nearest others call them the same among vectors of the lower precision as among those of fp32,
each in its own space, as an index is always built with the very encoder that its cells are called by.

Runs models; writes nothing.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil import device as devices
from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME
from cellvigil.data import F32, I64, Array
from cellvigil.encoder import one_minus_cosine
from cellvigil.errors import BundleError, UsageError
from cellvigil.neighbours import ExactSearch
from cellvigil_export import parity
from cellvigil_export.cells import LabelledCells

COSINE = 0.999
AGREEMENT = 0.995
NEIGHBOURS = 5
LEAST = 200  # cells: of fewer a single call is more than the agreement allows
MOST = 1500  # cells that are compared; more say nothing new
_TOGETHER = 32  # pictures a batch on a GPU; on the CPU each goes alone


@dataclass(frozen=True, slots=True)
class Figures:
    """How near the vectors and calls of a lower precision are to those of fp32."""

    cells: int
    cosine_least: float  # centred cosines
    cosine_percentile_1: float
    cosine_median: float
    agreement: float  # share of equal calls, each precision in its own space
    agreement_crossed: float  # the same, cells of the lower precision looked up among vectors of fp32
    right_fp32: float  # share of calls that are the folder's own label
    right: float

    @property
    def passed(self) -> bool:
        """Whether both limits are kept."""
        return self.cosine_percentile_1 >= COSINE and self.agreement >= AGREEMENT

    def told(self) -> dict[str, Any]:
        """As the manifest says it."""
        return {
            "cells": self.cells,
            "centred_cosine": {
                "least": self.cosine_least,
                "percentile_1": self.cosine_percentile_1,
                "median": self.cosine_median,
            },
            "neighbours": NEIGHBOURS,
            "agreement": self.agreement,
            "agreement_among_fp32_vectors": self.agreement_crossed,
            "right_calls": {"fp32": self.right_fp32, "lowered": self.right},
            "limits": {"centred_cosine_percentile_1": COSINE, "agreement": AGREEMENT},
            "passed": self.passed,
        }


def check_cells(cells: LabelledCells, rows: I64) -> None:
    """Raises UsageError unless the `rows` of a folder's pictures can tell a precision's worth."""
    if len(rows) < LEAST or len(np.unique(cells.labels[rows])) < 2:
        what = f"{len(rows)} cells of {len(np.unique(cells.labels[rows]))} classes are too few to judge a precision by"
        raise UsageError(what, where=cells.folder, hint=f"{LEAST} cells of two classes are the least")


def vectors(model: Path, cells: LabelledCells, rows: I64, *, device: str = "auto") -> tuple[F32, str]:
    """The model's vectors (n, dimension) of some pictures, and where they were computed: "cuda" or "cpu".

    `device`: "auto" is a GPU where one can be had, and else the CPU. Raises BadFile for a picture that does not open,
    BundleError for a model that gives numbers that are none, DeviceError for a device asked for by name and not had.
    """
    session, provider = _opened(model, device)
    size = 1 if provider == "cpu" else _TOGETHER
    blocks = [rows[start : start + size] for start in range(0, len(rows), size)]

    def run(block: I64) -> Array:
        return np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: cells.pictures(block)})[0])

    with ThreadPoolExecutor(os.cpu_count() if provider == "cpu" else 1) as lanes:
        found = np.concatenate(list(lanes.map(run, blocks)))
    if not np.isfinite(found).all():
        raise BundleError("in this precision the model gives vectors that are not finite", hint="--precision fp32")
    return found, provider


def _opened(model: Path, device: str) -> tuple[Any, str]:
    """A session on the GPU where it may and does run there; on the CPU one thread a run, and the weights held once."""
    if device != "cpu" and not devices.missing(devices.runtime().get_available_providers(), "cuda"):
        opened = devices.open_model(model, device=device, threads=1)
        return opened.session, opened.provider
    return parity.opened(model, threads=1), "cpu"


def compare(wanted: F32, got: F32, labels: I64) -> Figures:
    """Hold the vectors `got` (n, d) of a lower precision against those `wanted` of fp32, of cells of these labels."""
    mean = wanted.mean(axis=0, dtype=np.float64)
    cosines = 1.0 - one_minus_cosine(got - mean, wanted - mean)
    usual, lowered = _calls(wanted, wanted, labels), _calls(got, got, labels)
    return Figures(
        cells=len(labels),
        cosine_least=_figure(cosines.min()),
        cosine_percentile_1=_figure(np.quantile(cosines, 0.01)),
        cosine_median=_figure(np.median(cosines)),
        agreement=_figure((usual == lowered).mean()),
        agreement_crossed=_figure((usual == _calls(got, wanted, labels)).mean()),
        right_fp32=_figure((usual == labels).mean()),
        right=_figure((lowered == labels).mean()),
    )


def _calls(asked: F32, references: F32, labels: I64) -> I64:
    """What the 5 nearest of the other cells call each: the most frequent label, of equals that of the nearer cell."""
    search = ExactSearch.of(["gate"], [references], [1.0])
    near = search.nearest({"gate": asked}, NEIGHBOURS + 1, cuts=(NEIGHBOURS, NEIGHBOURS + 1)).ids
    rows = np.arange(len(asked))
    own = np.where((near == rows[:, None]).any(axis=1), (near == rows[:, None]).argmax(axis=1), NEIGHBOURS)
    others = labels[near[np.arange(NEIGHBOURS + 1) != own[:, None]].reshape(len(asked), NEIGHBOURS)]
    # Each neighbour's label is worth the votes it has, and a little for being near: the first of equals wins.
    votes = (others[:, :, None] == others[:, None, :]).sum(axis=2)
    return np.asarray(np.take_along_axis(others, votes.argmax(axis=1)[:, None], axis=1)[:, 0])


def _figure(value: float) -> float:
    """Five digits, towards the worse: what is told is never better than what was found."""
    return math.floor(float(value) * 1e5) / 1e5
