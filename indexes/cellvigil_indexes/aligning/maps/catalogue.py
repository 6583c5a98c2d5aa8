"""The maps by name: what `--align` offers, and what stands side by side in the tables.

Harmony is left out: its kept Python library, harmonypy 2.1, needs no torch, but is under the GPL-3.0, which a program
under the Apache licence cannot ask its users to install for one line of a table; and it moves both sides, where the
target's cells must stay as the encoders gave them.
"""

from __future__ import annotations

from collections.abc import Mapping
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

MAPS: Mapping[str, Mapper] = {
    "none": unmoved,
    "zscore": zscore,
    "coral": coral,
    "sphering": sphering,
    "monge": monge,
    "fgw": fgw,
    "fgw-coral": partial(fgw, settings=Transport(before="coral")),
    "fgw-relaxed": partial(fgw, settings=Transport(pull=PULL)),
}
"""By the name that `--align` takes.

`fgw` compares features as they came, as the paper does. Over five pairs of image sets (three of them altered pictures)
and two encoders, with true class shares, that was better than after any shift: balanced accuracy 0.75, after z-score
0.74, Monge 0.73, CORAL 0.71. The masses being fixed, a common shift adds nearly the same to every plan. `fgw-relaxed`
must not take a shift off under class shares that it is looking for.
"""

TRANSPORTS = ("fgw", "fgw-coral", "fgw-relaxed")
"""Those that need POT, and carry no cell but the references they were fitted on."""
