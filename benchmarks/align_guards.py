"""What keeps an alignment from losing the dead: shares where death is common, and deaths after an all-alive start.

    python benchmarks/align_guards.py [--part shares|states] [--keep DIR] [--seed 7] [--microscope NAME ...] [--smoke]

shares: a reference with 10 % dead cells, a target with 80 %: made ones on another device (Gaussian, 32 dimensions), and
real ones (`livedead`, an index of one acquisition batch, the target another batch; some 50 cells). What is called dead,
in points from the truth, after balanced transport, after transport with estimated class shares, and by what ships.

states: a rehearsed assay whose first cells are all alive, on the reference's microscope and on others: the shift is
fitted on the cells before the drug and scored on those after. Printed: live and dead recall of found cells as the index
calls them, after a plain carried shift (mean, CORAL) and after `align_states`, which also says whether it is accepted.
Encoders with their real ImageNet weights; about twenty minutes, most of them embedding.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_lab import ROOT, STATES, BenchLab, index_command
from rehearsed_cells import MICROSCOPES, Rehearsed, rehearsed

from cellvigil.bundle.index import open_index
from cellvigil.rehearse.assay import Assay
from cellvigil.rehearse.cells import Biology
from cellvigil.rehearse.reference import write_reference
from cellvigil.service.opening import open_bundles, open_kitchen
from cellvigil_indexes.aligning.align import AlignSettings, align
from cellvigil_indexes.aligning.maps.affine import applied
from cellvigil_indexes.aligning.maps.catalogue import MAPS
from cellvigil_indexes.aligning.states.align import StatesSettings, align_states
from cellvigil_indexes.aligning.states.shifting import shift
from cellvigil_indexes.aligning.types.masses import class_shares
from cellvigil_indexes.aligning.values import Alignment
from cellvigil_indexes.bank import Bank, bank_of
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.settings import IndexSettings

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", ROOT.parent / "shared" / "data")) / "livedead"
ENCODERS = ("efficientnet-lite0", "mobilenetv2")
CALLING = IndexSettings(scaling="discriminant", k_max=24)
WELLS = ("A1", "A2", "A3", "B1", "B2", "B3")


def called(alignment: Alignment, bank: Bank, cells: dict[str, np.ndarray]) -> np.ndarray:
    """(n,) class names, by all voters together."""
    total = 0.0
    for voter in alignment.voters:
        own = Bank(alignment.classes, voter.vectors, bank.labels[alignment.rows], bank.groups[alignment.rows])
        names = np.array(bank.classes)[bank.labels[alignment.rows]]
        own = replace(own, labels=np.array([alignment.classes.index(name) for name in names], dtype=np.int16))
        total = total + voter.weight * ewc(own, cells, replace(CALLING, scaling=voter.scaling)).share
    return np.array(alignment.classes)[np.argmax(total, axis=1)]


# --- shares ---------------------------------------------------------------------------------------------------------


def mixed(bank: Bank, dead: float, rng: np.random.Generator) -> Bank:
    """As many cells as there are with that share of dead ones."""
    live, gone = (rng.permutation(np.flatnonzero(bank.labels == bank.classes.index(name))) for name in ("live", "dead"))
    count = int(min(len(live) / (1 - dead), len(gone) / dead))
    rows = np.concatenate([live[: round(count * (1 - dead))], gone[: round(count * dead)]])
    return bank.rows(np.sort(rows))


def made(rng: np.random.Generator) -> tuple[Bank, Bank]:
    """Live and dead cells on two devices, the second turned, stretched and shifted."""
    spread = np.linalg.qr(rng.normal(size=(32, 32)))[0] * np.linspace(0.4, 1.6, 32)
    turn = np.linalg.qr(np.eye(32) + 0.15 * rng.normal(size=(32, 32)))[0]
    turn *= np.sign(np.diag(turn))

    def one(live: int, dead: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat([0, 1], [live, dead]).astype(np.int16)
        cells = rng.normal(size=(live + dead, 32)) @ spread
        cells[labels == 1, 0] += 5.0
        return cells.astype(np.float32), labels

    (first, own), (second, theirs) = one(450, 50), one(100, 400)
    second = (second @ turn * 1.3 + 4.0 * rng.normal(size=32) / np.sqrt(32)).astype(np.float32)
    groups = rng.integers(0, 20, 500).astype(np.int32)
    classes = ("live", "dead")
    return Bank(classes, {"made": first}, own, groups), Bank(classes, {"made": second}, theirs, groups)


def share_lines(name: str, reference: Bank, target: Bank) -> None:
    """What each way calls dead, against the truth."""
    true = float((target.labels == target.classes.index("dead")).mean())
    dead = reference.classes.index("dead")
    row = [("unaligned", (ewc(reference, target.embeddings, CALLING).best == dead).mean())]
    fixed = AlignSettings(filter=False, unmatched=False)
    own = np.bincount(reference.labels) / len(reference)
    found = class_shares(reference.embeddings, reference.labels, target.embeddings, 2)
    row.append(("balanced fgw", (_balanced(reference, target) == dead).mean()))
    for way, settings in (("fgw", replace(fixed, method="fgw")), ("ships", fixed)):
        alignment = align(reference, target.embeddings, settings)
        row.append((way, (called(alignment, reference, dict(target.embeddings)) == "dead").mean()))
    told = ", ".join(f"{way} {value:.2f} ({100 * (value - true):+.0f} points)" for way, value in row)
    print(f"  {name}: {own[dead]:.2f} of the reference dead, {true:.2f} of the target; called: {told}; "
          f"estimated beforehand {found.values[dead]:.2f}", flush=True)  # fmt: skip


def _balanced(reference: Bank, target: Bank) -> np.ndarray:
    """Calls after transport whose class masses are the reference's own counts."""
    blocks, kept = {}, np.ones(len(reference), dtype=bool)
    for name, block in reference.embeddings.items():
        mapped = MAPS["fgw"](np.asarray(block), reference.labels, np.asarray(target.embeddings[name]), None)
        blocks[name], kept = mapped.vectors, kept & mapped.kept
    return ewc(replace(reference, embeddings=blocks).rows(np.flatnonzero(kept)), target.embeddings, CALLING).best


