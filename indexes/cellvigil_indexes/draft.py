"""Everything that becomes an index, as one value; and an index taken apart again, to be changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.index import ReferenceIndex, cells_in
from cellvigil.bundle.index_manifest import LABELS, SET_ASIDE, THUMBNAILS, embeddings_file
from cellvigil.bundle.origin import original_of
from cellvigil.data import ImageRule
from cellvigil.errors import BundleError, UsageError
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.settings import IndexSettings, settings_of


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """An index that is not written yet."""

    collected: Collected  # the reference cells
    set_aside: Collected | None  # cells that are no references: certainty is calibrated on them; None: nothing is
    groups: Mapping[str, str]  # class name -> one of data.GROUPS, in the order of class ids
    encoders: Mapping[str, str]  # name -> sha256 of its bundle, in the order of concatenation; used or not
    used: Sequence[str]  # those that calls look at
    image_rule: ImageRule
    settings: IndexSettings
    provenance: Mapping[str, Any]  # where the cells came from, for a person
    tuning: Mapping[str, Any] | None = None  # what `tune` found, and how
    trials: Path | None = None  # its table of trials, to be kept in the bundle
    history: Sequence[Mapping[str, Any]] = ()  # one entry a former version, the first one first
    storage_check: Mapping[str, Any] | None = None  # of vectors that were stored in half precision before
    change: str = "built"  # what made this version of the one before

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by class id."""
        return tuple(self.groups)


def draft_of(index: ReferenceIndex) -> Draft:
    """An index taken apart. Its arrays stay memory-mapped.

    Raises BundleError if a part cannot be read, UsageError for an aligned index (see `check_original`).
    """
    check_original(index)
    manifest = index.manifest
    everything = (*index.encoders, *index.spare_encoders)
    trials = index.folder / "trials.parquet"
    return Draft(
        collected=Collected(cells_in(index.folder), index.embeddings, index.thumbnails),
        set_aside=_set_aside(index),
        groups={name: index.groups[name] for name in index.classes},
        encoders={encoder.name: encoder.sha256 for encoder in everything},
        used=[encoder.name for encoder in index.encoders],
        image_rule=index.image_rule,
        settings=settings_of(manifest),
        provenance=manifest["provenance"],
        tuning=manifest.get("tuning"),
        trials=trials if trials.is_file() else None,
        history=manifest.get("history", []),
        storage_check=manifest.get("storage_check"),
        change=manifest.get("change", "built"),
    )


def check_original(index: ReferenceIndex) -> None:
    """Raises UsageError for an index that was aligned: what is changed, tuned or left out is the one it came from."""
    if index.voters:
        of = original_of(index)
        what = f"index {index.name} was aligned from {of}, and its cells stand elsewhere for every voter"
        raise UsageError(what, hint=f"do that with {of}, then align it again")


def _set_aside(index: ReferenceIndex) -> Collected | None:
    folder = index.folder / SET_ASIDE
    if not (folder / LABELS).is_file():
        return None
    try:
        names = [encoder.name for encoder in (*index.encoders, *index.spare_encoders)]
        blocks = {name: np.load(folder / embeddings_file(name), mmap_mode="r", allow_pickle=False) for name in names}
        thumbnails = np.load(folder / THUMBNAILS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BundleError(f"the cells set aside cannot be read: {error}", where=folder, hint="build it again") from None
    return Collected(cells_in(folder), blocks, thumbnails)
