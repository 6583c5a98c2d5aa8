"""A reference index on disk: labelled cells, their embeddings, and how a picture must be made to be compared with them.

    manifest.json               classes, groups, encoders, image rule, settings, provenance, every file's sha256
    embeddings_<encoder>.npy    (N, d) f32 or f16, one an encoder, also of those not used
    labels.npy                  (N,) i16 class ids             groups.npy      (N,) i32 group ids
    projection_<encoder>.npy, projected_<encoder>.npy          axes that the index is searched in, and the cells in them
    norms.npy                   (E, N) f32 squared lengths     novelty.npy     (N,) f32, see `ReferenceIndex`
    thumbnails.npy              (N, 64, 64, C) u8              cells.csv       where each cell came from
    graph.faiss                 an HNSW graph, where one pays  graph_nodes.npy (N,) i32 the node of each cell
    trials.parquet              what `tune` tried, where it was run
    set_aside/                  the same arrays of cells that are no references: what calibration was fitted on

Reads only; `cellvigil_indexes` writes. Arrays are memory-mapped and read-only.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cellvigil.bundle import files
from cellvigil.bundle.calibration import Calibration, calibration_from_dict
from cellvigil.bundle.confusion import IndexConfusion, confusion_from_dict
from cellvigil.bundle.index_manifest import (
    CELL_GROUPS,
    CELLS,
    GRAPH,
    GRAPH_NODES,
    KIND,
    LABELS,
    NORMS,
    NOVELTY,
    READABLE,
    SCHEMA_VERSION,
    THUMBNAILS,
    check_classes,
    embeddings_file,
    rule_from_dict,
)
from cellvigil.bundle.projection import Projection, open_projection, projected_file, projection_file
from cellvigil.data import F32, I16, I32, I64, U8, Array, Embeddings, ImageRule, frozen_array
from cellvigil.errors import BundleError

_REMAKE = "build the index again"


class Encoding(Protocol):
    """What an encoder bundle must say about itself to be compared with what an index was built with."""

    @property
    def name(self) -> str: ...  # noqa: D102 - the class says it

    @property
    def sha256(self) -> str: ...  # noqa: D102 - the class says it


@dataclass(frozen=True, slots=True)
class IndexEncoder:
    """One encoder that an index was built with."""

    name: str
    sha256: str  # of the encoder bundle
    dimension: int  # d_e
    scale: float = 1.0  # factor on its distances (squared ones, for L2); 1 unless the index's scaling is "unit"
    used: bool = True  # whether calls look at it; `tune` may leave one out, and take it up again later


@dataclass(frozen=True, slots=True)
class ReferenceCell:
    """Where a reference cell came from: what "why" shows beside its thumbnail."""

    class_name: str
    image: str  # path relative to the folder that the index was built from
    box_px: tuple[int, int, int, int]  # y0, x0, y1, x1 in that image, half-open
    group: str  # the cells of one group are left out together


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceIndex:
    """An index that is open and verified. Row i of every array is reference cell i."""

    folder: Path
    name: str
    sha256: str  # identity: of the manifest, which holds every file's own sha256
    classes: tuple[str, ...]  # names by class id
    groups: Mapping[str, str]  # class name -> one of data.GROUPS
    encoders: tuple[IndexEncoder, ...]  # that calls look at, in the order of concatenation
    spare_encoders: tuple[IndexEncoder, ...]  # whose vectors are kept too, and which no call looks at
    image_rule: ImageRule
    k_min: int
    k_max: int
    threshold: float  # normalised entropy, 0..1
    reweight: bool
    metric: str  # "l2" or "canberra"
    search: str  # "exact" or "hnsw"
    calibration: Calibration | None  # None: calls have no probability
    embeddings: Embeddings  # encoder name -> (N, d_e) f32 or f16; of the spare encoders too
    projections: Mapping[str, Projection]  # encoder name -> axes that it is searched in; empty: as the vectors come
    projected: Embeddings  # encoder name -> (N, r_e) f32, the cells along those axes; empty with `projections`
    norms: F32 | None  # (encoders and spares, N) squared lengths, not scaled; None in old indexes
    labels: I16  # (N,) class ids
    cell_groups: I32  # (N,) group ids
    novelty: F32  # (N,) mean distance to the k_min nearest cells of other groups; NaN where too few, or not asked
    thumbnails: U8  # (N, 64, 64, C)
    manifest: Mapping[str, Any]
    confusion: IndexConfusion | None = None  # how its calls go wrong on cells it does not hold; None in old indexes

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def graph_path(self) -> Path:
        """Where the graph is, if `search` is "hnsw"."""
        return self.folder / GRAPH

    def norms_of(self, name: str) -> F32 | None:
        """(N,) squared lengths of one encoder's vectors, where the index keeps them."""
        if self.norms is None:
            return None
        return np.asarray(self.norms[[e.name for e in (*self.encoders, *self.spare_encoders)].index(name)])

    @property
    def class_counts(self) -> I64:
        """Reference cells of each class, (classes,) i64."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def subset(self, rows: I64) -> ReferenceIndex:
        """The same index with only these cells (a copy of their rows), for evaluation with cells held out."""
        return replace(
            self,
            search="exact",  # a graph is of all cells
            embeddings={name: frozen_array(block[rows]) for name, block in self.embeddings.items()},
            projected={name: frozen_array(block[rows]) for name, block in self.projected.items()},
            norms=None if self.norms is None else frozen_array(self.norms[:, rows]),
            labels=frozen_array(self.labels[rows]),
            cell_groups=frozen_array(self.cell_groups[rows]),
            novelty=frozen_array(self.novelty[rows]),
            thumbnails=frozen_array(self.thumbnails[rows]),
        )


def open_index(folder: Path, *, memory: Path | None = None) -> ReferenceIndex:
    """Open the index in `folder`, its files' hashes verified (`memory`: see `files.verify`).

    Raises BundleError if it is missing, incomplete, altered, from a newer version, or contradicts itself.
    """
    manifest = files.read_manifest(folder, KIND)
    version = manifest.get("schema_version")
    if version not in READABLE:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        hint = "update cellvigil, or " + _REMAKE if newer else _REMAKE
        raise BundleError(f"schema version {version} is not {SCHEMA_VERSION} or earlier", where=folder, hint=hint)
    try:
        files.verify(folder, manifest, memory=memory)
        index = _opened(folder, manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"the manifest lacks or garbles {error}", where=folder, hint=_REMAKE) from None
    check_classes(index.classes, index.groups, where=folder)
    _check_shapes(index)
    return index


def index_folder(name: str | Path, indexes: Path) -> Path:
    """Where the index called `name` is: `indexes`/name, or `name` itself where it is a path to an index."""
    given = Path(name)
    if (given / files.MANIFEST).is_file() and not (indexes / given / files.MANIFEST).is_file():
        return given
    return indexes / given


def reference_cells(index: ReferenceIndex) -> tuple[ReferenceCell, ...]:
    """Where every cell of an index on disk came from, by id. Raises BundleError if the table cannot be read."""
    return cells_in(index.folder)


def cells_in(folder: Path) -> tuple[ReferenceCell, ...]:
    """The table of cells in a folder of a bundle, by id. Raises BundleError if it cannot be read."""
    try:
        with (folder / CELLS).open(encoding="utf-8", newline="") as file:
            return tuple(
                ReferenceCell(
                    row["class"], row["image"], _box([row[key] for key in ("y0", "x0", "y1", "x1")]), row["group"]
                )
                for row in csv.DictReader(file)
            )
    except (OSError, KeyError, ValueError) as error:
        raise BundleError(f"{CELLS} cannot be read: {error}", where=folder, hint=_REMAKE) from None


def check_encoders(index: ReferenceIndex, bundles: Iterable[Encoding], *, spares: bool = False) -> None:
    """Check that the encoders that calls look at (`spares`: the others too) are there.

    Raises BundleError for one that is missing, or is another than the index was built with.
    """
    there = {bundle.name: bundle.sha256 for bundle in bundles}
    for encoder in (*index.encoders, *(index.spare_encoders if spares else ())):
        if encoder.name not in there:
            raise BundleError(
                f"index {index.name} needs encoder {encoder.name} ({encoder.sha256[:12]}), which is not there",
                where=index.folder,
                hint=f"make it with `cellvigil-export run {encoder.name}`",
            )
        if there[encoder.name] != encoder.sha256:
            raise BundleError(
                f"index {index.name} was built with encoder {encoder.name} {encoder.sha256[:12]}, "
                f"but the one there is {there[encoder.name][:12]}",
                where=index.folder,
                hint="build the index again with this encoder, or bring the other one back",
            )


def _opened(folder: Path, manifest: Mapping[str, Any]) -> ReferenceIndex:
    everything = [IndexEncoder(**entry) for entry in manifest["encoders"]]
    search, lengths = manifest.get("search", "exact"), NORMS in manifest["files"]
    needed = {LABELS, CELL_GROUPS, NOVELTY, THUMBNAILS, CELLS, *(embeddings_file(each.name) for each in everything)}
    projecting = [each.name for each in everything if each.used and projection_file(each.name) in manifest["files"]]
    needed |= {projected_file(name) for name in projecting}
    needed |= {GRAPH, GRAPH_NODES} if search == "hnsw" else set()
    if unlisted := sorted(needed - set(manifest["files"])):  # then nothing has verified them
        raise BundleError(f"the manifest does not list {', '.join(unlisted)}", where=folder, hint=_REMAKE)
    return ReferenceIndex(
        folder=folder,
        name=manifest["name"],
        sha256=files.bundle_sha256(manifest),
        classes=tuple(manifest["classes"]),
        groups=dict(manifest["groups"]),
        encoders=tuple(each for each in everything if each.used),
        spare_encoders=tuple(each for each in everything if not each.used),
        image_rule=rule_from_dict(manifest["image_rule"]),
        k_min=int(manifest["k_min"]),
        k_max=int(manifest["k_max"]),
        threshold=float(manifest["threshold"]),
        reweight=bool(manifest["reweight"]),
        metric=manifest["metric"],
        search=search,
        calibration=calibration_from_dict(manifest.get("calibration")),
        embeddings={each.name: _mapped(folder, embeddings_file(each.name)) for each in everything},
        projections={e.name: open_projection(folder, e.name, e.dimension) for e in everything if e.name in projecting},
        projected={name: _mapped(folder, projected_file(name)) for name in projecting},
        norms=_mapped(folder, NORMS) if lengths else None,
        labels=_mapped(folder, LABELS),
        cell_groups=_mapped(folder, CELL_GROUPS),
        novelty=_mapped(folder, NOVELTY),
        thumbnails=_mapped(folder, THUMBNAILS),
        manifest=manifest,
        confusion=confusion_from_dict(manifest.get("confusion"), len(manifest["classes"])),
    )


def _mapped(folder: Path, name: str) -> Array:
    try:
        return np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise BundleError(f"{name} cannot be opened: {error}", where=folder, hint=_REMAKE) from None


def _check_shapes(index: ReferenceIndex) -> None:
    if not index.encoders:
        raise BundleError("no encoder is in use", where=index.folder, hint=_REMAKE)
    cells = len(index.labels)
    encoders = (*index.encoders, *index.spare_encoders)
    floats = (np.float32, np.float16)
    wanted: list[tuple[str, Array | None, tuple[int, ...], tuple[type[np.generic], ...]]] = [
        (LABELS, index.labels, (cells,), (np.int16,)),
        (CELL_GROUPS, index.cell_groups, (cells,), (np.int32,)),
        (NOVELTY, index.novelty, (cells,), (np.float32,)),
        (NORMS, index.norms, (len(encoders), cells), (np.float32,)),
        *((embeddings_file(e.name), index.embeddings[e.name], (cells, e.dimension), floats) for e in encoders),
        *(
            (projected_file(name), block, (cells, index.projections[name].dimension), (np.float32,))
            for name, block in index.projected.items()
        ),
    ]
    for name, array, shape, dtypes in wanted:
        if array is not None and (array.shape != shape or array.dtype not in dtypes):
            raise BundleError(
                f"{name} holds {array.dtype} {array.shape}, not {np.dtype(dtypes[0])} {shape}",
                where=index.folder,
                hint=_REMAKE,
            )
    bad = cells == 0 or index.labels.min() < 0 or index.labels.max() >= len(index.classes)
    if bad or len(index.thumbnails) != cells:
        raise BundleError("cells and labels do not fit together", where=index.folder, hint=_REMAKE)
    if index.projections and (set(index.projections) != {e.name for e in index.encoders} or index.metric != "l2"):
        raise BundleError("some encoders have axes and others not", where=index.folder, hint=_REMAKE)
    if index.metric not in ("l2", "canberra") or index.search not in ("exact", "hnsw"):
        what = f"metric {index.metric!r} or search {index.search!r} is not known"
        raise BundleError(what, where=index.folder, hint="update cellvigil, or " + _REMAKE)


def _box(values: Sequence[str]) -> tuple[int, int, int, int]:
    y0, x0, y1, x1 = (int(value) for value in values)
    return (y0, x0, y1, x1)
