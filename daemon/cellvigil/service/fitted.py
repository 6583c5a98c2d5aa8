"""The aligned index that a fit has made, opened and held against the index that it was made of. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cellvigil.bundle.index import Encoding, check_encoders, open_index
from cellvigil.bundle.origin import aligned_from
from cellvigil.bundle.reference import ReferenceIndex
from cellvigil.errors import BundleError


def open_fit(
    folder: Path, base: ReferenceIndex, encoders: Iterable[Encoding], *, sha256: str = "", memory: Path | None = None
) -> ReferenceIndex:
    """The aligned index in `folder`, verified (`memory`: see `open_index`).

    Raises BundleError for one that may not take the place of `base`, and for one that is sound but another than the fit
    that is in force (`sha256`; "" = none is yet).
    """
    index = open_index(folder, memory=memory)
    if sha256 and index.sha256 != sha256:
        what = f"it is {index.sha256[:12]}, but the fit that is in force is {sha256[:12]}"
        raise BundleError(what, where=folder, hint="bring that one back, or fit anew")
    if aligned_from(index) != base.sha256:
        raise BundleError(f"it is not an aligned version of {base.name}", where=folder, hint="fit it anew")
    if index.image_rule != base.image_rule:
        raise BundleError(f"its image rule is not that of {base.name}", where=folder, hint="fit it anew")
    check_encoders(index, encoders)
    return index
