"""The maps by name: what `--align` offers, and what stands side by side in the tables.

Harmony is left out: its kept Python library, harmonypy 2.1, needs no torch, but is under the GPL-3.0, which a program
under the Apache licence cannot ask its users to install for one line of a table; and it moves both sides, where the
target's cells must stay as the encoders gave them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from cellvigil_indexes.aligning.maps.coral import coral
from cellvigil_indexes.aligning.maps.monge import monge
from cellvigil_indexes.aligning.maps.sphering import sphering
from cellvigil_indexes.aligning.maps.transport import Transport, fgw
from cellvigil_indexes.aligning.maps.unmoved import unmoved
from cellvigil_indexes.aligning.maps.zscore import zscore
from cellvigil_indexes.aligning.values import Mapper

PULL = 0.05
"""How strongly the relaxed transport holds to the class shares it is given."""

_TRANSPORTS = {
    "fgw": Transport(),
    "fgw-coral": Transport(before="coral"),
    "fgw-relaxed": Transport(pull=PULL),
}

MAPS: Mapping[str, Mapper] = {
    "none": unmoved,
    "zscore": zscore,
    "coral": coral,
    "sphering": sphering,
    "monge": monge,
    **{name: partial(fgw, settings=how) for name, how in _TRANSPORTS.items()},
}
"""By the name that `--align` takes.

`fgw` compares features as they came, as the paper does. Over five pairs of image sets (three of them altered pictures)
and two encoders, with true class shares, that was better than after any shift: balanced accuracy 0.75, after z-score
0.74, Monge 0.73, CORAL 0.71. The masses being fixed, a common shift adds nearly the same to every plan. `fgw-relaxed`
must not take a shift off under class shares that it is looking for.
"""

TRANSPORTS = tuple(_TRANSPORTS)
"""Those that need POT, and carry no cell but the references they were fitted on."""


def mapper_of(name: str, *, alpha: float | None, k: int, subset: int, seed: int) -> Mapper:
    """The map of that name; a transport with this alpha (None: its own, 0.5), graph, subsets and seed."""
    if name not in _TRANSPORTS:
        return MAPS[name]
    usual = _TRANSPORTS[name]
    weighed = usual.alpha if alpha is None else alpha
    return partial(fgw, settings=replace(usual, alpha=weighed, k=k, subset=subset, seed=seed))
