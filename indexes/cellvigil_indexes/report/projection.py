"""Cells on a sheet of paper: UMAP of each space, or its first two principal components. Pure.

Frontiers in Oncology 2025, section 3.1, figure 5 (first row); the paper gives no parameters, so UMAP's own are taken.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32
from cellvigil.errors import UsageError
from cellvigil.neighbours import ExactSearch
from cellvigil_indexes.report.principal import Components

METHODS = ("auto", "umap", "pca")
PCA_FIRST = 50
"""Principal components that UMAP sees: less noise, and the same time for every encoder."""
FEWEST = 50
"""Cells below which UMAP's picture says nothing, and principal components are drawn instead."""
NEIGHBOURS = 15
MIN_DISTANCE = 0.1
SEED = 0


@dataclass(frozen=True, slots=True)
class Method:
    """How cells are projected."""

    name: str  # "umap" or "pca"
    words: str  # a sentence for the reader


def method_for(wanted: str, cells: int) -> Method:
    """What is to be had. Raises UsageError where UMAP was asked for and is not installed."""
    there = importlib.util.find_spec("umap") is not None
    if wanted == "umap" and not there:
        raise UsageError("umap-learn is not installed", hint="pip install 'cellvigil[report]', or --projection pca")
    if wanted == "pca":
        return Method("pca", "First two principal components, as asked with --projection pca.")
    if not there:
        return Method(
            "pca",
            "First two principal components: umap-learn is not installed (pip install 'cellvigil[report]' for UMAP).",
        )
    if cells < FEWEST:
        return Method("pca", f"First two principal components: {cells} cells are too few for UMAP.")
    return Method(
        "umap",
        f"UMAP (Euclidean, {NEIGHBOURS} neighbours, minimal distance {MIN_DISTANCE}, seed {SEED}) of the first "
        f"{PCA_FIRST} principal components. Near cells are alike; distances between islands and their sizes mean "
        "little.",
    )


def project(found: Components, method: Method) -> F32:
    """The cells of a space in two dimensions, (m, 2) f32; a missing second component is 0."""
    flat = np.zeros((len(found.scores), 2), dtype=np.float32)
    if method.name == "pca" or found.scores.shape[1] < 2:
        first = found.project(2)
        flat[:, : first.shape[1]] = first
        return flat
    return _umap(found.project(PCA_FIRST))


def _umap(vectors: F32) -> F32:
    """UMAP over neighbours that are found exactly here: its own search compiles for half a minute first."""
    known = min(NEIGHBOURS, len(vectors) - 1)
    near = ExactSearch.of(["space"], [np.ascontiguousarray(vectors)], [1.0]).nearest({"space": vectors}, known)
    with warnings.catch_warnings():  # numba's and scikit-learn's deprecations are not the reader's business
        warnings.simplefilter("ignore")
        import umap  # noqa: PLC0415 - the extra `report`; compiles for seconds

        mapper = umap.UMAP(
            n_neighbors=known,
            min_dist=MIN_DISTANCE,
            precomputed_knn=(near.ids.astype(np.int64), np.array(near.distances)),
            random_state=SEED,
            n_jobs=1,  # more threads would make the picture differ from run to run
        )
        return np.asarray(mapper.fit_transform(vectors), dtype=np.float32)
