"""What cells of a target that no fit has seen say of an aligned index: how far out such a cell usually lies.

After an alignment the references lie inside the target's hull, and distances shrink whatever the fit is worth
(`methods.md`, "Transport"): reference distances say nothing of a target cell. Cells of the target itself do, as long as
the fit had no part of them. They have no label, so they count for the class that the index calls them: a later cell of
the same device, called so, is exchangeable with them, and its p-value is valid (conformal prediction a category at a
time: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", section 4.5).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cellvigil import decide, pipeline
from cellvigil.bundle.calibration import Calibration
from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import Embeddings, frozen_array
from cellvigil.errors import UsageError
from cellvigil.neighbours import open_search
from cellvigil_indexes.calibrating import NOVEL_BELOW


def witnessed(index: ReferenceIndex, witnesses: Embeddings | None) -> ReferenceIndex:
    """The index with novelty from target cells, encoder -> (m, d_e), that had no part in its fit; None: unchanged.

    Raises UsageError for witnesses without a vector of each encoder.
    """
    if witnesses is None or not any(len(block) for block in witnesses.values()):
        return index
    try:
        opinions, scores = pipeline.opinions_of(witnesses, index, open_search(index), decide.Settings.of(index))
    except ValueError as error:
        raise UsageError(f"the cells kept out of the fit cannot be called: {error}") from None
    labels = decide.combine(opinions, scores, index).best_ids
    return replace(
        index,
        novelty=frozen_array(scores),
        novelty_labels=frozen_array(labels),
        calibration=_calibration(index, labels),
    )


def _calibration(index: ReferenceIndex, labels: np.ndarray) -> Calibration | None:
    """Where a source of this very device may reject: where a class has the witnesses for so small a p-value."""
    if index.calibration is None:
        return None
    known = np.bincount(labels, minlength=len(index.classes))
    able = [name for name, cells in zip(index.classes, known, strict=True) if 1 / (1 + cells) < NOVEL_BELOW]
    told = {
        "how": "mean distance to the k_min nearest, of target cells that no fit saw, by the class they are called",
        "witnesses": {name: int(cells) for name, cells in zip(index.classes, known, strict=True)},
    }
    if able:
        told |= {"never_rejected": [name for name in index.classes if name not in able]}
    else:
        told |= {
            "why_not": f"no class has the witnesses for a p-value below {NOVEL_BELOW:g}: {int(known.max())} at most"
        }
    measured = {**index.calibration.measured, "novelty": told}
    return replace(index.calibration, novel_below=NOVEL_BELOW if able else None, measured=measured)
