"""How right an aligned index is on a target that happens to have labels, in two numbers a part. No printing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import I64, UNKNOWN
from cellvigil_indexes.evaluating.scoring import score
from cellvigil_indexes.evaluating.transfers import names_called
from cellvigil_indexes.unlabelled import Unlabelled


def spot_scores(
    index: ReferenceIndex, aligned: ReferenceIndex, target: Unlabelled, parts: Mapping[str, I64]
) -> dict[str, dict[str, Any]]:
    """Balanced accuracy before and after, for each part of the target's rows that has cells of the index's classes.

    A cell that is called one of the target's own new classes, or unknown, is not called right. Cells of other classes
    are passed over.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, rows in parts.items():
        here = np.array([row for row in rows.tolist() if target.names[row] in index.classes], dtype=np.int64)
        if not len(here):
            continue
        truth, queries = [target.names[row] for row in here.tolist()], target.vectors(here)
        found[name] = {"cells": len(here)}
        for key, which in (("unaligned", index), ("aligned", aligned)):
            said = [each if each in index.classes else UNKNOWN for each in names_called(which, queries)]
            found[name][key] = score(truth, said, index.classes).balanced_accuracy
    return found
