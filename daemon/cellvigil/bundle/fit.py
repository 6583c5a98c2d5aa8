"""How a bundle's manifest says that a picture is fitted to its encoder: `preprocessing.outside_the_graph`.

    {"side": 224, "resample": "bicubic", "shortest": 256}

Manifests written before encoders had such a rule hold {"resize": text}: their pictures are brought straight to the
input's side, as they always were.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellvigil.data import Fit
from cellvigil.errors import BundleError
from cellvigil.resample import RESAMPLES

_FIELDS = {"side", "resample", "shortest"}
_FORMER = {"resize"}


def fit_of(manifest: Mapping[str, Any], *, where: str | Path = "") -> Fit:
    """The fit that an encoder's manifest describes.

    Raises BundleError for one that is no fit, and for steps that nothing here does: a picture made without them would
    give vectors that look right and are not.
    """
    preprocessing = manifest.get("preprocessing", {})
    outside = preprocessing.get("outside_the_graph", {}) if isinstance(preprocessing, Mapping) else preprocessing
    side, hint = manifest["input_size"], "export the encoder again"
    if not isinstance(outside, Mapping):
        raise BundleError(f"preprocessing.outside_the_graph is {outside!r}", where=where, hint=hint)
    if set(outside) <= _FORMER:
        return Fit(side)
    if unknown := sorted(set(outside) - _FIELDS):
        what = f"the encoder wants {', '.join(unknown)} outside of its graph, which nothing here does"
        raise BundleError(what, where=where, hint="update cellvigil, or export the encoder again")
    try:
        fit = Fit(**outside)
    except TypeError as error:
        raise BundleError(f"preprocessing.outside_the_graph is incomplete: {error}", where=where, hint=hint) from None
    if type(fit.side) is not int or fit.side != side:
        raise BundleError(f"pictures are fitted to {fit.side!r} pixels, the model takes {side}", where=where, hint=hint)
    if fit.resample not in RESAMPLES:
        what = f"pictures are resized by {', '.join(RESAMPLES)}, not {fit.resample!r}"
        raise BundleError(what, where=where, hint="update cellvigil, or export the encoder again")
    if type(fit.shortest) is not int or (fit.shortest != 0 and fit.shortest < fit.side):
        raise BundleError(f"a picture of {fit.shortest!r} pixels has no centre of {fit.side}", where=where, hint=hint)
    return fit
