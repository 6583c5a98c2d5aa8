"""What `cellvigil check` finds out about the alignment of sources: can it be fitted, and how does it stand?

Reads what is kept of earlier fits, and verifies the aligned index; writes nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

from cellvigil import config
from cellvigil.bundle.reference import ReferenceIndex
from cellvigil.errors import CellvigilError
from cellvigil.service.fit_basis import basis_of
from cellvigil.service.fits import Fits, Kept
from cellvigil.service.fitted import open_fit

OK, WARN, FAIL = "ok", "warn", "fail"
_OF_TYPES = ("networkx", "ot")  # of the extra `index`: communities, and optimal transport


def alignment_findings(
    source: config.Source, settings: config.Config, index: ReferenceIndex
) -> Iterator[tuple[str, str]]:
    """Level ("ok", "warn" or "fail") and text of each finding about one source; none where it is not aligned."""
    align, fits = source.align, Fits(settings.state_dir, source.name)
    if align.mode == "off":
        return
    if importlib.util.find_spec("cellvigil_indexes") is None:
        yield FAIL, "align: the package cellvigil_indexes, which fits, is not installed beside this program"
    if align.mode == "types" and (missing := [name for name in _OF_TYPES if importlib.util.find_spec(name) is None]):
        hint = f"pip install 'cellvigil[index]' for {sys.executable}"
        yield FAIL, f"align: mode types needs {' and '.join(missing)}, not installed beside this program; {hint}"
    try:
        basis = basis_of(source, index)
        kept, failed, asked = fits.kept(), fits.failed(), fits.asked()
    except CellvigilError as error:
        yield FAIL, f"align: {error}"
        return
    if align.mode == "types" and {"dying", "dead"} & set(index.groups.values()):
        yield WARN, "align: mode types drops classes that the first cells lack: for cell states take mode states"
    if kept is None or dict(kept.basis) != basis:
        why = "" if kept is None else " (the index, or align, is another than at the last fit)"
        yield OK, f"align: {align.mode}, to be fitted on {align.warm_up_cells} cells; unaligned until then{why}"
    elif asked in ("", kept.answers):
        yield _kept(fits, kept, index)
    else:
        yield OK, f"align: a new fit was asked for at {asked[:16]}Z"
    if failed is not None:
        yield WARN, f"align: the last fit failed: {failed.why}"


def _kept(fits: Fits, kept: Kept, index: ReferenceIndex) -> tuple[str, str]:
    """Whether the aligned index in force is as it was made of `index`."""
    try:
        aligned = open_fit(fits.bundle(kept.number), index, index.encoders, sha256=kept.sha256)
    except CellvigilError as error:
        return FAIL, f"align: {error}, with `cellvigil align --refit`"
    return OK, f"align: fitted on {kept.cells} cells at {kept.at[:16]}Z, bundle {aligned.sha256[:12]}"
