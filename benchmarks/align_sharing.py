"""Which classes of a reference a target has: the paper's way and the default, on real cells with known labels.

    python benchmarks/align_sharing.py [--cases 8] [--encoders encoders] [--crop-um 18]

Three tables. 1: a class of the target is withheld from the reference; at which least probability (equation 23) do
its clusters still match, and how many right matches does that limit cost? 2: made targets, 1 to 8 classes in random
shares: dropped and kept wrongly, equations 24 and 5, and how the share of wrong drops depends on the agreement that the
default asks for. 3: `pbc` (8 classes) -> `bccd` (5, of 342 cells) and back, looked at once. Tables 1 and 2 are of
`pbc` alone: one half of each class is the reference, the other half the target, as it is or altered (pale and blurred,
dark and coarse, another hue): artificial devices. `pbc` has no donor ids: its halves are more alike than two donors.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "export", "indexes")]

from cellvigil.bundle.files import MANIFEST  # noqa: E402 - found through the path set above
from cellvigil.bundle.index import cells_in, open_index  # noqa: E402
from cellvigil_export.cli import main as export  # noqa: E402
from cellvigil_indexes.aligning.sharing.find import LOUVAIN, PAPER, SharingSettings, shared_classes  # noqa: E402
from cellvigil_indexes.aligning.sharing.scores import score  # noqa: E402
from cellvigil_indexes.aligning.values import Shared  # noqa: E402
from cellvigil_indexes.bank import Bank, bank_of  # noqa: E402
from cellvigil_indexes.cli import main as index_command  # noqa: E402

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", ROOT.parent / "shared" / "data"))
ENCODERS = ("efficientnet-lite0", "mobilenetv2")
SCALE = {"pbc": 0.1, "bccd": 0.075}  # um a pixel: red cells (7.5 um) are about 75 and 100 px across
CELLS = 500  # of a made target, at most
LIMITS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
AGREEMENTS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8)
WAYS = {
    "letter, own clusters": SharingSettings.letter(PAPER),
    "letter, Louvain": SharingSettings.letter(LOUVAIN),
    "letter centred, own": SharingSettings.letter(PAPER, centred=True),
    "letter centred, Louvain": SharingSettings.letter(LOUVAIN, centred=True),
    "axes, own clusters": SharingSettings(methods=(PAPER,), least_share=None),
    "axes, Louvain": SharingSettings(methods=(LOUVAIN,), least_share=None),
    "default, not gated": SharingSettings(least_agreement=0.0),
    "default": SharingSettings(),
}
Picture = np.ndarray


@dataclass(frozen=True)
class Case:
    """A target with known labels, and a reference."""

    bank: Bank
    target: dict[str, np.ndarray]
    truth: np.ndarray  # (M,) class names


def pale(image: Picture) -> Picture:
    return cv2.GaussianBlur(cv2.convertScaleAbs(image, alpha=0.6, beta=90), (0, 0), 2.5)


def coarse(image: Picture) -> Picture:
    small = cv2.resize(cv2.convertScaleAbs(image, alpha=0.75), None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    noisy = small + np.random.default_rng(0).normal(0, 6, small.shape)
    return cv2.resize(np.clip(noisy, 0, 255).astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def tinted(image: Picture) -> Picture:
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    turned = ((hue.astype(np.int32) + 12) % 180).astype(np.uint8)
    return cv2.cvtColor(cv2.merge([turned, cv2.convertScaleAbs(saturation, alpha=0.6), value]), cv2.COLOR_HSV2BGR)


DEVICES: dict[str, Callable[[Picture], Picture]] = {"pale": pale, "coarse": coarse, "tinted": tinted}


def built(folder: Path, encoders: Path, name: str, crop: float, *source: str | Path) -> Bank:
    """All cells of a source, embedded."""
    words = ["build", name, *source, "--crop-um", crop, "--encoders", encoders, "--out", folder, "--device", "cpu"]
    words += ["--set-aside", "0", *(word for one in ENCODERS for word in ("--encoder", one))]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if index_command([str(word) for word in words]):
            raise SystemExit(f"{name} could not be embedded")
    index = open_index(folder / name)
    order = np.argsort([cell.image for cell in cells_in(index.folder)], kind="stable")
    return bank_of(index).rows(order.astype(np.int64))  # the same pictures in the same order, whatever was altered


def altered(folder: Path, change: Callable[[Picture], Picture]) -> Path:
    for path in DATA.glob("pbc/*/*.jpg"):
        place = folder / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), change(cv2.imread(str(path))))
    return folder


def halved(bank: Bank, seed: int) -> np.ndarray:
    """Which cells are references, half of each class."""
    rng, first = np.random.default_rng(seed), np.zeros(len(bank), dtype=bool)
    for label in range(len(bank.classes)):
        rows = rng.permutation(np.flatnonzero(bank.labels == label))
        first[rows[: len(rows) // 2]] = True
    return first


def case(pbc: Bank, device: Bank, seed: int, *, present: Sequence[int], shares: np.ndarray, without: int = -1) -> Case:
    """References of one half; cells of the other, as a device shows them, of these classes in these shares."""
    first, rng = halved(pbc, seed), np.random.default_rng(seed + 1)
    rows = [
        rng.permutation(np.flatnonzero((device.labels == label) & ~first))[: max(5, round(float(share) * CELLS))]
        for label, share in zip(present, shares, strict=True)
    ]
    chosen = np.concatenate(rows)
    target = {name: np.asarray(block[chosen]) for name, block in device.embeddings.items()}
    reference = pbc.rows(np.flatnonzero(first & (pbc.labels != without)))
    return Case(reference, target, np.array(device.classes)[device.labels[chosen]])


def withheld(pbc: Bank, devices: dict[str, Bank]) -> Iterator[tuple[Case, str]]:
    rng = np.random.default_rng(3)
    for device in devices.values():
        for label, name in enumerate(pbc.classes):
            others = [one for one in range(len(pbc.classes)) if one != label]
            present = [*rng.permutation(others)[: rng.integers(2, 7)].tolist(), label]
            shares = rng.dirichlet(np.full(len(present), 4.0))
            yield case(pbc, device, label, present=present, shares=shares, without=label), name


def mixed(pbc: Bank, devices: dict[str, Bank], cases: int) -> Iterator[Case]:
    rng = np.random.default_rng(41)
    for seed in range(cases):
        for device in devices.values():
            count = int(rng.integers(1, len(pbc.classes) + 1))
            present = rng.permutation(len(pbc.classes))[:count].tolist()
            yield case(pbc, device, seed, present=present, shares=rng.dirichlet(np.full(count, 2.0)))


def foremost(found: Shared, truth: np.ndarray) -> list[str]:
    """The class that most cells of each cluster have."""
    names = []
    for cluster in range(found.clusters.count):
        kinds, counts = np.unique(truth[found.clusters.labels == cluster], return_counts=True)
        names.append(str(kinds[counts.argmax()]) if len(kinds) else "")
    return names


def limits(pbc: Bank, devices: dict[str, Bank]) -> None:
    """Table 1."""
    print("| clusters | at least | right matches lost | clusters of the withheld class that match |")
    print("|---|---|---|---|")
    cases = list(withheld(pbc, devices))
    for method in (LOUVAIN, PAPER):
        for reach in (np.inf, SharingSettings().reach):
            whole = SharingSettings(methods=(method,), reach=reach)
            open_ended = replace(whole, matching=replace(whole.matching, least_probability=0.0))
            right, foreign = [], []
            for one, name in cases:
                found = shared_classes(one.bank, one.target, open_ended)
                for cluster, kind in enumerate(foremost(found, one.truth)):
                    sure = found.matches.probability[cluster]
                    held = float(sure.max()) if found.matches.best[cluster] >= 0 else -1.0  # -1: too far off
                    if kind == name:
                        foreign.append(held)
                    elif kind == one.bank.classes[int(sure.argmax())]:
                        right.append(held)
            for limit in LIMITS:
                lost, matched = np.mean(np.array(right) < limit), np.mean(np.array(foreign) >= limit)
                words = f"{method}, within {reach:g} of the gap" if np.isfinite(reach) else method
                print(
                    f"| {words} | {limit} | {lost:.0%} of {len(right)} | {matched:.0%} of {len(foreign)} |", flush=True
                )


def wrong(found: Shared, there: set[str], truth: np.ndarray) -> tuple[float, float, float]:
    """Shares of the classes that are there and were dropped, of their cells, and of absent classes that were kept."""
    lost, absent = there - set(found.kept), (set(found.kept) | set(found.dropped)) - there
    kept = len(absent & set(found.kept)) / len(absent) if absent else np.nan
    return len(lost) / len(there), float(np.isin(truth, list(lost)).mean()), kept


def panel(pbc: Bank, devices: dict[str, Bank], cases: int) -> None:
    """Table 2."""
    seen = list(mixed(pbc, devices, cases))
    print(f"| way, {len(seen)} targets | there, dropped | their cells | absent, kept | eq. 24 | clusters | eq. 5 |")
    print("|---|---|---|---|---|---|---|")
    free: list[tuple[float, float, float, float]] = []
    for way, how in WAYS.items():
        rows = []
        for one in seen:
            found = shared_classes(one.bank, one.target, how)
            errors = wrong(found, set(one.truth.tolist()), one.truth)
            scored = score(found.kept, found.clusters, found.matches, one.bank.classes, one.truth)
            rows.append((*errors, scored.globally, scored.clusters, scored.accuracy))
            if how.least_agreement == 0.0:
                free.append((found.told["confidence"], *errors))
        print(f"| {way} | {' | '.join(f'{value:.1%}' for value in np.nanmean(rows, axis=0))} |", flush=True)
    print(
        "\n| agreement at least | targets filtered | there, dropped | their cells | absent, kept | refused: dropped |"
    )
    print("|---|---|---|---|---|---|")
    table = np.array(free)
    for limit in AGREEMENTS:
        passed = table[:, 0] >= limit
        refused = f"{table[~passed, 1].mean():.1%}" if (~passed).any() else "-"
        told = " | ".join(f"{value:.1%}" for value in np.nanmean(table[passed, 1:], axis=0)) if passed.any() else "-"
        print(f"| {limit} | {passed.mean():.0%} | {told} | {refused} |")


def pairs(pbc: Bank, bccd: Bank) -> None:
    """Table 3."""
    print("| from -> to | way | kept | eq. 24 | clusters | eq. 5 | agreement |")
    print("|---|---|---|---|---|---|---|")
    for name, source, target in (("pbc -> bccd", pbc, bccd), ("bccd -> pbc", bccd, pbc)):
        truth = np.array(target.classes)[target.labels]
        for way, how in WAYS.items():
            found = shared_classes(source, target.embeddings, how)
            scored = score(found.kept, found.clusters, found.matches, source.classes, truth)
            kept = f"all: {found.told['kept_whole']}" if found.told["kept_whole"] else ", ".join(found.kept)
            figures = f"{scored.globally:.2f} | {scored.clusters:.2f} | {scored.accuracy:.2f}"
            sure = found.told["confidence"]
            print(f"| {name} | {way} | {kept} | {figures} | {'-' if sure is None else f'{sure:.2f}'} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=8, help="made targets a device")
    parser.add_argument("--crop-um", type=float, default=18.0)
    parser.add_argument("--encoders", type=Path, default=ROOT / "encoders")
    options = parser.parse_args()
    if not (DATA / "pbc").is_dir() or not (DATA / "bccd").is_dir():
        print(f"skipped: no {DATA / 'pbc'} or no {DATA / 'bccd'}; set CELLVIGIL_TEST_DATA")
        return
    with tempfile.TemporaryDirectory() as place:
        work, encoders = Path(place), options.encoders
        if not all((encoders / name / MANIFEST).is_file() for name in ENCODERS):
            encoders = work / "encoders"
            for name in ENCODERS:
                export(["run", name, "--out", str(encoders)])
        scaled = ("--pixel-size", str(SCALE["pbc"]))
        pbc = built(work / "cells", encoders, "pbc", options.crop_um, "--images", DATA / "pbc", *scaled)
        devices = {"as it is": pbc}
        for name, change in DEVICES.items():
            images = altered(work / name, change)
            devices[name] = built(work / "cells", encoders, name, options.crop_um, "--images", images, *scaled)
        where = ("--coco", DATA / "bccd" / "annotations.coco.json", "--image-root", DATA / "bccd" / "images")
        scaled = ("--pixel-size", str(SCALE["bccd"]))
        bccd = built(work / "cells", encoders, "bccd", options.crop_um, *where, *scaled)
        limits(pbc, devices)
        print()
        panel(pbc, devices, options.cases)
        print()
        pairs(pbc, bccd)


if __name__ == "__main__":
    main()
