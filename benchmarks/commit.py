"""What a commit costs: fsyncs a frame as strace counts them, and its time over what its bytes cost anyway.

    python benchmarks/commit.py [--rounds 40] [--dir DIR] [--json]

A 904 x 1224 two-channel u16 frame with 300 cells and one 1,280-d half-precision embedding, alone and in groups of 8.
The bare work that it is held against: encode the same frame, write its chunks into as many files of as many folders,
fsync each, fsync the folders, append the line to a file and fsync that; no renames, no bookkeeping. Both take turns in
one process on one disk; medians. Exits with 1 if a target is missed. Without strace the fsyncs are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("daemon", "tests")]

from cellvigil.data import Record  # noqa: E402 - found through the path set above
from cellvigil.journal import Line, fsync_path, read, seal  # noqa: E402
from cellvigil.store import encode, lines  # noqa: E402
from cellvigil.store.commit import write_file  # noqa: E402
from cellvigil.store.plate import Plate  # noqa: E402
from cellvigil.store.writer import Filing, Store, open_store  # noqa: E402
from store_records import START, key, record  # noqa: E402

SHAPE = (2, 904, 1224)
CELLS = 300
GROUP = 8
MOST_FSYNCS, MOST_RATIO = 13, 1.5


def frame_maker() -> Callable[[str, int], Record]:
    """Frames of a well and time point: camera-like noise over a smooth field (compresses by 1.4), cells as discs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    pixels = (2000 + 400 * np.sin(y / 90) * np.cos(x / 130) + rng.normal(0, 60, SHAPE)).astype(np.uint16)
    row, column = y // 60, x // 61
    inside = (y % 60 - 30) ** 2 + (x % 61 - 30) ** 2 < 20**2
    labels = np.where(inside, row * 20 + column + 1, 0).astype(np.int32)
    labels[labels > CELLS] = 0

    def make(well: str, timepoint: int) -> Record:
        one = record(key(well, timepoint), n=CELLS, shape=SHAPE, pixels=pixels, dimension=1280)
        return replace(one, cells=replace(one.cells, labels=labels))

    return make


class Bare:
    """The work that no commit can do without, in folders of its own beside the store."""

    def __init__(self, folder: Path, lines_so_far: list[Line]) -> None:
        self.folder, self.plate, self.slots = folder, Plate(), count()
        for line in lines_so_far:
            self.plate.apply(line)
        for one in self.plate.fields.values():
            for name in self.plate.array_names(one):
                (folder / one.path / name).mkdir(parents=True)

    def __call__(self, records: Sequence[Record]) -> None:
        """Encode, write and fsync some frames."""
        log, folders = [], {}
        for one in records:
            field, slot = self.plate.place(one.frame.key), next(self.slots)
            rows = encode.row_tables(one, self.plate, embeddings=True)
            chunks = encode.frame_chunks(self.folder, field, slot, one, self.plate.known_geometry)
            chunks += [encode.table_chunk(self.folder, field, slot, table.name, block) for table, block in rows]
            tables = [table for table, _ in rows]
            count_of = {"setting": 0, "channels": len(self.plate.known_geometry.channels)}
            line = lines.frame_line(one, field, slot, **count_of, tables=tables, chunks=chunks, committed_at=START)
            log.append(seal(line))
            for chunk in chunks:
                write_file(chunk.path, chunk.data, durable=not chunk.derived)
                if not chunk.derived:
                    folders[chunk.path.parent] = None
        for folder in folders:
            fsync_path(folder)
        with (self.folder / "log").open("ab") as file:
            file.write(b"".join(log))
            file.flush()
            os.fsync(file.fileno())


def fill(store: Path, frames: int, fields: int, group: int) -> None:
    """Commit frames of so many fields, `group` at a time, showing nothing: what strace counts."""
    make = frame_maker()
    with contextlib.closing(open_store(store)) as opened:
        waiting = [make(f"A{1 + number % fields}", number // fields) for number in range(frames)]
        for begin in range(0, frames, group):
            _append(opened, waiting[begin : begin + group])


def counted(folder: Path, fields: int, group: int) -> float:
    """fsyncs a frame of a plate that is under way, by strace: those of 32 frames less those of 16, over 16."""
    found = []
    for frames in (16, 32):
        told, store = folder / "calls.txt", folder / "counted"
        strace = ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync,syncfs,sync,sync_file_range", "-o", str(told)]
        what = [f"--fill={frames}", f"--fields={fields}", f"--group={group}", f"--dir={store}"]
        subprocess.run([*strace, sys.executable, __file__, *what], check=True)
        rows = [line.split() for line in told.read_text().splitlines()]
        found.append(sum(int(row[3]) for row in rows if row and "sync" in row[-1]))
        shutil.rmtree(store)
    return (found[1] - found[0]) / 16


def timed(folder: Path, rounds: int, group: int) -> tuple[float, float]:
    """Median seconds a frame of a commit and of the bare work, in turns."""
    make = frame_maker()
    ours, bare = [], []
    with contextlib.closing(open_store(folder / "store")) as store:
        store.append(make("A1", 0))
        other = Bare(folder / "bare", read(next((folder / "store").rglob("journal.jsonl"))))
        for turn in range(rounds):
            some = [make("A1", 1 + turn * group + place) for place in range(group)]
            pair = [(partial(_append, store, some), ours), (partial(other, some), bare)]
            for work, took in pair if turn % 2 else pair[::-1]:
                began = time.perf_counter()
                work()
                took.append((time.perf_counter() - began) / group)
    return median(ours), median(bare)


def _append(store: Store, some: Sequence[Record]) -> None:
    wrong = [answer for answer in store.append_all([Filing(one) for one in some]) if isinstance(answer, Exception)]
    if wrong:
        raise wrong[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="only see that it runs: a missed target is no failure")
    for name in ("fill", "fields", "group"):  # for the run under strace
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        fill(options.dir, options.fill, options.fields, options.group)
        return 0
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        figures = {}
        if shutil.which("strace"):
            for kind, fields, group in (
                ("single", 1, 1),
                ("group_of_8_fields", 8, GROUP),
                ("group_of_8_times", 1, GROUP),
            ):
                figures[f"fsyncs_{kind}"] = counted(folder, fields, group)
        for kind, group, rounds in (("single", 1, options.rounds), ("group_of_8", GROUP, -(-options.rounds // GROUP))):
            ours, bare = timed(folder / kind, rounds, group)
            figures |= {f"{kind}_ms": ours * 1e3, f"{kind}_bare_ms": bare * 1e3, f"{kind}_ratio": ours / bare}
            shutil.rmtree(folder / kind)
    print(json.dumps(figures) if options.json else "\n".join(f"{name}: {value:.2f}" for name, value in figures.items()))
    missed = figures.get("fsyncs_single", 0) > MOST_FSYNCS or figures["single_ratio"] > MOST_RATIO
    return int(missed and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
