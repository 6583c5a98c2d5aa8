"""Half precision for an index's vectors: whether it changes any call. Pure arithmetic over labelled cells.

Half precision keeps 11 bits of a number's mantissa, and nothing beyond 65,504: the disk and the memory are halved, and
a few neighbours of almost the same distance change places. How few calls that changes is counted, not assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cellvigil import decide
from cellvigil.data import I16, I32, I64, Embeddings, frozen_array
from cellvigil.errors import UsageError
from cellvigil.neighbours import ExactSearch
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import decided, search_over
from cellvigil_indexes.settings import IndexSettings

AGREEMENT_WANTED = 0.995  # share of the cells
ASKED_AT_MOST = 2_000  # cells that are called both ways
_LARGEST = float(np.finfo(np.float16).max)
_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often half precision leaves a call as it is."""

    agreement: float  # share of the cells asked, 0..1
    cells: int  # asked: all, or a seeded sample
    left_out: str  # what no cell was called by: "group" (the cells of its own) or "cell" (itself only)


def halved(embeddings: Embeddings) -> Embeddings:
    """The same vectors as f16, (n, d_e) an encoder. Raises UsageError for values beyond half precision's range."""
    halves = {}
    for name, block in embeddings.items():
        half = np.empty(block.shape, dtype=np.float16)
        for start in range(0, len(block), _ROWS):
            rows = np.asarray(block[start : start + _ROWS])
            largest = float(np.abs(rows).max(initial=0.0))
            if largest > _LARGEST:
                raise UsageError(
                    f"encoder {name} gave values up to {largest:.4g}; half precision ends at {_LARGEST:.0f}",
                    hint="use --storage float32",
                )
            half[start : start + _ROWS] = rows
        halves[name] = frozen_array(half)
    return halves


def stored(
    bank: Bank, settings: IndexSettings, encoders: Sequence[str], *, force: bool = False
) -> tuple[Embeddings, dict[str, Any] | None]:
    """The vectors as `settings.storage` wants them, and what the manifest says of half precision.

    None for single precision, and for vectors that come in half precision already: there is nothing to compare with.
    Raises UsageError as `halved`, `agreement` and `checked` do.
    """
    if settings.storage == "float32":
        return {name: np.asarray(block, dtype=np.float32) for name, block in bank.embeddings.items()}, None
    if all(block.dtype == np.float16 for block in bank.embeddings.values()):
        return bank.embeddings, None
    halves = halved(bank.embeddings)
    return halves, checked(agreement(bank, halves, settings, encoders), force=force)


def agreement(
    bank: Bank, halves: Embeddings, settings: IndexSettings, encoders: Sequence[str] | None = None, *, seed: int = 0
) -> Agreement:
    """Call cells by those of other groups, once as they are and once in half precision, and compare the calls.

    The cells that are called are rounded too, which live ones are not: the figure is rather too low than too high.
    With a single group, or where a group holds almost all, a cell is only kept from calling itself.

    Args:
        bank: the reference cells, in single precision.
        halves: the same vectors, see `halved`.
        settings: metric, scaling, depth, threshold, reweighting.
        encoders: those that calls look at; default: all.
        seed: chooses which cells are asked where there are more than `ASKED_AT_MOST`.

    Raises UsageError where there are no more than k_min cells.
    """
    rows = _asked(len(bank), seed)
    groups, left_out = _groups(bank, settings)
    width = min(settings.k_max, len(bank) - int(np.bincount(groups).max(initial=0)))
    if width < settings.k_min:
        what = f"{len(bank)} cells are too few to try half precision on (k_min {settings.k_min})"
        raise UsageError(what, hint="use --storage float32")
    single = search_over(bank, settings, encoders)
    blocks = [halves[name] for name in single.names]
    half = (
        search_over(replace(bank, embeddings=halves), settings, encoders)
        if settings.scaling == "discriminant"
        else ExactSearch.of(single.names, blocks, single.scales, metric=settings.metric)
    )
    known = replace(bank, groups=groups)
    same = _called(single, known, rows, settings, width) == _called(half, known, rows, settings, width)
    return Agreement(float(np.mean(same)), len(rows), left_out)


def checked(found: Agreement, *, force: bool = False) -> dict[str, Any]:
    """The figures as the manifest keeps them. Raises UsageError below `AGREEMENT_WANTED` unless forced."""
    if found.agreement < AGREEMENT_WANTED and not force:
        raise UsageError(
            f"in half precision only {100 * found.agreement:.2f} % of {found.cells} cells keep their call "
            f"({100 * AGREEMENT_WANTED:.1f} % are wanted)",
            hint="use --storage float32, or --force-storage",
        )
    return {**asdict(found), "wanted": AGREEMENT_WANTED}


def _asked(cells: int, seed: int) -> I64:
    if cells <= ASKED_AT_MOST:
        return np.arange(cells)
    return np.sort(np.random.default_rng(seed).choice(cells, ASKED_AT_MOST, replace=False))


def _groups(bank: Bank, settings: IndexSettings) -> tuple[I32, str]:
    """The groups to leave out: the bank's, or every cell its own where the others of one would be too few."""
    if len(bank) and len(bank) - int(np.bincount(bank.groups).max()) >= settings.k_min:
        return bank.groups, "group"
    return np.arange(len(bank), dtype=np.int32), "cell"


def _called(search: ExactSearch, bank: Bank, rows: I64, settings: IndexSettings, width: int) -> I16:
    cuts = decide.depths(settings.depth, width)
    near = search.leaving_out(bank.groups, width, rows, cuts)
    return decided(near, bank, settings).best
