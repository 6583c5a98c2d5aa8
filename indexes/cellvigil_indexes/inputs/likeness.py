"""Near-copies among cells' pictures: the same cell twice, saved again, or in two fields of view that overlap.

The hash is the DCT hash of image data bases (Zauner 2010, "Implementation and benchmarking of perceptual image hash
functions", section 3.2.1): the signs of the slowest cosines of the small grey picture against their median. It is
quick to compare, but cells on empty ground are all a blob in the middle: of 554 real ones (`livedead`, crops of 30 um)
21 pairs share a hash, and 16 of those are different cells. So the small pictures are compared too: true copies
correlate at 0.998 and above there, different cells at 0.972 and below, and no two of 1,370 `pbc` cells at 0.9.

Arrays in, arrays out; nothing is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, I64, U8, Bools

U64 = npt.NDArray[np.uint64]

WITHIN = 4
"""Bits of 63 in which the hashes of near-copies may differ; the copies in `livedead` differ in 2 or fewer."""

CORRELATION = 0.98
"""Least correlation of the small pictures of near-copies: between the 0.972 and the 0.998 above."""

_SIDE = 32  # of the small picture, pixels
_SLOWEST = 8  # cosines along each axis
_BLOCK = 512  # hashes that are compared with all later ones in one go
_EXACT = 20_000  # above this many hashes only those that share a band of bits are compared


def copies(pictures: U8) -> I64:
    """Pairs of rows (m, 2), first below second, of pictures (n, H, W, C) u8 that are near-copies of each other."""
    found = pairs(hashes(pictures), WITHIN)
    return alike(pictures, found, CORRELATION)


def hashes(pictures: U8) -> U64:
    """The perceptual hash of each picture (n, H, W, C), 63 bits in (n,) u64."""
    waves = np.array([cv2.dct(small)[:_SLOWEST, :_SLOWEST].ravel()[1:] for small in _small(pictures)], np.float32)
    if not len(waves):
        return np.empty(0, dtype=np.uint64)
    bits = waves > np.median(waves, axis=1, keepdims=True)
    return np.packbits(np.pad(bits, ((0, 0), (1, 0))), axis=1).view(">u8")[:, 0].astype(np.uint64)


def pairs(codes: U64, within: int) -> I64:
    """Every pair (m, 2) of rows, first below second, whose hashes differ in `within` bits or fewer; sorted.

    All are compared up to 20,000; above, only hashes that share one of `within` + 1 bands of bits, which two hashes
    that close must: the answer is the same.
    """
    if len(codes) <= _EXACT:
        return _compared(codes, np.arange(len(codes)), within)
    edges = np.linspace(0, 64, within + 2).astype(int)
    found = [np.empty((0, 2), dtype=np.int64)]
    for low, high in pairwise(edges.tolist()):
        band = (codes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        _, starts = np.unique(band[order], return_index=True)
        found += [_compared(codes, rows, within) for rows in np.split(order, starts[1:]) if len(rows) > 1]
    return np.unique(np.concatenate(found), axis=0)


def alike(pictures: U8, candidates: I64, least: float) -> I64:
    """Those pairs of rows whose small pictures correlate at `least` or above. Flat pictures are like nothing."""
    rows, places = np.unique(candidates, return_inverse=True)
    shapes = _small(pictures[rows]).reshape(len(rows), _SIDE * _SIDE)
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(shapes, axis=1, keepdims=True)
    shapes = np.divide(shapes, lengths, out=np.zeros_like(shapes), where=lengths > 1)
    first, second = places.reshape(-1, 2).T
    kept = [
        np.einsum("ij,ij->i", shapes[first[start : start + _BLOCK]], shapes[second[start : start + _BLOCK]]) >= least
        for start in range(0, len(first), _BLOCK)
    ]
    return candidates[np.concatenate(kept)] if kept else candidates


def straddling(found: I64, groups: Sequence[str]) -> I64:
    """Those pairs of rows that lie in different groups: a split by group puts a copy on either side."""
    return _differing(found, groups)


def conflicting(found: I64, labels: Sequence[str]) -> I64:
    """Those pairs of rows that are labelled differently."""
    return _differing(found, labels)


def firsts(found: I64, labels: Sequence[str]) -> Bools:
    """Which rows (n,) to keep: each that is no copy of an earlier kept one of its own class."""
    kept = np.ones(len(labels), dtype=bool)
    for first, second in found[np.lexsort((found[:, 0], found[:, 1]))].tolist():
        if kept[first] and labels[first] == labels[second]:
            kept[second] = False
    return kept


def _differing(found: I64, names: Sequence[str]) -> I64:
    _, ids = np.unique(np.asarray(names, dtype=object), return_inverse=True)
    return np.asarray(found[ids[found[:, 0]] != ids[found[:, 1]]])


def _compared(codes: U64, rows: I64, within: int) -> I64:
    """Pairs within some bits among these rows, all of them compared."""
    rows = np.sort(rows)
    own = codes[rows]
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(own), _BLOCK):
        near = np.bitwise_count(own[start : start + _BLOCK, None] ^ own[None, start:]) <= within
        first, second = np.nonzero(np.triu(near, 1))
        found.append(np.stack([rows[first + start], rows[second + start]], axis=1))
    return np.concatenate(found)


def _small(pictures: U8) -> F32:
    """The pictures as (n, 32, 32) f32, grey."""
    small = np.empty((len(pictures), _SIDE, _SIDE), dtype=np.float32)
    for row, picture in enumerate(pictures):
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.shape[2] == 3 else picture[..., 0]
        small[row] = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return small
