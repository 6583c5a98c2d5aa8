"""A lab whose source is aligned while it runs: an index with enough cells, a plate map, and frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cellvigil.rehearse.reference import write_reference
from cellvigil.rehearse.run import run
from cellvigil.service.serve import once
from cellvigil_indexes.cli import main as index_command
from lab import Lab, Service, small_assay

FILM: dict[str, Any] = {"wells": ("A1", "A2", "B1"), "shape": (420, 480)}  # two control wells, one treated
FRAMES = 18
CELLS = 100  # of the warm-up
SHEETS: dict[str, Any] = {"source": {"plate_map": "plate.csv", "events": "events.csv"}}


def build_recorded(out: Path, encoder: Path) -> Path:
    """A lab's folder: an index called `states`, and frames that it has called as it is."""
    reference = write_reference(out / "indexes" / "reference", small_assay(shape=(300, 340)), 40)
    _keep_only(reference.annotations, ("live", "debris"))
    code = index_command(
        ["build", "states", "--coco", str(reference.annotations), "--encoder", encoder.name, "--encoders",
         str(encoder.parent), "--states", "live=alive,debris=artefact", "--crop-um", "28", "--mask", "--k-max", "12",
         "--out", str(out / "indexes")]
    )  # fmt: skip
    assert code == 0
    lab = Lab(out, out / "indexes", encoder.parent)
    assert lab.film(timepoints=6, **FILM) == FRAMES
    assert once(lab.config(**SHEETS))["counted"] == FRAMES
    return out


def _keep_only(annotations: Path, classes: Sequence[str]) -> None:
    """Leave the other classes out: a fit on a few hundred cells is accepted where classes lie well apart."""
    said = json.loads(annotations.read_text())
    said["categories"] = [each for each in said["categories"] if each["name"] in classes]
    known = {each["id"] for each in said["categories"]}
    said["annotations"] = [each for each in said["annotations"] if each["category_id"] in known]
    annotations.write_text(json.dumps(said))


def aligned(**changes: Any) -> dict[str, Any]:
    """The configuration of a source that is aligned by its control wells."""
    align = {"mode": "states", "warm_up_cells": CELLS, **changes}
    return {"source": {**SHEETS["source"], "align": align}}


def film_plate(lab: Lab, plate: str, timepoints: int, change: Callable[[Path], None] = lambda _path: None) -> int:
    """Put another plate's images, each changed, into the watched folder; returns how many."""
    out = lab.root / f"film of {plate}"
    run(small_assay(timepoints=timepoints, plate=plate, **FILM), out)
    paths = sorted((out / "images").rglob("*.tif"))
    for path in paths:
        change(path)
        there = lab.images / path.relative_to(out / "images")
        there.parent.mkdir(parents=True, exist_ok=True)
        path.rename(there)
    return len(paths)


def kept(lab: Lab) -> dict[str, Any]:
    """The fit in force."""
    found: dict[str, Any] = json.loads((lab.root / "state/aligned/scope/kept.json").read_text())
    return found


def bundles(lab: Lab) -> set[str]:
    """The indexes that made the current calls of the lab's frames."""
    ledger = lab.ledger()
    frames = [frame for series in ledger.series() for frame in ledger.frames(series)]
    return {ledger.calls(frame.key, frame.revision)[0] for frame in frames}


def told(service: Service) -> tuple[str, str]:
    """Status and bundle that the service publishes of its one source."""
    [labels] = [dict(labels) for name, labels in service.samples() if name == "cellvigil_alignment_info"]
    return labels["status"], labels["bundle"]


def fits_running(root: Path) -> list[int]:
    """Processes that fit an index for a lab."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if b"cellvigil_indexes" in words and any(str(root).encode() in word for word in words) and state != "Z":
            found.append(int(folder.name))
    return found
