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
    voters/, novelty_labels.npy of an index that was aligned to another device: see `bundle.voters`

Reads only; `cellvigil_indexes` writes. Arrays are memory-mapped and read-only.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from cellvigil.bundle import files
from cellvigil.bundle.arrays import check_arrays, mapped
from cellvigil.bundle.calibration import calibration_from_dict
from cellvigil.bundle.confusion import confusion_from_dict
from cellvigil.bundle.index_manifest import (
    CELL_GROUPS,
    CELLS,
    GRAPH,
    GRAPH_NODES,
    KIND,
    LABELS,
    NORMS,
    NOVELTY,
    NOVELTY_LABELS,
    READABLE,
    REMAKE,
    SCHEMA_VERSION,
    THUMBNAILS,
    check_classes,
    embeddings_file,
    rule_from_dict,
)
from cellvigil.bundle.projection import open_projection, projected_file, projection_file
from cellvigil.bundle.reference import IndexEncoder, ReferenceCell, ReferenceIndex, Voter
from cellvigil.bundle.ruled import ruled_sha256
from cellvigil.bundle.voters import check_voters, open_voters
from cellvigil.errors import BundleError

__all__ = [
    "Encoding",
    "IndexEncoder",
    "ReferenceCell",
    "ReferenceIndex",
    "Voter",
    "cells_in",
    "check_encoders",
    "index_folder",
    "open_index",
    "reference_cells",
]


class Encoding(Protocol):
    """What an encoder bundle must say about itself to be compared with what an index was built with."""

    @property
    def name(self) -> str: ...  # noqa: D102 - the class says it

    @property
    def sha256(self) -> str: ...  # noqa: D102 - the class says it


def open_index(folder: Path, *, memory: Path | None = None) -> ReferenceIndex:
    """Open the index in `folder`, its files' hashes verified (`memory`: see `files.verify`).

    Raises BundleError if it is missing, incomplete, altered, from a newer version, or contradicts itself.
    """
    manifest = files.read_manifest(folder, KIND)
    version = manifest.get("schema_version")
    if version not in READABLE:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        hint = "update cellvigil, or " + REMAKE if newer else REMAKE
        raise BundleError(f"schema version {version} is not {SCHEMA_VERSION} or earlier", where=folder, hint=hint)
    try:
        files.verify(folder, manifest, memory=memory)
        index = _opened(folder, manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"the manifest lacks or garbles {error}", where=folder, hint=REMAKE) from None
    check_classes(index.classes, index.groups, where=folder)
    check_arrays(index)
    check_voters(index)
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
        raise BundleError(f"{CELLS} cannot be read: {error}", where=folder, hint=REMAKE) from None


def check_encoders(index: ReferenceIndex, bundles: Iterable[Encoding], *, spares: bool = False) -> None:
    """Check that the encoders that calls look at (`spares`: the others too) are there, as its image rule uses them.

    Raises BundleError for one that is missing, or is another than the index was built with.
    """
    there = {bundle.name: ruled_sha256(bundle.sha256, index.image_rule) for bundle in bundles}
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
        raise BundleError(f"the manifest does not list {', '.join(unlisted)}", where=folder, hint=REMAKE)
    index = ReferenceIndex(
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
        embeddings={each.name: mapped(folder, embeddings_file(each.name)) for each in everything},
        projections={e.name: open_projection(folder, e.name, e.dimension) for e in everything if e.name in projecting},
        projected={name: mapped(folder, projected_file(name)) for name in projecting},
        norms=mapped(folder, NORMS) if lengths else None,
        labels=mapped(folder, LABELS),
        cell_groups=mapped(folder, CELL_GROUPS),
        novelty=mapped(folder, NOVELTY),
        thumbnails=mapped(folder, THUMBNAILS),
        manifest=manifest,
        confusion=confusion_from_dict(manifest.get("confusion"), len(manifest["classes"])),
        novelty_labels=mapped(folder, NOVELTY_LABELS) if NOVELTY_LABELS in manifest["files"] else None,
    )
    return replace(index, voters=open_voters(index))


def _box(values: Sequence[str]) -> tuple[int, int, int, int]:
    y0, x0, y1, x1 = (int(value) for value in values)
    return (y0, x0, y1, x1)
