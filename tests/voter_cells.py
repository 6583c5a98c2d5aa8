"""An index on disk and an alignment of it, made by hand: two encoders, two classes, a target that is shifted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellvigil.bundle.index import ReferenceCell, ReferenceIndex, open_index
from cellvigil.data import Embeddings, ImageRule
from cellvigil_indexes.aligning.values import ALIGNED, ORIGINAL, Alignment, VoterPlan
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.writing import write_index

CLASSES = ("gone", "live", "dead")
GROUPS = {"gone": "artefact", "live": "alive", "dead": "dead"}
CENTRES = {"gone": (40, 0, 0), "live": (0, 0, 0), "dead": (0, 8, 0)}
SHIFT = np.float32(20)
"""How far the target lies from the references, in every dimension of both encoders."""


def cells(name: str, count: int, seed: int, *, shift: float = 0.0) -> Embeddings:
    """Vectors of one class: encoder "one" has three dimensions, "two" has five and sees the classes less well."""
    rng = np.random.default_rng(seed)
    one = rng.normal(CENTRES[name], 1, (count, 3)) + shift
    two = np.hstack([one / 2 + rng.normal(0, 1, (count, 3)), rng.normal(0, 1, (count, 2)) + shift])
    return {"one": one.astype(np.float32), "two": two.astype(np.float32)}


def together(*parts: Embeddings) -> Embeddings:
    """Cells one behind the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in ("one", "two")}


def source(folder: Path, *, each: int = 20, rule: ImageRule | None = None, **settings: object) -> ReferenceIndex:
    """An index of `each` cells a class, written to `folder` and open."""
    vectors = together(*(cells(name, each, seed) for seed, name in enumerate(CLASSES)))
    rows = [
        ReferenceCell(name, f"{name}{i}.png", (0, 0, 9, 9), f"{name}{i % 5}") for name in CLASSES for i in range(each)
    ]
    pictures = np.random.default_rng(0).integers(0, 255, (len(rows), 64, 64, 1), np.uint8)
    draft = Draft(
        collected=Collected(rows, vectors, pictures),
        set_aside=None,
        groups=GROUPS,
        encoders={"one": "1" * 64, "two": "2" * 64},
        used=["one", "two"],
        image_rule=rule or ImageRule(frame_normalised=False),
        settings=IndexSettings(k_min=3, k_max=8, **settings),  # type: ignore[arg-type]
        provenance={"source": "made by hand"},
    )
    write_index(folder, draft)
    return open_index(folder)


def alignment(index: ReferenceIndex, *, extra: int = 0, scaling: str = "none", accepted: bool = True) -> Alignment:
    """Live and dead are kept; the original space, the aligned one, and both encoders together vote."""
    kept = np.flatnonzero(np.isin(index.labels, [1, 2]))
    own = {name: np.asarray(index.embeddings[name][kept]) for name in ("one", "two")}
    moved = {name: block + SHIFT for name, block in own.items()}
    moved["two"][:, :3] -= SHIFT / 2  # as `cells` shifts it
    plans = (
        VoterPlan("one, original", ("one",), ORIGINAL, 0.2, scaling, {"one": own["one"]}),
        VoterPlan("one, aligned", ("one",), ALIGNED, 0.5, scaling, {"one": moved["one"]}),
        VoterPlan("one+two, aligned", ("one", "two"), ALIGNED, 0.3, scaling, moved),
    )
    strange = {name: block + 30 for name, block in cells("live", extra, 9, shift=float(SHIFT)).items()}
    return Alignment(
        rows=kept,
        classes=("live", "dead"),
        voters=plans,
        shares={"live": 0.75, "dead": 0.25},
        shared=None,
        extra=strange if extra else {},
        extra_labels=("unmatched 1",) * extra,
        accepted=accepted,
        told={"method": "by hand", "split_half": 1.0},
    )


def target(each: int, seed: int = 100) -> Embeddings:
    """Cells of the target: `each` live ones, then `each` dead ones."""
    shift = float(SHIFT)
    return together(cells("live", each, seed, shift=shift), cells("dead", each, seed + 1, shift=shift))


def contrary(index: ReferenceIndex, *, against: float = 0.4) -> Alignment:
    """An alignment of a one-encoder index to its own device: one voter as it was, one (aligned) that is always wrong.

    The second sees every reference where one of the next class is; `against` is its weight.
    """
    name = index.encoders[0].name
    block = np.asarray(index.embeddings[name], dtype=np.float32)
    wrong = block.copy()
    for class_id in range(len(index.classes)):
        here, there = (np.flatnonzero(index.labels == c % len(index.classes)) for c in (class_id, class_id + 1))
        wrong[here] = block[np.resize(there, len(here))]
    plans = (
        VoterPlan("as it was", (name,), ORIGINAL, 1 - against, "none", {name: block}),
        VoterPlan("contrary", (name,), ALIGNED, against, "none", {name: wrong}),
    )
    rows = np.arange(len(index), dtype=np.int64)
    shares = dict.fromkeys(index.classes, 1 / len(index.classes))
    return Alignment(rows, index.classes, plans, shares, None, {}, (), accepted=True, told={"method": "by hand"})
