"""The account at the end of a torture: what the microscope wrote against what the store holds, frame by frame.

Everything that is counted comes from another place than what it is held against: the truth from the microscope, the
journal as it stands, the arrays through zarr.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from fast_scope import EXPERIMENT, Written, digest_of, read_truth

from cellvigil.data import UNKNOWN
from cellvigil.journal import fold
from cellvigil.store.recover import JOURNAL

_BLOCK = 32  # slots read at once
_KEPT = 20  # examples of each trouble that are kept


@dataclass(slots=True)
class Account:
    """The two sides, and where they differ. Whole if every list is empty."""

    written: int = 0  # frames, by the microscope
    committed: int = 0  # frames, by the journal
    revisions: int = 0  # committed a second time as a revision: none is expected
    cells_journal: int = 0
    cells_features: int = 0
    cells_calls: int = 0
    cells_labels: int = 0  # sum of the label images' maxima
    counted_journal: int = 0  # sum of the frames' counts
    counted_tables: int = 0  # the same, from the rows of calls and features
    orphans: int = 0  # files moved aside by recovery
    bad_lines: int = 0  # of the journals
    lost: list[str] = field(default_factory=list)  # written, not committed
    doubled: list[str] = field(default_factory=list)  # one key committed twice, or one slot given twice
    strange: list[str] = field(default_factory=list)  # committed under another key or with other bytes than written
    torn: list[str] = field(default_factory=list)  # arrays that do not hold what the journal or the microscope says
    undone: list[str] = field(default_factory=list)  # seen as committed during the torture, and gone in the end

    @property
    def whole(self) -> bool:
        """Nothing lost, nothing doubled, nothing torn, and the sums agree."""
        troubles = (self.lost, self.doubled, self.strange, self.torn, self.undone)
        sums = {self.cells_journal, self.cells_features, self.cells_calls, self.cells_labels}
        same = self.counted_journal == self.counted_tables
        return not any(troubles) and not self.revisions and len(sums) == 1 and same and self.written == self.committed

    def as_dict(self) -> dict[str, Any]:
        """For JSON: lists cut to a few examples, their lengths beside them."""
        values = asdict(self)
        lengths = {f"{name}_count": len(value) for name, value in values.items() if isinstance(value, list)}
        short = {name: value[:_KEPT] if isinstance(value, list) else value for name, value in values.items()}
        return {"whole": self.whole, **short, **lengths}


def account(store: Path, truth: Path, *, seen: Iterable[tuple[object, ...]] = ()) -> Account:
    """Hold the store against the truth; `seen`: (key parts..., revision) of every commit that somebody saw before."""
    told = Account()
    written = read_truth(truth)
    told.written = len(written)
    marks: Counter[tuple[object, ...]] = Counter()
    done: set[str] = set()
    for folder in sorted(path.parent for path in store.glob(f"[!.]*/[!.]*/[!.]*.zarr/{JOURNAL}")):
        lines: list[dict[str, Any]] = []
        bundles: dict[str, dict[str, Any]] = {}

        def take(line: dict[str, Any], lines: list[Any] = lines, bundles: dict[str, Any] = bundles) -> None:
            if line["kind"] == "frame":
                lines.append(line)
            elif line["kind"] == "bundle":
                bundles[line["sha256"]] = line

        found = fold(folder / JOURNAL, take)
        told.bad_lines += len(found.bad) + bool(found.torn)
        _check_lines(told, lines, written, marks, done)
        _check_arrays(told, folder, lines, bundles, written)
    told.lost = sorted(written.keys() - done)
    told.doubled += [f"{mark}: {count} times" for mark, count in marks.items() if count > 1]
    told.undone = [str(mark) for mark in seen if mark not in marks]
    told.orphans = sum(path.is_file() for path in (store / ".orphans").rglob("*"))
    return told


def _check_lines(
    told: Account,
    lines: list[dict[str, Any]],
    written: Mapping[str, Written],
    marks: Counter[tuple[object, ...]],
    done: set[str],
) -> None:
    slots: Counter[tuple[str, int]] = Counter()
    for line in lines:
        marks[(*line["key"], line["revision"])] += 1
        slots[line["path"], line["t"]] += 1
        told.revisions += line["revision"] > 0
        told.committed += line["revision"] == 0
        told.cells_journal += line["n_cells"]
        told.counted_journal += sum(line["counts"].values())
        for path, _, _, digest in line["files"]:
            done.add(path)
            source = written.get(path)
            wanted = source and ["scope", EXPERIMENT, "Plate 1", source.well, "1", source.timepoint]
            if source is None or digest != source.file or line["key"][3:] != wanted[3:]:
                told.strange.append(f"{line['key']}: {path}")
    told.doubled += [f"{slot} is given {count} times" for slot, count in slots.items() if count > 1]


def _check_arrays(
    told: Account,
    folder: Path,
    lines: list[dict[str, Any]],
    bundles: Mapping[str, dict[str, Any]],
    written: Mapping[str, Written],
) -> None:
    fields: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for line in lines:
        fields[line["path"]][line["t"]] = line
    for path, by_slot in fields.items():
        place = folder / path
        shown = zarr.open_array(place / "0", mode="r").shape[0]
        told.torn += [f"{line['key']}: slot {t} is not shown" for t, line in by_slot.items() if t >= shown]
        slots = sorted(t for t in by_slot if t < shown)
        for first in range(0, (slots[-1] + 1) if slots else 0, _BLOCK):
            block = [by_slot[t] for t in range(first, first + _BLOCK) if t in by_slot and t < shown]
            if block:
                _check_block(told, place, first, block, bundles, written)


def _check_block(
    told: Account,
    place: Path,
    first: int,
    block: list[dict[str, Any]],
    bundles: Mapping[str, dict[str, Any]],
    written: Mapping[str, Written],
) -> None:
    """Read some slots of one field through zarr and hold each against its journal line."""
    span = slice(first, first + _BLOCK)
    rows = max(line["n_cells"] for line in block) + 1
    images = np.asarray(zarr.open_array(place / "0", mode="r")[span])
    labels = np.asarray(zarr.open_array(place / "labels/cells/0", mode="r")[span])
    cells = np.asarray(zarr.open_array(place / "cells/features", mode="r")[span, :rows])
    calls = {
        sha256: np.asarray(zarr.open_array(place / bundles[sha256]["table"], mode="r")[span, :rows])
        for sha256 in {line["bundle"] for line in block if line["n_cells"]}
    }
    for line in block:
        t, n = line["t"] - first, line["n_cells"]
        source = written.get(line["files"][0][0])
        if source is None or digest_of(images[t, 0]) != source.pixels:
            told.torn.append(f"{line['key']}: slot {line['t']} does not hold the pixels that the microscope wrote")
        top = int(labels[t].max())
        features = int(np.count_nonzero(~np.isnan(cells[t, :, 0])))
        called = int(np.count_nonzero(~np.isnan(calls[line["bundle"]][t, :, 0]))) if n else 0
        told.cells_labels += top
        told.cells_features += features
        told.cells_calls += called
        if {top, features, called} != {n} or np.unique(labels[t]).size - 1 != n:
            told.torn.append(f"{line['key']}: {n} cells, but {top} labels, {features} rows, {called} calls")
        elif n:
            bundle = bundles[line["bundle"]]
            counts = _counted(calls[line["bundle"]][t, :n], cells[t, :n, 7] > 0, bundle["classes"])
            told.counted_tables += sum(counts.values())
            if counts != {name: count for name, count in line["counts"].items() if count}:
                told.torn.append(f"{line['key']}: counts {line['counts']}, but the rows say {dict(counts)}")


def _counted(calls: np.ndarray[Any, Any], edge: np.ndarray[Any, Any], classes: list[str]) -> Counter[str]:
    """Cells a state among those that do not touch the border, from the rows alone."""
    names = (UNKNOWN if unknown else classes[int(best)] for best, unknown in calls[~edge, :2])
    return Counter(names)
