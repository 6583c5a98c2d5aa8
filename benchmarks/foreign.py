"""Cells of a class that the reference lacks: how many the default tells, and how much any figure could.

    python benchmarks/foreign.py [--turns 1] [--seeds 1] [--crop-um 18] [--encoders encoders]

Made targets of six classes in random shares, out of halves of `pbc`, as it is and altered as in `align_sharing.py`;
each class in turn is not in the reference (and twice none lacks). Printed a device: the share of the withheld cells
that `--unmatched` makes a class of their own, and of the known ones that go with them; how many an expert would see
(voters' agreement below 2/3); and what two figures a cell tell, the fit being the default's: the area under their
curve, and the share of the withheld found where 2 % of the known are. "far": the mean distance to the five nearest
references over that to the five nearest fellows, along principal axes of the target, both sides standardised with the
fit's class shares. "doubt": 1 - the voters' agreement. The first row is the same microscope: no shift is there to be
confused with.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import align_sharing as made
import numpy as np
from sklearn.metrics import roc_auc_score
from transfer import EXPERT, by_alignment, only

from cellvigil.bundle.files import MANIFEST
from cellvigil_export.cli import main as export
from cellvigil_indexes.aligning.align import AlignSettings, align
from cellvigil_indexes.aligning.foreign import AXES, NEAREST
from cellvigil_indexes.aligning.maps.domains import cell_masses
from cellvigil_indexes.aligning.types.frame import standardised
from cellvigil_indexes.bank import Bank

SIX = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "erythroblast")
NOBODY = "none"
SPARED = 0.98  # of the known cells
COLUMNS = (
    "withheld, taken", "known, taken", "withheld, flagged", "known, flagged",
    "far: area", "far: found at 2 %", "doubt: area", "doubt: found at 2 %",
)  # fmt: skip


def cases(pbc: Bank, device: Bank, seed: int) -> Iterator[tuple[str, Bank, made.Case]]:
    """The class that lacks (or `NOBODY`), the reference without it, and the target."""
    rng = np.random.default_rng(seed)
    for lacks in (NOBODY, NOBODY, *SIX):
        without = SIX.index(lacks) if lacks in SIX else -1
        shares, draw = rng.dirichlet(np.full(len(SIX), 3.0)), int(rng.integers(1_000_000))
        one = made.case(pbc, device, draw, present=range(len(SIX)), shares=shares, without=without)
        yield lacks, only(one.bank, tuple(name for name in SIX if name != lacks)), one


def far(bank: Bank, one: made.Case, shares: np.ndarray) -> np.ndarray:
    """(M,) how far each target cell is from the references, for how near its fellows are."""
    both = standardised(bank.embeddings, one.target, cell_masses(bank.labels, shares), list(bank.embeddings))
    axes = np.linalg.svd(both.theirs - both.theirs.mean(axis=0), full_matrices=False)[2][:AXES].T
    own, theirs = both.own @ axes, both.theirs @ axes
    return np.asarray(_mean_nearest(theirs, own, 0) / _mean_nearest(theirs, theirs, 1))


def _mean_nearest(cells: np.ndarray, others: np.ndarray, skipped: int) -> np.ndarray:
    distances = np.sort(np.linalg.norm(cells[:, None] - others[None], axis=2), axis=1)
    return np.asarray(distances[:, skipped : skipped + NEAREST].mean(axis=1))


def told(figures: np.ndarray, strange: np.ndarray) -> tuple[float, float]:
    """Area under the curve, and the share of the strange above all but 2 % of the others."""
    limit = np.quantile(figures[~strange], SPARED)
    return float(roc_auc_score(strange, figures)), float(np.mean(figures[strange] > limit))


def row(pbc: Bank, device: Bank, seeds: int) -> tuple[dict[str, list[float]], list[float]]:
    """Each figure where a class lacks; the share of cells taken where none does."""
    found: dict[str, list[float]] = defaultdict(list)
    needless = []
    for seed in range(seeds):
        for lacks, bank, one in cases(pbc, device, seed):
            fit = align(bank, one.target, AlignSettings(filter=False, unmatched=True))
            said = by_alignment(bank, fit, one.target)
            taken, strange = ~np.isin(said.names, SIX), one.truth == lacks
            if lacks == NOBODY:
                needless.append(float(taken.mean()))
                continue
            shares = np.array([fit.shares[name] for name in bank.classes])
            area, caught = told(far(bank, one, shares), strange)
            doubted = told(1.0 - said.agreement, strange)
            seen = said.agreement < EXPERT
            figures = (taken[strange].mean(), taken[~strange].mean(), seen[strange].mean(), seen[~strange].mean())
            for name, value in zip(COLUMNS, (*figures, area, caught, *doubted), strict=True):
                found[name].append(float(value))
    return found, needless


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1, help="orientations a cell is seen in: 1 or 4")
    parser.add_argument("--seeds", type=int, default=1, help="draws of each target")
    parser.add_argument("--crop-um", type=float, default=18.0)
    parser.add_argument("--encoders", type=Path, default=made.ROOT / "encoders")
    options = parser.parse_args()
    if not (made.DATA / "pbc").is_dir():
        print(f"skipped: no {made.DATA / 'pbc'}; set CELLVIGIL_TEST_DATA")
        return
    with tempfile.TemporaryDirectory() as place:
        work, encoders = Path(place), options.encoders
        if not all((encoders / name / MANIFEST).is_file() for name in made.ENCODERS):
            encoders = work / "encoders"
            for name in made.ENCODERS:
                export(["run", name, "--out", str(encoders)])
        how = ("--pixel-size", str(made.SCALE["pbc"]), "--turns", str(options.turns))
        images = {"as it is": made.DATA / "pbc"}
        images |= {name: made.altered(work / name, change) for name, change in made.DEVICES.items()}
        devices = {
            name: only(made.built(work / "cells", encoders, name, options.crop_um, "--images", folder, *how), SIX)
            for name, folder in images.items()
        }
        print(f"| microscope, turns {options.turns} | {' | '.join(COLUMNS)} | taken where none lacks |")
        print("|" + "---|" * (len(COLUMNS) + 2))
        for name, device in devices.items():
            found, needless = row(devices["as it is"], device, options.seeds)
            cells = [f"{np.mean(found[column]):.{2 if 'area' in column else 3}f}" for column in COLUMNS]
            print(f"| {name} | {' | '.join(cells)} | {np.mean(needless):.3f} |", flush=True)


if __name__ == "__main__":
    main()
