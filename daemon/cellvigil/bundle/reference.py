"""What a reference index is once it is open: its cells, its encoders, and the voters that an aligned one asks. Values.

`cellvigil.bundle.index` opens one from disk; `cellvigil_indexes` makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.calibration import Calibration
from cellvigil.bundle.confusion import IndexConfusion
from cellvigil.bundle.index_manifest import GRAPH
from cellvigil.bundle.projection import Projection
from cellvigil.data import F32, I16, I32, I64, U8, Embeddings, ImageRule, frozen_array


@dataclass(frozen=True, slots=True)
class IndexEncoder:
    """One encoder that an index was built with."""

    name: str
    sha256: str  # of the encoder bundle, as the index's image rule uses it: see `bundle.ruled.ruled_sha256`
    dimension: int  # d_e, of what is stored: with a rule that is `per_channel`, all channels' vectors together
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
class Voter:
    """One opinion of an index that asks several: some of its encoders, in one space, and what that weighs.

    The optimal-transport paper, section 3.4: classifiers with and without transport, per encoder, vote together.
    """

    name: str
    weight: float  # above 0; those of an index sum to 1
    space: str  # "original" or "aligned": see `cellvigil_indexes.aligning.values`
    index: ReferenceIndex  # the same cells, labels and classes as this voter sees them; without voters of its own


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
    # (N,) mean distance to the k_min nearest cells of other groups; NaN where too few, or not asked. With
    # `novelty_labels`: (m,) the same of m other cells, see there.
    novelty: F32
    thumbnails: U8  # (N, 64, 64, C)
    manifest: Mapping[str, Any]
    confusion: IndexConfusion | None = None  # how its calls go wrong on cells it does not hold; None in old indexes
    voters: tuple[Voter, ...] = ()  # who calls; none: the index itself. With voters its own vectors call nothing
    # (m,) class ids of the cells whose distances `novelty` holds, where these are no references: cells of the device
    # that the index was aligned to, kept out of that fit and called by it.
    novelty_labels: I16 | None = None

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
    def novelty_classes(self) -> I16:
        """Class ids beside `novelty`: the references' own, or `novelty_labels`."""
        return self.labels if self.novelty_labels is None else self.novelty_labels

    @property
    def alignment(self) -> Mapping[str, Any] | None:
        """How the index came to be aligned to another device, as its manifest tells; None where it was not."""
        return self.manifest.get("alignment")

    @property
    def class_counts(self) -> I64:
        """Reference cells of each class, (classes,) i64."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def subset(self, rows: I64) -> ReferenceIndex:
        """The same index with only these cells (a copy of their rows), for evaluation with cells held out.

        Each voter's too; axes and novelty stay what they were fitted on.
        """
        return replace(
            self,
            search="exact",  # a graph is of all cells
            embeddings={name: frozen_array(block[rows]) for name, block in self.embeddings.items()},
            projected={name: frozen_array(block[rows]) for name, block in self.projected.items()},
            norms=None if self.norms is None else frozen_array(self.norms[:, rows]),
            labels=frozen_array(self.labels[rows]),
            cell_groups=frozen_array(self.cell_groups[rows]),
            novelty=self.novelty if self.novelty_labels is not None else frozen_array(self.novelty[rows]),
            thumbnails=frozen_array(self.thumbnails[rows]),
            voters=tuple(replace(voter, index=voter.index.subset(rows)) for voter in self.voters),
        )
