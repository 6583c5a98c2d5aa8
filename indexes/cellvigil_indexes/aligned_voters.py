"""The voters that an alignment plans, as views of the index that they vote for. Pure: arrays in, values out.

The optimal-transport paper, section 3.4. Voters that look at the same vectors share one array, and the axes along it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from cellvigil.bundle.index import IndexEncoder, ReferenceIndex, Voter
from cellvigil.bundle.projection import Projection
from cellvigil.bundle.voters import view_of
from cellvigil.data import F32, Array, frozen_array
from cellvigil.errors import UsageError
from cellvigil_indexes import discriminant
from cellvigil_indexes.aligning.values import ALIGNED, ORIGINAL, Alignment, VoterPlan
from cellvigil_indexes.calling import scale_of
from cellvigil_indexes.settings import SCALINGS, IndexSettings

_Key = tuple[str, str]
"""An encoder and the digest of its vectors."""


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What voters share: filled as they are made."""

    blocks: dict[_Key, F32] = field(default_factory=dict)  # (n + u, d_e)
    axes: dict[_Key, tuple[Projection, F32]] = field(default_factory=dict)  # with the cells along them


def voters_of(parent: ReferenceIndex, alignment: Alignment) -> tuple[Voter, ...]:
    """The alignment's voters over `parent`, whose rows are its kept cells and then its extra ones.

    Discriminant axes are fitted on the voter's own vectors and the parent's labels; weights are made to sum to 1.
    Raises UsageError for no voter, a weight, space or scaling that makes no sense, and vectors that do not fit.
    """
    if not alignment.voters:
        raise UsageError("the alignment has no voter")
    weights = np.array([plan.weight for plan in alignment.voters], dtype=np.float64)
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise UsageError(f"voters weigh {weights.tolist()}: every weight must be above 0")
    seen = _Seen()
    return tuple(
        Voter(plan.name, float(weight), plan.space, _view(parent, plan, alignment, seen))
        for plan, weight in zip(alignment.voters, weights / weights.sum(), strict=True)
    )


def joined(block: Array, encoder: IndexEncoder, alignment: Alignment) -> F32:
    """Vectors of the kept rows with those of the extra cells behind, f32. Raises UsageError if they do not fit."""
    parts = [np.asarray(block, dtype=np.float32)]
    if alignment.extra_labels:
        if encoder.name not in alignment.extra:
            raise UsageError(f"the target's own cells have no vectors of {encoder.name}")
        parts.append(np.asarray(alignment.extra[encoder.name], dtype=np.float32))
    shapes = [(len(alignment.rows), encoder.dimension), (len(alignment.extra_labels), encoder.dimension)]
    if [part.shape for part in parts] != shapes[: len(parts)]:
        raise UsageError(f"vectors of {encoder.name} are {[part.shape for part in parts]}, not {shapes[: len(parts)]}")
    whole = np.ascontiguousarray(np.concatenate(parts))
    if not np.isfinite(whole).all():
        raise UsageError(f"vectors of {encoder.name} are not finite", hint="another map, or target cells that differ")
    return frozen_array(whole)


def _view(parent: ReferenceIndex, plan: VoterPlan, alignment: Alignment, seen: _Seen) -> ReferenceIndex:
    """The parent as this voter sees it."""
    if plan.space not in (ORIGINAL, ALIGNED) or plan.scaling not in SCALINGS:
        raise UsageError(f"voter {plan.name}: space {plan.space!r} or scaling {plan.scaling!r} is not known")
    order = [encoder for encoder in parent.encoders if encoder.name in plan.encoders]
    lacking = [encoder.name for encoder in order if encoder.name not in plan.vectors]
    if lacking or not order:
        raise UsageError(f"voter {plan.name} has no vectors of {', '.join(lacking) or 'any encoder'}")
    keys = {encoder.name: _shared(plan, encoder, parent, alignment, seen) for encoder in order}
    blocks = {name: seen.blocks[key] for name, key in keys.items()}
    metric = "l2" if plan.scaling == "discriminant" else parent.metric
    how = IndexSettings(metric=metric, scaling=plan.scaling)
    scaled = [replace(encoder, scale=scale_of(blocks[encoder.name], how)) for encoder in order]
    view = replace(view_of(parent, scaled, blocks), metric=metric)
    if plan.scaling != "discriminant":
        return view
    found = {name: _along(key, parent, seen) for name, key in keys.items()}
    axes = {name: projection for name, (projection, _) in found.items()}
    return replace(view, projections=axes, projected={name: cells for name, (_, cells) in found.items()})


def _shared(plan: VoterPlan, encoder: IndexEncoder, parent: ReferenceIndex, alignment: Alignment, seen: _Seen) -> _Key:
    """Where a voter's vectors of an encoder are among the seen: the parent's own array where they are the same."""
    block, own = joined(plan.vectors[encoder.name], encoder, alignment), parent.embeddings[encoder.name]
    if np.array_equal(block, own):
        block = own
    key = (encoder.name, hashlib.sha256(block.data).hexdigest())
    seen.blocks.setdefault(key, block)
    return key


def _along(key: _Key, parent: ReferenceIndex, seen: _Seen) -> tuple[Projection, F32]:
    if key not in seen.axes:
        axes = discriminant.fit(seen.blocks[key], parent.labels)
        seen.axes[key] = axes, frozen_array(axes.of(seen.blocks[key]))
    return seen.axes[key]
