"""Scores an index: on labelled cells from elsewhere, or on a share of its own cells held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cellvigil import decide
from cellvigil.bundle.index import ReferenceIndex, check_encoders
from cellvigil.data import I16, I64, UNKNOWN, Calls, Embeddings
from cellvigil.errors import UsageError
from cellvigil.neighbours import Search, mean_squared_distance
from cellvigil_indexes.collecting import Progress, collect, open_bundles, start
from cellvigil_indexes.labelled import LabelledImage, LabelledSet
from cellvigil_indexes.pictures import picture_rule
from cellvigil_indexes.scoring import Scores, score


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What evaluating an index on other cells found."""

    scores: Scores
    not_in_index: dict[str, int]  # target classes that the index does not have -> their cells; not scored
    copies: int  # cells of the target whose very picture is in the index: if any, the figures flatter

    def warnings(self) -> list[str]:
        """What a person must know about the figures."""
        found = [
            f"{n} cells of {name} are not scored: the index lacks that class" for name, n in self.not_in_index.items()
        ]
        if self.copies:
            found.append(f"{self.copies} of the cells are in the index themselves: the figures flatter")
        return found


@dataclass(frozen=True, slots=True, eq=False)
class SplitRun:
    """One random split: the method as it is called, and the plain methods beside it."""

    ewc: Scores
    baselines: dict[str, Scores]  # "1-NN", "5-NN", "majority"
    held_out: int
    median_k: float  # neighbours used


def evaluate(
    index: ReferenceIndex,
    target: LabelledSet,
    *,
    encoder_folder: Path,
    device: str,
    abstain: bool,
    progress: Progress,
) -> Evaluation:
    """Call the target's labelled cells by the index and score the calls.

    Target classes that the index does not have (compared whatever their case) are counted and left out.

    Raises UsageError if no cell is left, or images and index do not fit together; BundleError for the encoders.
    """
    if not index.image_rule.frame_normalised and (target.pixel_size_um or "annotations" in target.provenance):
        hint = "give --images without --pixel-size"
        raise UsageError(f"index {index.name} was built from single-cell images fitted whole", hint=hint)
    own = {name.casefold(): name for name in index.classes}
    known = _of_classes(target.images, own)
    if not known:
        raise UsageError(f"no labelled cell is of the index's classes: {', '.join(index.classes)}")
    bundles = open_bundles([encoder.name for encoder in index.encoders], encoder_folder)
    check_encoders(index, bundles)
    diameter = index.manifest["provenance"].get("cell_diameter_um")
    how = picture_rule(index.image_rule, target.images, target.pixel_size_um, diameter)
    collected = collect(known, how, start(bundles, device), progress)
    truth = [own[cell.class_name.casefold()] for cell in collected.cells]
    calls = call(index, collected.embeddings)
    return Evaluation(
        scores=score(truth, names_called(calls, index), index.classes, abstain=abstain),
        not_in_index=_foreign(target.images, own),
        copies=_copies(index, collected.embeddings),
    )


def call(index: ReferenceIndex, embeddings: Embeddings) -> Calls:
    """Call cells by the index as the daemon does, with the manifest's settings."""
    settings = decide.Settings.of(index)
    near = Search.over(index).nearest(embeddings, decide.neighbours_needed(index, settings))
    return decide.call(near.ids, near.distances, index, settings)


def names_called(calls: Calls, index: ReferenceIndex) -> list[str]:
    """The class name of every call, "unknown" where it was rejected."""
    pairs = zip(calls.best_ids.tolist(), calls.unknown.tolist(), strict=True)
    return [UNKNOWN if unknown else index.classes[best] for best, unknown in pairs]


def evaluate_split(index: ReferenceIndex, *, share: float, seeds: int, by_group: bool, abstain: bool) -> list[SplitRun]:
    """Hold out a share of the index's own cells, `seeds` times, and call them by the others.

    Raises UsageError if the index is too small to be split so.
    """
    if seeds < 1:
        raise UsageError("--seeds must be 1 or more")
    return [split_run(index, held, abstain) for held in splits(index, share, seeds, by_group)]


def splits(index: ReferenceIndex, share: float, seeds: int, by_group: bool) -> Iterator[I64]:
    """Held-out rows, ascending: of each class the share (by cell), or whole random groups until they are the share."""
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        if by_group:
            order = rng.permutation(np.unique(index.cell_groups))
            sizes = np.bincount(index.cell_groups)[order]
            taken = order[: 1 + int(np.searchsorted(np.cumsum(sizes), share * len(index)))]
            held = np.flatnonzero(np.isin(index.cell_groups, taken))
        else:
            members = [rng.permutation(np.flatnonzero(index.labels == c)) for c in range(len(index.classes))]
            held = np.sort(np.concatenate([rows[: round(share * len(rows))] for rows in members]))
        if not 0 < len(held) < len(index):
            raise UsageError(f"{len(index)} cells cannot be split so", hint="more cells or groups, or another --split")
        yield held


def split_run(index: ReferenceIndex, held: I64, abstain: bool = False) -> SplitRun:
    """Call the `held` cells of an index by its others, and score that."""
    kept = index.subset(np.setdiff1d(np.arange(len(index)), held))
    truth = [index.classes[label] for label in index.labels[held]]
    calls = call(kept, {name: block[held] for name, block in index.embeddings.items()})
    plain = {"1-NN": calls.neighbours[:, :1], "5-NN": calls.neighbours}
    votes = {name: _plain_vote(kept.labels[np.maximum(ids, 0)], len(index.classes)) for name, ids in plain.items()}
    votes["majority"] = np.full(len(held), kept.class_counts.argmax(), dtype=np.int16)
    return SplitRun(
        ewc=score(truth, names_called(calls, index), index.classes, abstain=abstain),
        baselines={n: score(truth, [index.classes[i] for i in best], index.classes) for n, best in votes.items()},
        held_out=len(held),
        median_k=float(np.median(calls.k)),
    )


def _plain_vote(labels: I16, classes: int) -> I16:
    """The commonest label of each row; ties to the lower id."""
    counts = np.stack([(labels == c).sum(axis=1) for c in range(classes)], axis=1)
    return np.asarray(counts.argmax(axis=1), dtype=np.int16)


def _copies(index: ReferenceIndex, vectors: Embeddings) -> int:
    """Cells that lie on a reference cell, but for the encoder's rounding: within 1/1000 of the usual distance."""
    nearest = Search.over(index).nearest(vectors, 1).distances
    usual = sum(e.scale * mean_squared_distance(index.embeddings[e.name]) for e in index.encoders) ** 0.5
    return int(np.count_nonzero(nearest <= usual / 1000))


def _of_classes(images: Sequence[LabelledImage], own: Mapping[str, str]) -> list[LabelledImage]:
    """The images with only those cells whose class is among `own` (case-folded); images without any are left out."""
    chosen = [
        replace(image, cells=tuple(cell for cell in image.cells if cell.class_name.casefold() in own))
        for image in images
    ]
    return [image for image in chosen if image.cells]


def _foreign(images: Sequence[LabelledImage], own: Mapping[str, str]) -> dict[str, int]:
    """Cells of each class that is not among `own`."""
    names = [cell.class_name for image in images for cell in image.cells if cell.class_name.casefold() not in own]
    return {name: names.count(name) for name in sorted(set(names))}