def shares(keep: Path, seed: int, *, smoke: bool) -> None:
    """The made case, and one acquisition batch of `livedead` to another."""
    rng = np.random.default_rng(seed)
    for number in range(1 if smoke else 3):
        reference, target = made(np.random.default_rng((seed, number)))
        share_lines(f"made cells {number + 1}", reference, target)
    if smoke or not DATA.is_dir():
        print(f"  livedead: skipped, no {DATA}" if not smoke else "")
        return
    batches = {name: bank_of(open_index(batch_index(keep, name))) for name in ("b", "cell", "image")}
    for one, other in (("cell", "b"), ("b", "cell"), ("image", "b"), ("image", "cell"), ("cell", "image")):
        share_lines(f"livedead {one} -> {other}", mixed(batches[one], 0.1, rng), mixed(batches[other], 0.8, rng))


def batch_index(keep: Path, batch: str) -> Path:
    """The index of one acquisition batch, built if need be."""
    if not (keep / "livedead" / batch).is_dir():
        arguments = ["build", batch, "--coco", str(DATA / "annotations.coco.json"), "--image-root",
                     str(DATA / "images"), "--only", f"{batch}_*", "--pixel-size", "0.75", "--crop-um", "30",
                     "--states", "live=alive,dead=dead", "--colour", "grey",
                     "--out", str(keep / "livedead")]  # fmt: skip
        build(arguments)
    return keep / "livedead" / batch


# --- states ---------------------------------------------------------------------------------------------------------


