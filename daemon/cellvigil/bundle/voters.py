"""The voters of an index that was aligned to another device, as its bundle keeps them. Reads only.

    manifest.json "voters"                    name, weight, space, scaling, metric, encoders and where its vectors are
    voters/<number>/embeddings_<encoder>.npy  (N, d) the references in this voter's space, where no earlier file is so
    voters/<number>/projection_<encoder>.npy, projected_<encoder>.npy    its own axes, where it has some

The optimal-transport paper, section 3.4. A voter in the original space looks at the index's own files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cellvigil.bundle.arrays import check_arrays, mapped
from cellvigil.bundle.index_manifest import REALIGN
from cellvigil.bundle.projection import open_projection, projected_file, projection_file
from cellvigil.bundle.reference import IndexEncoder, ReferenceIndex, Voter
from cellvigil.data import Embeddings, frozen_array
from cellvigil.errors import BundleError

__all__ = ["Voter", "check_voters", "open_voters", "view_of", "voter_folder"]

SPACES = ("original", "aligned")


def voter_folder(number: int) -> str:
    """Where a voter's own files are, inside the bundle."""
    return f"voters/{number}"


def view_of(index: ReferenceIndex, encoders: Sequence[IndexEncoder], embeddings: Embeddings) -> ReferenceIndex:
    """The index's cells as one voter sees them: these encoders and vectors, searched exactly, without certainty.

    Axes are none, the metric is the index's; whoever makes a voter replaces them.
    """
    return replace(
        index,
        encoders=tuple(encoders),
        spare_encoders=(),
        search="exact",  # a graph is of the index's own vectors
        calibration=None,
        confusion=None,
        embeddings=embeddings,
        projections={},
        projected={},
        norms=None,
        novelty=frozen_array(np.full(len(index), np.nan, dtype=np.float32)),
        novelty_labels=None,
        voters=(),
    )


def open_voters(index: ReferenceIndex) -> tuple[Voter, ...]:
    """The voters that the manifest of an open index names; none where it names none.

    Raises BundleError for files that are missing, unlisted or do not fit; KeyError, TypeError or ValueError for an
    entry that is garbled.
    """
    entries = index.manifest.get("voters") or []
    return tuple(_opened(index, number, entry) for number, entry in enumerate(entries))


def check_voters(index: ReferenceIndex) -> None:
    """Names differ, weights sum to 1, arrays fit. Raises BundleError that says what does not."""
    if not index.voters:
        return
    names = [voter.name for voter in index.voters]
    if len(set(names)) < len(names) or not all(names):
        raise BundleError("two voters have one name, or one has none", where=index.folder, hint=REALIGN)
    weights = [voter.weight for voter in index.voters]
    if not all(weight > 0 for weight in weights) or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise BundleError(f"the voters weigh {weights}, which does not sum to 1", where=index.folder, hint=REALIGN)
    if {encoder.name for encoder in index.encoders} != {e.name for v in index.voters for e in v.index.encoders}:
        raise BundleError("the encoders are not those of the voters", where=index.folder, hint=REALIGN)
    for voter in index.voters:
        if voter.space not in SPACES:
            what = f"voter {voter.name}: space {voter.space!r} is not known"
            raise BundleError(what, where=index.folder, hint="update cellvigil, or " + REALIGN)
        check_arrays(voter.index)


def _opened(index: ReferenceIndex, number: int, entry: Mapping[str, Any]) -> Voter:
    known = {encoder.name: encoder for encoder in index.encoders}
    encoders = [replace(known[each["name"]], scale=float(each["scale"])) for each in entry["encoders"]]
    paths = {encoder.name: entry["embeddings"][encoder.name] for encoder in encoders}
    own = index.folder / voter_folder(number)
    axes = [e for e in encoders if f"{voter_folder(number)}/{projection_file(e.name)}" in index.manifest["files"]]
    along = {e.name: f"{voter_folder(number)}/{projected_file(e.name)}" for e in axes}
    if unlisted := sorted({*paths.values(), *along.values()} - set(index.manifest["files"])):
        raise BundleError(f"the manifest does not list {', '.join(unlisted)}", where=index.folder, hint=REALIGN)
    view = view_of(index, encoders, {name: mapped(index.folder, path) for name, path in paths.items()})
    view = replace(
        view,
        metric=entry["metric"],
        projections={e.name: open_projection(own, e.name, e.dimension) for e in axes},
        projected={name: mapped(index.folder, path) for name, path in along.items()},
    )
    return Voter(entry["name"], float(entry["weight"]), entry["space"], view)
