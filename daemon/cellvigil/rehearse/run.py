"""Writes a rehearsal: the images as a microscope writes them, at a chosen pace, and the truth beside them.

Layout: `OUT/images/...` is the folder to watch, `OUT/plate.csv` and `OUT/events.csv` are for the configuration,
`OUT/truth/` holds `cells.csv`, `wells.csv`, `plate.csv`, `assay.json`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath

from cellvigil import __version__
from cellvigil.errors import UsageError
from cellvigil.rehearse import gen5, holotomography, nanolive, optics
from cellvigil.rehearse.assay import Assay, as_settings, simulate, wells_of
from cellvigil.rehearse.scene import Scene
from cellvigil.rehearse.sheets import write_sheets
from cellvigil.rehearse.truth import TruthWriter, WellRow, cell_rows, well_row

IMAGES = "images"
TRUTH = "truth"


@dataclass(frozen=True, slots=True)
class Progress:
    """One frame was written."""

    frame: int  # 1-based
    frames: int
    truth: WellRow
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a finished rehearsal left behind."""

    images: Path  # the folder to watch
    truth: Path
    plate_map: Path  # for sources[].plate_map
    events: Path  # for sources[].events
    frames: int
    files: int
    wells: tuple[WellRow, ...]


@dataclass(frozen=True, slots=True)
class Growth:
    """How a file comes to its full size."""

    pieces: int = 1  # writes
    pause_s: float = 0.0  # between two of them
    sleep: Callable[[float], None] = time.sleep


def run(
    assay: Assay,
    out: Path,
    *,
    pace_s: float = 0.0,
    pieces: int = 1,
    pause_s: float = 0.0,
    progress: Callable[[Progress], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Rehearsal:
    """Simulate `assay` and write it below `out`.

    Args:
        assay: the settings.
        out: a folder that does not hold a rehearsal yet.
        pace_s: seconds from one time point to the next; 0 = as fast as it goes.
        pieces: each file grows to its full size in so many writes.
        pause_s: seconds between two of these writes.
        progress: told of each frame.
        sleep: waits so many seconds.
        clock: seconds that only go forward.

    Raises UsageError if `out` holds images, truth or another plate map already, or cannot be written.
    """
    images, truth = out / IMAGES, out / TRUTH
    _claim(out, images, truth)
    plate_map, events = write_sheets(assay, out)
    settings = {"version": __version__, "source": source_settings(assay), **as_settings(assay)}
    growth = Growth(pieces, pause_s, sleep)
    frames = assay.timepoints * len(assay.wells) * assay.fields
    rows: list[WellRow] = []
    files = 0
    began = clock()
    with TruthWriter(truth, settings, wells_of(assay)) as writer:
        for scene in simulate(assay):
            sleep(max(0.0, began + pace_s * scene.timepoint - clock()))
            written = tuple(_write_scene(assay, scene, images, growth))
            cells = cell_rows(scene, assay.frame_shape, assay.micrometres_a_pixel, assay.mitosis)
            rows.append(well_row(scene, cells))
            writer.add(cells, rows[-1])
            files += len(written)
            if progress:
                progress(Progress(len(rows), frames, rows[-1], written))
    return Rehearsal(images, truth, plate_map, events, len(rows), files, tuple(rows))


def source_settings(assay: Assay) -> dict[str, object]:
    """The keys of `sources` in the configuration that the rehearsal's files need; `path` and `index` are the user's."""
    channels = {"segment": gen5.BRIGHT_FIELD, "optional": [gen5.DEAD_STAIN] if assay.stain_every else []}
    common: dict[str, object] = {"kind": assay.kind, "timezone": "UTC", "interval_s": assay.minutes * 60}
    if assay.kind == "gen5":
        return {**common, "channels": channels}
    return {**common, "pattern": nanolive.PATTERN, "pixel_size_um": assay.micrometres_a_pixel}


def write_growing(path: Path, content: bytes, growth: Growth) -> None:
    """Write a file as microscopes do: open under its final name at once, and growing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = -(-len(content) // max(1, growth.pieces))
    with path.open("wb") as file:
        for start in range(0, len(content), size):
            if start:
                growth.sleep(growth.pause_s)
            file.write(content[start : start + size])
            file.flush()


def _claim(out: Path, images: Path, truth: Path) -> None:
    for folder in (images, truth):
        if folder.exists() and any(folder.iterdir()):
            raise UsageError("there is a rehearsal here already", where=out, hint="give another --out, or remove it")
    try:
        images.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write here: {error.strerror}", where=out, hint="give another --out") from None


def _write_scene(assay: Assay, scene: Scene, images: Path, growth: Growth) -> Iterator[Path]:
    for name, content in scene_files(assay, scene):
        write_growing(images / name, content, growth)
        yield images / name


def scene_files(assay: Assay, scene: Scene) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The files of one frame, in the order they are written: path below the image folder, and content."""
    if assay.kind == "nanolive":
        name = nanolive.path_of(assay.experiment, assay.started_at, scene.well.name, scene.field, scene.timepoint)
        yield name, image_file(assay, scene)
        return
    yield gen5.path_of(_shot(assay, scene, gen5.BRIGHT_FIELD)), image_file(assay, scene)
    if assay.stain_every and scene.timepoint % assay.stain_every == 0:
        stained = _shot(assay, scene, gen5.DEAD_STAIN)
        yield gen5.path_of(stained), gen5.encode(optics.dead_stain(scene, assay.optics), stained)


def image_file(assay: Assay, scene: Scene) -> bytes:
    """The label-free image of one scene as the file that the microscope would write."""
    if assay.kind == "nanolive":
        return nanolive.encode(holotomography.refractive_index(scene, assay.optics))
    shot = _shot(assay, scene, gen5.BRIGHT_FIELD)
    return gen5.encode(optics.bright_field(scene, assay.optics), shot)


def _shot(assay: Assay, scene: Scene, channel: str) -> gen5.Shot:
    return gen5.Shot(
        experiment=assay.experiment,
        plate=assay.plate,
        started_at=assay.started_at,
        after=assay.acquired_after(scene),
        well=scene.well.name,
        field=scene.field,
        fields=assay.fields,
        timepoint=scene.timepoint,
        timepoints=assay.timepoints,
        interval=timedelta(minutes=assay.minutes),
        channel=channel,
        pixel_size_um=assay.micrometres_a_pixel,
    )
