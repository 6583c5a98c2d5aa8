"""Zero-safe Canberra distance: the sum over dimensions of |x - y| / (|x| + |y|), where 0/0 counts 0.

Pure arithmetic, on FAISS's number of threads. FAISS's own METRIC_Canberra gives NaN where both vectors are zero in one
dimension, and then drops the neighbour; activations of a ReLU are full of zeros. Compiled by Numba where it is
installed (the extra "canberra"), else by NumPy: the same distances but for rounding, several times slower. The compiled
loop is not cached on disk, which need not be writable: a process that uses it spends about a second on it, once.

A pair's distance is the same bits whatever it is computed beside: every pair passes the same loop in the same order.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import faiss
import numpy as np

from cellvigil.data import F32
from cellvigil.neighbours.halves import single

_ROWS = 64  # references a task: with 1,024 of their dimensions they stay in a core's second-level cache
_TILE = 4  # queries that share one pass over a reference
TINY = np.float32(1e-37)  # makes 0/0 a 0; lost in rounding beside any sum above 1e-30


@cache
def engine() -> str:
    """Which arithmetic `canberra_table` uses here: "numba", or "numpy" where Numba cannot be imported."""
    try:
        importlib.import_module("numba")
    except ImportError:  # also where it does not fit the NumPy that is here
        return "numpy"
    return "numba"


def canberra_table(queries: F32, references: F32, *, by: str | None = None) -> F32:
    """Canberra distance of every query to every reference, (n, N) f32.

    Args:
        queries: (n, d) f32, finite.
        references: (N, d) f32 or f16, finite; may be memory-mapped (converted a block at a time).
        by: "numba" or "numpy"; default: `engine()`.

    Raises ImportError for "numba" where it is not installed.
    """
    fill = _by_numba if (by or engine()) == "numba" else _by_numpy
    padded = np.zeros((-(-len(queries) // _TILE) * _TILE, queries.shape[1]), dtype=np.float32)
    padded[: len(queries)] = queries
    table = np.zeros((len(padded), len(references)), dtype=np.float32)
    kernel = fill()

    def task(start: int) -> None:
        rows = np.require(single(references[start : start + _ROWS]), requirements="W")  # as the loop was compiled for
        kernel(padded, rows, table, start)

    _side_by_side(task, range(0, len(references), _ROWS))
    return table[: len(queries)]


def _side_by_side(task: Callable[[int], None], starts: range) -> None:
    """Run the tasks on FAISS's number of threads; NumPy and Numba let go of the interpreter's lock."""
    threads = min(faiss.omp_get_max_threads(), len(starts))
    if threads <= 1:
        for start in starts:
            task(start)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(task, starts))


def _by_numpy() -> Callable[[F32, F32, F32, int], None]:
    return _numpy_block


def _numpy_block(queries: F32, rows: F32, table: F32, first: int) -> None:
    """Fill the columns of a block of references, a query at a time so that the block stays in the cache."""
    sizes = np.abs(rows) + TINY
    over, under = np.empty_like(rows), np.empty_like(rows)
    for number, query in enumerate(queries):
        np.abs(np.subtract(rows, query, out=over), out=over)
        np.add(sizes, np.abs(query), out=under)
        table[number, first : first + len(rows)] = np.divide(over, under, out=over).sum(axis=1)


@cache
def _by_numba() -> Callable[[F32, F32, F32, int], None]:
    """The compiled loop. Not Numba's own threads: its default layer dies when two threads enter it at once."""
    numba: Any = importlib.import_module("numba")
    return numba.njit(  # type: ignore[no-any-return]  # Numba has no types
        "void(f4[:, ::1], f4[:, ::1], f4[:, ::1], i8)",
        fastmath={"reassoc", "contract", "nsz", "arcp"},  # lets sums run in lanes; NaN and infinity keep their meaning
        nogil=True,
        error_model="numpy",
    )(_block)


def _block(queries: F32, rows: F32, table: F32, first: int) -> None:
    """Fill the columns of a block of references: four queries a pass, 1,024 dimensions a partial sum."""
    for start in range(0, queries.shape[1], 1024):
        stop = min(queries.shape[1], start + 1024)
        for i in range(0, queries.shape[0], 4):
            a, b = queries[i, start:stop], queries[i + 1, start:stop]
            c, d = queries[i + 2, start:stop], queries[i + 3, start:stop]
            for j in range(rows.shape[0]):
                row = rows[j, start:stop]
                at_a = at_b = at_c = at_d = np.float32(0)
                for place in range(stop - start):
                    value = row[place]
                    size = abs(value) + TINY
                    at_a += abs(a[place] - value) / (abs(a[place]) + size)
                    at_b += abs(b[place] - value) / (abs(b[place]) + size)
                    at_c += abs(c[place] - value) / (abs(c[place]) + size)
                    at_d += abs(d[place] - value) / (abs(d[place]) + size)
                table[i, first + j] += at_a
                table[i + 1, first + j] += at_b
                table[i + 2, first + j] += at_c
                table[i + 3, first + j] += at_d
