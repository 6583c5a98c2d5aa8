"""Known mixtures of two kinds of stained cells (`pbc`), called by an index of others: are corrected shares on the line?

    python benchmarks/mixtures.py [--seeds 10] [--encoders encoders]

Real pictures, the real encoder, the index's own confusion (`bundle.confusion`) and the daemon's own correction
(`response.correction`). Half of each class's images are references, the mixtures come from the other half: a plate of
wells with 0 to 100 % of the second class, two wells each of four fields; fields differ in their mixture as fields do
(intra-class correlation 0.07). No cell is twice in one well. Wells of one seed share a pool of cells, so the standard
error of coverage is taken over seeds. At the end, mixtures that the index was not made for: blurred, paler, and from
another microscope (`bccd`). `pbc` has no donor ids: its halves are more alike than two donors would be.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "export", "indexes")]

from cellvigil.bundle.files import MANIFEST  # noqa: E402 - found through the path set above
from cellvigil.bundle.index import ReferenceIndex, cells_in, open_index  # noqa: E402
from cellvigil.data import UNKNOWN, Calls  # noqa: E402
from cellvigil.decide import Rejection, Settings, confusion_of  # noqa: E402
from cellvigil.response.correction import Confusion, corrected  # noqa: E402
from cellvigil.response.correlation import intraclass  # noqa: E402
from cellvigil.response.shares import plain  # noqa: E402
from cellvigil.response.values import PlateCounts  # noqa: E402
from cellvigil_export.cli import main as export  # noqa: E402
from cellvigil_indexes.cli import main as index_command  # noqa: E402
from cellvigil_indexes.draft import draft_of  # noqa: E402
from cellvigil_indexes.evaluating.parts import call  # noqa: E402
from cellvigil_indexes.writing import write_index  # noqa: E402

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", ROOT.parent / "shared" / "data"))
ENCODER = "efficientnet-lite0"
FIVE = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
PAIRS = (("basophil", "neutrophil"), ("eosinophil", "neutrophil"), ("basophil", "monocyte"), ("monocyte", "ig"))
MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)
WELLS, FIELDS, CELLS, CORRELATION = 2, 4, 25, 0.07
SCALE = {"pbc": 0.1, "bccd": 0.075}  # um a pixel: red cells (7.5 um) are about 75 and 100 px across


@dataclass(frozen=True)
class Seen:
    """One well of one plate."""

    truth: float
    plain: tuple[float, float, float]  # share of the second class, and the ends of its interval
    corrected: tuple[float, float, float]
    status: str
    novel: float  # share of the first class's cells with a novelty p-value of at most 0.1: 0.1 at home
    typical: float  # with one above 0.5: 0.5 at home
    seed: int


def built(folder: Path, encoders: Path, name: str, *source: str | Path) -> ReferenceIndex:
    """All cells of a source, embedded, as an index of their own."""
    words = ["build", name, *source, "--encoder", ENCODER, "--crop-um", "26", "--encoders", encoders, "--out", folder]
    words += ["--device", "cpu", "--set-aside", "0"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if index_command([str(word) for word in words]):
            raise SystemExit(f"{name} could not be embedded")
    return open_index(folder / name)


def of_folder(folder: Path, encoders: Path, name: str, images: Path) -> ReferenceIndex:
    """The `pbc` cells of a folder of them."""
    chosen = [word for kind in (*FIVE, "ig") for word in ("--only", f"{kind}/*")]
    return built(folder, encoders, name, "--images", images, "--pixel-size", str(SCALE["pbc"]), *chosen)


def altered(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A copy of the `pbc` pictures, each changed."""
    for path in DATA.glob("pbc/*/*.jpg"):
        place = folder / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), change(cv2.imread(str(path))))
    return folder


