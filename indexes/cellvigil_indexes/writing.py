"""Writes a reference index into a temporary folder that is then renamed: a reader sees a whole one or none."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import replace as altered
from pathlib import Path
from typing import Any

import numpy as np

import cellvigil
from cellvigil.bundle import files
from cellvigil.bundle.calibration import calibration_as_dict
from cellvigil.bundle.confusion import confusion_as_dict
from cellvigil.bundle.index import IndexEncoder, ReferenceCell
from cellvigil.bundle.index_manifest import (
    CELL_GROUPS,
    CELLS,
    CELLS_COLUMNS,
    KIND,
    LABELS,
    NORMS,
    NOVELTY,
    SET_ASIDE,
    THUMBNAILS,
    WITHOUT_VOTERS,
    check_classes,
    embeddings_file,
    rule_as_dict,
)
from cellvigil.bundle.projection import projected_file, write_projection
from cellvigil.data import F32
from cellvigil.neighbours.tables import squared_norms
from cellvigil_indexes import leaveout
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calibrating import DEEPEST, calibrate, confusing, novelty_p_of, witnessed
from cellvigil_indexes.calling import scale_of, search_over
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.crossfit import grouped_neighbours, parted_neighbours
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.sampling import ASKED_AT_MOST, sampled
from cellvigil_indexes.searching import graphs, halving
from cellvigil_indexes.sound import check_sound


def write_index(
    folder: Path, draft: Draft, *, replace: bool = False, name: str = "", force_storage: bool = False
) -> None:
    """Write the index `folder`, called `name` (default: as the folder); `replace`: in the place of one that is there.

    `force_storage`: in half precision even where that changes calls. Raises BundleError as `files.written_whole` and
    `check_classes` do, UsageError for vectors that cannot be compared (not finite, or not one a cell) or not be stored
    as wanted, and for a search that the metric does not have.
    """
    check_classes(list(draft.groups), draft.groups, where=folder)
    check_sound(draft)
    graphs.choose(len(draft.collected), draft.settings.metric, draft.settings.search)  # raises before any work is done
    bank = draft.collected.bank(draft.classes)
    vectors, storage_check = halving.stored(bank, draft.settings, draft.used, force=force_storage)
    bank = altered(bank, embeddings=vectors)
    members = _members(draft)
    counts = Counter(cell.class_name for cell in draft.collected.cells)
    settings = asdict(draft.settings)
    manifest = {
        "kind": KIND,
        "schema_version": WITHOUT_VOTERS,
        "name": name or folder.name,
        "version": len(draft.history) + 1,
        "change": draft.change,
        "classes": list(draft.groups),
        "counts": {name: counts[name] for name in draft.groups},
        "groups": dict(draft.groups),
        "encoders": [asdict(member) for member in members],
        "image_rule": rule_as_dict(draft.image_rule),
        **settings,
        "search_wanted": settings["search"],
        "storage_check": storage_check or draft.storage_check,
        "provenance": {"cellvigil": cellvigil.__version__, **draft.provenance},
        "tuning": draft.tuning,
        "history": list(draft.history),
    }
    with files.written_whole(folder, replace=replace) as work:
        _write_cells(work, draft.collected, bank, [member.name for member in members])
        np.save(work / NORMS, np.stack([squared_norms(bank.embeddings[member.name]) for member in members]))
        manifest |= _told_by_the_cells(work, bank, draft)
        if draft.set_aside is not None:
            (work / SET_ASIDE).mkdir()
            aside = draft.set_aside.bank(draft.classes)
            _write_cells(work / SET_ASIDE, draft.set_aside, aside, [member.name for member in members])
        if draft.trials is not None:
            shutil.copyfile(draft.trials, work / "trials.parquet")
        files.write_manifest(work, manifest)


def _members(draft: Draft) -> list[IndexEncoder]:
    """The used encoders in their order, then the spare ones: also the order of the rows of `norms.npy`."""
    order = [*draft.used, *(name for name in draft.encoders if name not in draft.used)]
    blocks = draft.collected.embeddings
    return [
        IndexEncoder(
            name,
            draft.encoders[name],
            blocks[name].shape[1],
            scale_of(blocks[name], draft.settings),
            name in draft.used,
        )
        for name in order
    ]


def _told_by_the_cells(work: Path, bank: Bank, draft: Draft) -> dict[str, Any]:
    """Look the reference cells up among those of other groups; write their novelty, return what the manifest says."""
    asked = sampled(bank.labels, ASKED_AT_MOST)
    near = grouped_neighbours(bank, draft.used, draft.settings, asked, least=DEEPEST)
    novelty: F32 = np.full(len(bank), np.nan, dtype=np.float32)
    novelty[asked] = leaveout.novelty(near, draft.settings.k_min)
    np.save(work / NOVELTY, novelty)
    others = parted_neighbours(bank, draft.used, draft.settings, asked, grouped=near)
    evaluation = leaveout.evaluation(others, bank, asked, draft.settings.depth)
    aside = None if draft.set_aside is None else draft.set_aside.bank(draft.classes)
    p_of = novelty_p_of(bank, asked, novelty)
    seen = witnessed(others, bank, draft.settings.depth, asked=asked, p_of=p_of)
    fitted = calibrate(bank, aside, draft.settings, draft.used, near=near, asked=asked, novelty=novelty, seen=seen)
    search = search_over(bank, draft.settings, draft.used)
    for name, block, projection in zip(search.names, search.blocks, search.projections, strict=False):  # or none
        write_projection(work, name, projection)
        np.save(work / projected_file(name), block)
    return {
        "evaluation": evaluation,
        "calibration": calibration_as_dict(fitted),
        "confusion": confusion_as_dict(confusing(seen, bank, fitted.novel_below)),
        **graphs.prepare(work, search, draft.settings),
    }


def _write_cells(work: Path, collected: Collected, bank: Bank, encoders: Sequence[str]) -> None:
    for name in encoders:
        np.save(work / embeddings_file(name), bank.embeddings[name])
    np.save(work / LABELS, bank.labels)
    np.save(work / CELL_GROUPS, bank.groups)
    np.save(work / THUMBNAILS, collected.thumbnails)
    write_table(work / CELLS, collected.cells)


def write_table(path: Path, cells: Sequence[ReferenceCell]) -> None:
    """Write where the cells came from, in their order: what `cells_in` reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CELLS_COLUMNS)
        writer.writerows([i, c.class_name, c.group, c.image, *c.box_px] for i, c in enumerate(cells))
