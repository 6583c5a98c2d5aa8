"""A microscope that writes as fast as the disk takes it: real Gen5 files, and the truth of each beside them.

A few fields are rendered once. Every file is one of them with its own name, its own metadata and its own number in the
lowest bits of eight pixels, so that no two frames are alike and a torn or swapped one is seen.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from cellvigil.data import Array
from cellvigil.rehearse import gen5, optics
from cellvigil.rehearse.assay import Assay, simulate

EXPERIMENT = "240301_180000_Torture"
PLATE = "Plate 1"
TRUTH = "truth.jsonl"
_BEGAN = datetime(2024, 3, 1, 18, 0, 0)  # noqa: DTZ001 - Gen5's clock is local and has no zone
_STAMP = 8  # pixels that hold a frame's number, four bits each


@dataclass(frozen=True, slots=True)
class Written:
    """One frame as it was written: what the store must hold in the end."""

    path: str  # below the watched folder
    well: str
    timepoint: int
    file: str  # sha256 of the file, hex
    pixels: str  # sha256 of its (Y, X) little-endian u16 pixels, hex


def render(count: int, *, seed: int = 5, shape: tuple[int, int] = (256, 256), cells: float = 8.0) -> Array:
    """(count, Y, X) u16: fields of simulated cells, live ones and dying ones."""
    wells = ("A1", "B1")
    assay = Assay(seed=seed, wells=wells, treated=("B1",), timepoints=-(-count // 2), shape=shape, cells=cells,
                  minutes=60.0, defocus_rate=0.0, bubble_rate=0.0)  # fmt: skip
    scenes = (optics.bright_field(scene, assay.optics) for scene in simulate(assay))
    return np.stack([picture for picture, _ in zip(scenes, range(count), strict=False)])


def wells_of(count: int) -> tuple[str, ...]:
    """The first `count` wells of a 96-well plate."""
    return tuple(f"{row}{column}" for row in "ABCDEFGH" for column in range(1, 13))[:count]


def digest_of(pixels: Array) -> str:
    """Which pixels these are, whatever their byte order or layout."""
    return hashlib.sha256(np.ascontiguousarray(pixels, dtype="<u2").tobytes()).hexdigest()


def stamped(picture: Array, number: int) -> Array:
    """A picture with a frame's number in the lowest four bits of its first eight pixels."""
    pixels = picture.copy()
    nibbles = np.array([(number >> (4 * place)) & 15 for place in range(_STAMP)], dtype=pixels.dtype)
    pixels[0, :_STAMP] = (pixels[0, :_STAMP] & ~np.uint16(15)) | nibbles
    return pixels


def content(pictures: Array, number: int, wells: Sequence[str]) -> tuple[Written, bytes]:
    """The frame of this number: wells in turn, then the next time point."""
    timepoint, place = divmod(number, len(wells))
    shot = gen5.Shot(
        experiment=EXPERIMENT.partition("_")[2].partition("_")[2],
        plate=PLATE,
        started_at=_BEGAN,
        after=timedelta(minutes=15 * timepoint, seconds=2 * place),
        well=wells[place],
        field=1,
        fields=1,
        timepoint=timepoint,
        timepoints=100_000,
        interval=timedelta(minutes=15),
        channel=gen5.BRIGHT_FIELD,
        pixel_size_um=0.322,
    )
    pixels = stamped(pictures[number % len(pictures)], number)
    data = gen5.encode(pixels, shot)
    path = gen5.path_of(shot).as_posix()
    return Written(path, wells[place], timepoint, hashlib.sha256(data).hexdigest(), digest_of(pixels)), data


def write_frames(
    images: Path,
    truth: Path,
    pictures: Array,
    wells: Sequence[str],
    *,
    numbers: Iterator[int],
    may_go_on: Callable[[int], bool],
    seed: int = 0,
    watched: Callable[[Path, bytes, int], None] | None = None,
) -> int:
    """Write frames until `numbers` ends or `may_go_on(number)` says no; returns how many.

    The truth's line comes before its file. Each file grows under its final name, in one write or in two.
    """
    pieces = random.Random(seed)
    done = 0
    put = watched or put_file
    with truth.open("a", encoding="utf-8", buffering=1) as lines:
        for number in numbers:
            if not may_go_on(number):
                break
            written, data = content(pictures, number, wells)
            lines.write(json.dumps(asdict(written)) + "\n")
            put(images / written.path, data, len(data) if pieces.random() < 0.8 else pieces.randrange(1, len(data)))
            done += 1
    return done


def put_file(path: Path, data: bytes, first: int) -> None:
    """Write a file under its final name: `first` bytes, and then the rest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as file:
        file.write(data[:first])
        if first < len(data):
            time.sleep(0.002)
            file.write(data[first:])


def read_truth(truth: Path) -> dict[str, Written]:
    """What was written, by path; a line that is being written just now is left out."""
    text = truth.read_text(encoding="utf-8") if truth.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return {written.path: written for written in (Written(**json.loads(line)) for line in whole.splitlines())}