def halves(cells: ReferenceIndex, classes: Sequence[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the references, and of the cells held out; half of each class on either side."""
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name in classes:
        rows = rng.permutation(np.flatnonzero(cells.labels == cells.classes.index(name)))
        parts[0].append(rows[: len(rows) // 2])
        parts[1].append(rows[len(rows) // 2 :])
    return np.sort(np.concatenate(parts[0])), np.concatenate(parts[1])


def index_of(folder: Path, cells: ReferenceIndex, rows: np.ndarray, groups: dict[str, str]) -> ReferenceIndex:
    """An index of these cells, as `build` would write it."""
    whole = draft_of(cells)
    write_index(folder, replace(whole, collected=whole.collected.rows(rows), groups=groups), replace=True)
    return open_index(folder)


def wells(calls: Calls, second: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Counts (W, 1, F, S) of a plate made of called cells; `second`: which of them are of the second class."""
    pools = np.flatnonzero(~second), np.flatnonzero(second)
    each = min(CELLS, min(map(len, pools)) // FIELDS)
    columns = np.where(calls.unknown, classes, calls.best_ids)
    plate = np.zeros((len(MIXTURES) * WELLS, 1, FIELDS, classes + 1), dtype=np.int32)
    for well in range(len(plate)):
        share, left = MIXTURES[well // WELLS], [list(rng.permutation(pool)) for pool in pools]
        for field in range(FIELDS):
            here = rng.beta(*(np.array([share, 1 - share]) * (1 / CORRELATION - 1))) if 0 < share < 1 else share
            of_second = rng.binomial(each, here)
            taken = [left[0].pop() for _ in range(each - of_second)] + [left[1].pop() for _ in range(of_second)]
            np.add.at(plate[well, 0, field], columns[taken], 1)
    return plate


def counts_of(plate: np.ndarray, index: ReferenceIndex) -> PlateCounts:
    names, shape = tuple(f"A{well + 1}" for well in range(len(plate))), plate.shape[:2]
    there, counted = np.ones(shape, dtype=bool), np.ones(plate.shape[:3], dtype=bool)
    states, version = (*index.classes, UNKNOWN), np.zeros(shape, dtype=np.int32)
    return PlateCounts(names, (0,), states, index.groups, np.zeros(shape), plate, counted, there, version)


def plates(
    work: Path, cells: ReferenceIndex, pair: tuple[str, str], classes: Sequence[str], seeds: int,
    *, others: ReferenceIndex | None = None, rejecting: bool = False,
) -> Iterator[Seen]:  # fmt: skip
    """One plate a seed. `others`: the same pictures altered (by their paths), or wholly other cells, to be mixed."""
    groups = {name: {pair[0]: "alive", pair[1]: "dead"}.get(name, "dying") for name in classes}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        references, held = halves(cells, classes, rng)
        index = index_of(work / "index", cells, references, groups)
        source, rows = (cells, held) if others is None else (others, _same(cells, others, held))
        names = np.array(source.classes)[source.labels[rows]]
        rows, names = rows[np.isin(names, pair)], names[np.isin(names, pair)]
        rejection = Rejection(same_device=rejecting)
        calls = call(index, {ENCODER: np.asarray(source.embeddings[ENCODER][rows])}, rejection)
        counts = counts_of(wells(calls, names == pair[1], len(index.classes), rng), index)
        known = confusion_of(index, Settings.of(index), rejection)
        if known is None:
            raise SystemExit("the index has no confusion")
        effective = np.array(known.counts) / np.array(known.effects)[:, None]
        correlation = intraclass(counts, np.arange(len(counts.wells)) < WELLS)
        home = calls.novelty_p[names == pair[0]]
        novel, typical = float(np.mean(home <= 0.1)), float(np.mean(home > 0.5))
        as_called, state = plain(counts, correlation), index.classes.index(pair[1])
        matrix = Confusion(index.classes, effective)
        right, status = corrected(counts, matrix, correlation, novel=novel, typical=typical)
        for well in range(len(counts.wells)):
            found = (tuple(float(a[well, 0, state]) for a in (e.value, e.low, e.high)) for e in (as_called, right))
            yield Seen(MIXTURES[well // WELLS], *found, status=status, novel=novel, typical=typical, seed=seed)


def _same(cells: ReferenceIndex, others: ReferenceIndex, rows: np.ndarray) -> np.ndarray:
    """The rows of `others` that show the same pictures; all of them, if none does."""
    place = {cell.image: row for row, cell in enumerate(cells_in(others.folder))}
    known = cells_in(cells.folder)
    found = [place[known[row].image] for row in rows if known[row].image in place]
    return np.array(found) if found else np.arange(len(others))


def told(what: str, found: Iterator[Seen]) -> None:
    """One row: mean plain and corrected share at each mixture, and how many intervals hold the truth."""
    seen = list(found)
    ok = [one for one in seen if one.status == "ok"]
    lines = []
    for truth in MIXTURES:
        share = np.mean([one.plain[0] for one in seen if one.truth == truth])
        mended = [one.corrected[0] for one in ok if one.truth == truth]
        lines.append(f"{share:.1%} / {np.mean(mended):.1%}" if mended else f"{share:.1%} / -")
    statuses = ", ".join(
        f"{name} {n}" for name, n in Counter(one.status for one in seen[:: len(MIXTURES) * WELLS]).items()
    )
    novel, typical = (np.mean([getattr(one, name) for one in seen]) for name in ("novel", "typical"))
    lines += [_cover(seen, "plain"), _cover(ok, "corrected"), f"{novel:.2f}, {typical:.2f}", statuses]
    print(f"| {what} | {' | '.join(lines)} |", flush=True)


def _cover(seen: Sequence[Seen], which: str) -> str:
    if not seen:
        return "-"
    by_seed = [
        np.mean([getattr(o, which)[1] <= o.truth <= getattr(o, which)[2] for o in seen if o.seed == seed])
        for seed in sorted({one.seed for one in seen})
    ]
    error = np.std(by_seed, ddof=1) / np.sqrt(len(by_seed)) if len(by_seed) > 1 else float("nan")
    return f"{np.mean(by_seed):.1%} ({error:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--encoders", type=Path, default=ROOT / "encoders")
    options = parser.parse_args()
    if not (DATA / "pbc").is_dir():
        print(f"skipped: no {DATA / 'pbc'}; set CELLVIGIL_TEST_DATA")
        return
    with tempfile.TemporaryDirectory() as place:
        work, encoders = Path(place), options.encoders
        if not (encoders / ENCODER / MANIFEST).is_file():
            encoders = work / "encoders"
            export(["run", ENCODER, "--out", str(encoders)])
        cells = of_folder(work / "cells", encoders, "pbc", DATA / "pbc")
        print(
            f"{len(cells)} cells, {options.seeds} seeds; share of the second class, plain / corrected, means of wells"
        )
        covers = ["plain covers", "corrected covers", "p <= 0.1, p > 0.5", "status"]
        print(f"| index and mixture | {' | '.join([*(f'{share:.0%}' for share in MIXTURES), *covers])} |")
        print("|---" * (1 + len(MIXTURES) + len(covers)) + "|")
        for pair in PAIRS:
            told(f"two classes: {' - '.join(pair)}", plates(work, cells, pair, pair, options.seeds))
        for pair in PAIRS[:3]:
            told(f"five classes: {' - '.join(pair)}", plates(work, cells, pair, FIVE, options.seeds))
        rejecting = plates(work, cells, PAIRS[2], FIVE, options.seeds, rejecting=True)
        told(f"five classes, novel cells unknown: {' - '.join(PAIRS[2])}", rejecting)
        for name, others in shifted(work, encoders):
            told(f"{name}: {' - '.join(PAIRS[1])}", plates(work, cells, PAIRS[1], FIVE, options.seeds, others=others))


def shifted(work: Path, encoders: Path) -> Iterator[tuple[str, ReferenceIndex]]:
    """Cells that the index was not made for."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "blurred, sigma 0.2 um": lambda image: cv2.GaussianBlur(image, (0, 0), 2),
        "blurred, sigma 0.6 um": lambda image: cv2.GaussianBlur(image, (0, 0), 6),
        "contrast times 0.8": lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=46),
        "contrast times 0.5": lambda image: cv2.convertScaleAbs(image, alpha=0.5, beta=115),
    }
    for number, (name, change) in enumerate(changes.items()):
        yield name, of_folder(work / "cells", encoders, f"s{number}", altered(work / f"s{number}", change))
    if (DATA / "bccd").is_dir():
        where = ("--coco", DATA / "bccd" / "annotations.coco.json", "--image-root", DATA / "bccd" / "images")
        scaled = (*where, "--pixel-size", str(SCALE["bccd"]))
        yield "another microscope (bccd)", built(work / "cells", encoders, "bccd", *scaled)


if __name__ == "__main__":
    main()