def build(arguments: list[str]) -> None:
    """An index with both encoders, quietly."""
    for name in ENCODERS:
        arguments += ["--encoder", name]
    with quiet():
        if index_command([*arguments, "--encoders", str(ROOT / "encoders")]):
            raise SystemExit("the index could not be built")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def recalls(best: np.ndarray, cells: Rehearsed) -> str:
    """Live called live; dying or dead called either; dead called either: shares of the found cells."""
    gone = np.isin(best, ("apoptotic", "necrotic"))
    live, dead = cells.states == "live", cells.states == "necrotic"
    either = dead | (cells.states == "apoptotic")
    right = (best[live] == "live").mean()
    return f"live {right:.3f}  dying or dead {gone[either].mean():.3f}  dead {gone[dead].mean():.3f}"


def plain(bank: Bank, controls: dict[str, np.ndarray], kind: str) -> Bank:
    """The references after a shift that is only carried."""
    live = bank.labels == bank.classes.index("live")
    moved = {
        name: applied(shift(kind, np.asarray(block[live]), controls[name]), np.asarray(block))
        for name, block in bank.embeddings.items()
    }
    return replace(bank, embeddings=moved)


def states(keep: Path, seed: int, microscopes: list[str]) -> None:
    """Every microscope, in the order of the table."""
    assay = Assay(seed=seed, wells=WELLS, treated=WELLS[3:], timepoints=12, minutes=180.0, dosed_at=2)
    if not (keep / "indexes" / "demo").is_dir():
        reference = write_reference(keep / "reference", assay, 24)
        build(["build", "demo", "--coco", str(reference.annotations), "--states", STATES, "--crop-um", "28", "--mask",
               "--cell-diameter", "18", "--k-max", "24", "--scale", "discriminant",
               "--out", str(keep / "indexes")])  # fmt: skip
    (keep / "images").mkdir(exist_ok=True)
    config = BenchLab(keep, ROOT / "encoders").config(index="demo")
    kitchen = open_kitchen(config, open_bundles(config), told=lambda *_: None, wait=lambda _: None)
    bank = bank_of(kitchen.recipes["bench"].index)
    names = np.array(bank.classes)
    alive = replace(assay, biology=Biology(dead_at_start=0.0, debris_at_start=0.0))
    for course, settings in (("all alive at first", alive), ("4 % dead, 12 % specks at first", assay)):
        print(f"  {course}")
        for microscope in microscopes:
            kept = keep / f"{'alive_' if settings is alive else ''}{microscope}.npz"
            cells = rehearsed(settings, kitchen.recipes["bench"], microscope, kept)
            counted = cells.states != "cut"
            first = cells.rows(counted & (cells.timepoints <= settings.dosed_at))
            late = cells.rows(counted & (cells.timepoints > settings.dosed_at) & np.isin(cells.states, names))
            print(
                f"    {microscope}: unaligned          {recalls(names[ewc(bank, late.embeddings, CALLING).best], late)}"
            )
            for kind in ("mean", "coral"):
                best = ewc(plain(bank, first.embeddings, kind), late.embeddings, CALLING).best
                print(f"    {microscope}: {kind:5s} carried plain {recalls(names[best], late)}")
            began = time.perf_counter()
            fit = align_states(bank, first.embeddings, ["live"], StatesSettings(calling=CALLING))
            seconds = time.perf_counter() - began
            told = fit.told
            print(f"    {microscope}: align_states       {recalls(called(fit, bank, late.embeddings), late)}  "
                  f"{'accepted' if fit.accepted else 'NOT accepted'}: halves {told['split_half']:.2f}, "
                  f"voters {told['voters_agreement']:.2f}; {', '.join(told['kinds'].values())}; {seconds:.0f} s",
                  flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("shares", "states"), default=None)
    parser.add_argument("--keep", type=Path, default=None, help="a folder that keeps what was embedded")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--microscope", nargs="+", choices=sorted(MICROSCOPES), default=list(MICROSCOPES))
    parser.add_argument("--smoke", action="store_true", help="one made case alone: does it run?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        keep = options.keep or Path(place)
        keep.mkdir(parents=True, exist_ok=True)
        if options.part != "states":
            print("shares")
            shares(keep, options.seed, smoke=options.smoke)
        if options.part != "shares" and not options.smoke:
            print("states")
            states(keep, options.seed, options.microscope)


if __name__ == "__main__":
    sys.exit(main())
