"""A reference index on disk: labelled cells, their embeddings, and how a picture must be made to be compared with them.

    manifest.json               classes, groups, encoders, image rule, settings, provenance, every file's sha256
    embeddings_<encoder>.npy    (N, d) f32, one a encoder      labels.npy      (N,) i16 class ids
    groups.npy                  (N,) i32 group ids             novelty.npy     (N,) f32, see `ReferenceIndex`
    thumbnails.npy              (N, 64, 64, C) u8              cells.csv       where each cell came from

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
from cellvigil.bundle.index_manifest import (
    CELL_GROUPS,
    CELLS,
    KIND,
    LABELS,
    NOVELTY,
    SCHEMA_VERSION,
    THUMBNAILS,
    check_classes,
    embeddings_file,
    rule_from_dict,
)
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
    scale: float = 1.0  # factor on its squared distances; 1 unless the index's scaling is "unit"


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
    encoders: tuple[IndexEncoder, ...]  # in the order of concatenation
    image_rule: ImageRule
    k_min: int
    k_max: int
    threshold: float  # normalised entropy, 0..1
    reweight: bool
    embeddings: Embeddings  # encoder name -> (N, d_e) f32
    labels: I16  # (N,) class ids
    cell_groups: I32  # (N,) group ids
    novelty: F32  # (N,) mean L2 distance to the k_min nearest cells of other groups; NaN where these are too few
    thumbnails: U8  # (N, 64, 64, C)
    manifest: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> I64:
        """Reference cells of each class, (classes,) i64."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def subset(self, rows: I64) -> ReferenceIndex:
        """The same index with only these cells (a copy of their rows), for evaluation with cells held out."""
        return replace(
            self,
            embeddings={name: frozen_array(block[rows]) for name, block in self.embeddings.items()},
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
    if version != SCHEMA_VERSION:
        hint = "update cellvigil, or " + _REMAKE
        raise BundleError(f"schema version {version} is not {SCHEMA_VERSION}", where=folder, hint=hint)
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
    try:
        with (index.folder / CELLS).open(encoding="utf-8", newline="") as file:
            return tuple(
                ReferenceCell(
                    row["class"], row["image"], _box([row[key] for key in ("y0", "x0", "y1", "x1")]), row["group"]
                )
                for row in csv.DictReader(file)
            )
    except (OSError, KeyError, ValueError) as error:
        raise BundleError(f"{CELLS} cannot be read: {error}", where=index.folder, hint=_REMAKE) from None


def check_encoders(index: ReferenceIndex, bundles: Iterable[Encoding]) -> None:
    """Check that the encoders the index was built with are there. Raises BundleError for one missing or another."""
    there = {bundle.name: bundle.sha256 for bundle in bundles}
    for encoder in index.encoders:
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
    encoders = tuple(IndexEncoder(**entry) for entry in manifest["encoders"])
    needed = {LABELS, CELL_GROUPS, NOVELTY, THUMBNAILS, CELLS, *(embeddings_file(encoder.name) for encoder in encoders)}
    if unlisted := sorted(needed - set(manifest["files"])):  # then nothing has verified them
        raise BundleError(f"the manifest does not list {', '.join(unlisted)}", where=folder, hint=_REMAKE)
    return ReferenceIndex(
        folder=folder,
        name=manifest["name"],
        sha256=files.bundle_sha256(manifest),
        classes=tuple(manifest["classes"]),
        groups=dict(manifest["groups"]),
        encoders=encoders,
        image_rule=rule_from_dict(manifest["image_rule"]),
        k_min=int(manifest["k_min"]),
        k_max=int(manifest["k_max"]),
        threshold=float(manifest["threshold"]),
        reweight=bool(manifest["reweight"]),
        embeddings={encoder.name: _mapped(folder, embeddings_file(encoder.name)) for encoder in encoders},
        labels=_mapped(folder, LABELS),
        cell_groups=_mapped(folder, CELL_GROUPS),
        novelty=_mapped(folder, NOVELTY),
        thumbnails=_mapped(folder, THUMBNAILS),
        manifest=manifest,
    )


def _mapped(folder: Path, name: str) -> Array:
    try:
        return np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise BundleError(f"{name} cannot be opened: {error}", where=folder, hint=_REMAKE) from None


def _check_shapes(index: ReferenceIndex) -> None:
    cells = len(index.labels)
    wanted: list[tuple[str, Array, tuple[int, ...], type[np.generic]]] = [
        (LABELS, index.labels, (cells,), np.int16),
        (CELL_GROUPS, index.cell_groups, (cells,), np.int32),
        (NOVELTY, index.novelty, (cells,), np.float32),
        *(
            (embeddings_file(e.name), index.embeddings[e.name], (cells, e.dimension), np.float32)
            for e in index.encoders
        ),
    ]
    for name, array, shape, dtype in wanted:
        if array.shape != shape or array.dtype != dtype:
            raise BundleError(
                f"{name} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}",
                where=index.folder,
                hint=_REMAKE,
            )
    bad = cells == 0 or index.labels.min() < 0 or index.labels.max() >= len(index.classes)
    if bad or len(index.thumbnails) != cells or not index.encoders or index.manifest.get("metric") != "l2":
        raise BundleError("cells, labels, encoders or metric do not fit together", where=index.folder, hint=_REMAKE)


def _box(values: Sequence[str]) -> tuple[int, int, int, int]:
    y0, x0, y1, x1 = (int(value) for value in values)
    return (y0, x0, y1, x1)
