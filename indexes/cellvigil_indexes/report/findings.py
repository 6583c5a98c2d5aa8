"""All numbers of a report, computed once from an open index; drawing is other files' work. Reads the index only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.index import ReferenceCell, ReferenceIndex, reference_cells
from cellvigil.data import F32, I16, I64
from cellvigil_indexes import telling
from cellvigil_indexes.measures.selective import Selective, selective
from cellvigil_indexes.report.alignment import alignments, gaussian_kernel
from cellvigil_indexes.report.carried import Carried, carried_of
from cellvigil_indexes.report.outoffold import OutOfFold, called_by_others
from cellvigil_indexes.report.principal import block_shares, components, dimension_for
from cellvigil_indexes.report.projection import Method, method_for, project
from cellvigil_indexes.report.similarity import PCA_DIMENSIONS, ClassSimilarity, class_similarity
from cellvigil_indexes.report.spaces import Space, spaces_of
from cellvigil_indexes.report.trials import Trials, trials_of
from cellvigil_indexes.report.typical import Shown, shown
from cellvigil_indexes.sampling import sampled
from cellvigil_indexes.threads import one_thread

F64 = npt.NDArray[np.float64]

LOOKED_AT = 3_000
"""Cells that are projected, compared and called; of a larger index a seeded sample that keeps every class."""
ALIGNED = 2_000
"""Cells that kernels are taken of."""
LEADING = 20
"""Components whose origin is drawn one by one."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class SpaceFindings:
    """One space: an encoder's, or the chosen combination."""

    name: str
    chosen: bool
    encoders: tuple[str, ...]
    dimension: int
    points: F32  # (m, 2)
    similarity: ClassSimilarity
    components_95: int  # principal components that explain 95 % of the variance of the m cells
    shares: Mapping[str, F64]  # encoder -> its share of each leading component, (kept,)
    share_95: Mapping[str, float]  # encoder -> its share of the kept components' variance


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What a page is drawn from."""

    index: ReferenceIndex
    about: Mapping[str, Any]  # `telling.described`
    cells: Sequence[ReferenceCell]
    rows: I64  # (m,) rows of the index that were looked at
    labels: I16  # (m,) their class ids
    method: Method
    spaces: Sequence[SpaceFindings]
    cka: F64  # (spaces, spaces), biased as Kornblith et al. define it
    cka_debiased: F64
    cka_cells: int
    shown: Mapping[str, Shown]  # class name -> rows of the index
    called: OutOfFold | None
    rankings: Mapping[str, Selective]  # certainty's name -> how it ranks the out-of-fold calls
    trials: Trials | None
    carried: Carried | None = None  # how it was carried to another device; None: it was not


def find(index: ReferenceIndex, projection: str, tell: Tell) -> Findings:
    """Compute everything. `tell` is told each step as it begins.

    Raises UsageError where `projection` cannot be had, BundleError for a bundle that cannot be read.
    """
    rows = sampled(index.labels, LOOKED_AT)
    labels = np.asarray(index.labels[rows])
    method = method_for(projection, len(rows))
    spaces = spaces_of(index, rows)
    measured = []
    few = sampled(labels, ALIGNED)
    with one_thread():
        for space in spaces:
            tell(f"looking at {space.name}")
            measured.append(_measured(space, labels, len(index.classes), method))
        tell("comparing the encoders")
        kernels = [gaussian_kernel(space.vectors[few]) for space in spaces]
        cka = [alignments(kernels, debiased=debiased) for debiased in (False, True)]
        tell("comparing the devices")
        carried = carried_of(index, method)
    tell("calling cells by those of other groups")
    called = called_by_others(index, rows)
    return Findings(
        index=index,
        about=telling.described(index),
        cells=reference_cells(index),
        rows=rows,
        labels=labels,
        method=method,
        spaces=measured,
        cka=cka[0],
        cka_debiased=cka[1],
        cka_cells=len(few),
        shown=_shown(index, rows, labels, next(space for space in spaces if space.chosen)),
        called=called,
        rankings=_rankings(called),
        trials=trials_of(index.folder, index.manifest.get("tuning")),
        carried=carried,
    )


def as_dict(found: Findings, html: Path) -> dict[str, Any]:
    """The numbers as plain values for JSON; what is not a number there is None."""
    names, calibration = [space.name for space in found.spaces], found.index.calibration
    return {
        name: _plain(value)
        for name, value in {
            "index": found.index.name,
            "sha256": found.index.sha256,
            "html": str(html),
            "bytes": html.stat().st_size,
            "cells": len(found.index),
            "cells_looked_at": len(found.rows),
            "projection": found.method.name,
            "classes": found.about["classes"],
            "spaces": [
                {
                    "name": space.name,
                    "chosen": space.chosen,
                    "dimension": space.dimension,
                    "intra": space.similarity.intra,
                    "inter": space.similarity.inter,
                    "separability": space.similarity.separability,
                    "similarity": space.similarity.matrix.tolist(),
                    "components_95": space.components_95,
                    "component_shares": dict(space.share_95),
                }
                for space in found.spaces
            ],
            "distance_shares": {each["name"]: each["distance_share"] for each in found.about["encoders"]},
            "cka": {"spaces": names, "biased": found.cka.tolist(), "debiased": found.cka_debiased.tolist()},
            "out_of_fold": _out_of_fold(found),
            "evaluation": found.about["evaluation"],
            "calibration": None if calibration is None else dict(calibration.measured),
            "trials": None if found.trials is None else found.trials.as_dict(),
            "alignment": None if found.carried is None else dict(found.carried.record),
            "warnings": found.about["warnings"],
        }.items()
    }


def _measured(space: Space, labels: I16, classes: int, method: Method) -> SpaceFindings:
    found = components(space.vectors, PCA_DIMENSIONS)
    shares = block_shares(found.loadings, space.blocks)
    strength = found.variances[: found.loadings.shape[1]]
    whole = max(float(strength.sum()), np.finfo(np.float64).tiny)
    return SpaceFindings(
        name=space.name,
        chosen=space.chosen,
        encoders=tuple(name for name, _ in space.blocks),
        dimension=space.dimension,
        points=project(found, method),
        similarity=class_similarity(found.project(PCA_DIMENSIONS), labels, classes),
        components_95=dimension_for(found.variances),
        shares=shares,
        share_95={name: float(part @ strength) / whole for name, part in shares.items()},
    )


def _shown(index: ReferenceIndex, rows: I64, labels: I16, space: Space) -> dict[str, Shown]:
    own = index.novelty_labels is None  # else it is of cells of another device
    novelty = np.asarray(index.novelty[rows]) if own else np.full(len(rows), np.nan, dtype=np.float32)
    chosen = {name: shown(space.vectors, labels, novelty, i) for i, name in enumerate(index.classes)}
    return {name: Shown(rows[each.typical], rows[each.odd]) for name, each in chosen.items()}


def _rankings(called: OutOfFold | None) -> dict[str, Selective]:
    if called is None:
        return {}
    certainties = {"C of the papers": called.certainty, "vote share": called.share, "probability": called.probability}
    found = {name: selective(each, called.right) for name, each in certainties.items() if each is not None}
    return {name: each for name, each in found.items() if each is not None}


def _out_of_fold(found: Findings) -> dict[str, Any] | None:
    if found.called is None:
        return None
    return {
        "cells": len(found.called.rows),
        "right": int(found.called.right.sum()),
        "accuracy": float(found.called.right.mean()),
        "auroc": {name: each.auroc for name, each in found.rankings.items()},
    }


def _plain(value: Any) -> Any:
    """The same with None for every number that JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
