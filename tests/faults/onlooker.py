"""Somebody else reads the store while it is written and its writer is killed: other people's validators and readers.

Every committed frame that the arrays show is read once through zarr as soon as it is shown, and a few old ones again
and again; pixels are compared with the microscope's own by digest, labels and rows with the journal's count of cells.
"""

from __future__ import annotations

import json
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaozarrs
import zarr
from fast_scope import digest_of, read_truth
from tail import Tail


@dataclass(slots=True)
class Seen:
    """What the onlooker saw."""

    validations: int = 0  # of a whole plate, by yaozarrs
    second_validations: int = 0  # of a field, by ome-zarr-models
    frames_read: int = 0
    read_again: int = 0
    not_shown: int = 0  # committed, and still not shown by the arrays when the looking ended
    torn: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def look_on(store: Path, truth: Path, out: Path, stopped: Callable[[], bool], *, seed: int = 0) -> None:
    """Read until `stopped`, and once more after it; then write what was seen to `out` as JSON."""
    seen, tail, chance = Seen(), Tail(store), random.Random(seed)
    waiting: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    last = False
    while not last:
        last = stopped()
        waiting += tail.look()
        written = read_truth(truth) if waiting else {}
        waiting = [line for line in waiting if not _told(seen, _read, line, seen, written, shown)]
        for line in chance.sample(shown, min(5, len(shown))):
            _told(seen, _again, line, seen)
        for plate in {line["plate_folder"] for line in shown}:
            _told(seen, _validate, Path(plate), seen, chance.choice(shown)["path"])
        if not shown:
            time.sleep(0.05)
    seen.not_shown = len(waiting)
    out.write_text(json.dumps({name: getattr(seen, name) for name in Seen.__slots__}, indent=2), encoding="utf-8")


def _told(seen: Seen, act: Callable[..., Any], *what: Any) -> Any:
    """What `act` says; True, with the trouble noted, where it stumbled."""
    try:
        return act(*what)
    except Exception as error:  # noqa: BLE001 - whatever a reader stumbles over is what this is after
        if len(seen.problems) < 50:
            seen.problems.append("".join(traceback.format_exception_only(error)).strip() + f" in {act.__name__}")
        return True


def _read(line: dict[str, Any], seen: Seen, written: dict[str, Any], shown: list[dict[str, Any]]) -> bool:
    """Read one frame whole, if the arrays show it; says whether it is done with."""
    place, t = Path(line["plate_folder"], line["path"]), line["t"]
    arrays = [zarr.open_array(place / name, mode="r") for name in ("0", "labels/cells/0", "cells/features")]
    if min(array.shape[0] for array in arrays) <= t:
        return False  # shown array by array: a frame is there when the last one shows it
    images, masks, features = arrays
    line["digest"] = written[line["files"][0][0]].pixels
    _compare(line, np.asarray(images[t]), seen)
    labels = np.asarray(masks[t])
    rows = np.asarray(features[t, : line["n_cells"] + 1, 0])
    found = (int(labels.max()), int(np.count_nonzero(~np.isnan(rows))))
    if found != (line["n_cells"], line["n_cells"]):
        seen.torn.append(f"{line['key']}: {found} labels and rows, {line['n_cells']} cells in the journal")
    seen.frames_read += 1
    shown.append({name: line[name] for name in ("key", "t", "path", "plate_folder", "digest")})
    return True


def _again(line: dict[str, Any], seen: Seen) -> None:
    _compare(
        line, np.asarray(zarr.open_array(Path(line["plate_folder"], line["path"], "0"), mode="r")[line["t"]]), seen
    )
    seen.read_again += 1


def _compare(line: dict[str, Any], pixels: np.ndarray[Any, Any], seen: Seen) -> None:
    if digest_of(pixels[0]) != line["digest"]:
        seen.torn.append(f"{line['key']}: slot {line['t']} does not hold the pixels that the microscope wrote")


def _validate(plate: Path, seen: Seen, field_path: str) -> None:
    yaozarrs.validate_zarr_store(str(plate))
    seen.validations += 1
    import ome_zarr_models  # noqa: PLC0415 - not on every machine, and slow to import

    ome_zarr_models.open_ome_zarr(zarr.open_group(plate / field_path, mode="r"))
    seen.second_validations += 1
