"""White blood cells (`pbc`, eight classes), every cell scored out of fold: EWC as tuned, beside what it must match.

    python benchmarks/nested.py [--seeds 5] [--folds 5] [--turns 1] [--encoders encoders]

Two encoders with real weights (EfficientNet-Lite0, MobileNetV2). For each seed and outer fold, EWC's encoders and
settings are tuned, plain k-NN's k and its encoders and scaling are chosen, and certainty is calibrated, all inside the
training cells and on the same inner folds; the linear probe and NMTune search for nothing. Scores are macro accuracy.
The crop rule is `pbc.py`'s, fixed beforehand. `pbc` has no donor ids, so any split of it flatters every method.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "export", "indexes")]

from cellvigil.bundle.files import MANIFEST  # noqa: E402 - found through the path set above
from cellvigil.bundle.index import ReferenceIndex, open_index  # noqa: E402
from cellvigil.data import I16, I64  # noqa: E402
from cellvigil_export.cli import main as export  # noqa: E402
from cellvigil_indexes.bank import Bank, bank_of  # noqa: E402
from cellvigil_indexes.baselines import named  # noqa: E402
from cellvigil_indexes.baselines.neighbours import CHOICES, shares  # noqa: E402
from cellvigil_indexes.calling import search_over  # noqa: E402
from cellvigil_indexes.cli import main as index_command  # noqa: E402
from cellvigil_indexes.evaluating.answers import Answers, certainty, plain_scores  # noqa: E402
from cellvigil_indexes.evaluating.certifying import Caller, certified  # noqa: E402
from cellvigil_indexes.evaluating.holdout import Deal, dealt, split_in_folds  # noqa: E402
from cellvigil_indexes.measures.reliability import mean_error  # noqa: E402
from cellvigil_indexes.settings import SCALINGS, IndexSettings  # noqa: E402
from cellvigil_indexes.splitting import Split, folds, units_of  # noqa: E402
from cellvigil_indexes.tuning.choose import choose  # noqa: E402
from cellvigil_indexes.tuning.grid import Grid, Subset, power_set  # noqa: E402

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", ROOT.parent / "shared" / "data")) / "pbc"
ENCODERS = ("efficientnet-lite0", "mobilenetv2")
DEPTHS = {"k_min": (3, 5, 10, 20), "k_max": (20, 50, 100), "threshold": (0.1, 0.2, 0.3, 0.4, 0.6)}
BASELINES = "1-NN,5-NN,20-NN,linear-probe,nmtune,majority"
CHOSEN = "k-NN, chosen inside"


def built(folder: Path, encoders: Path, turns: int) -> ReferenceIndex:
    """The index of all cells, by both encoders, seen in so many orientations, none set aside."""
    words = ["build", "pbc", "--images", DATA, "--pixel-size", "0.1", "--crop-um", "26", "--set-aside", "0"]
    words += [word for name in ENCODERS for word in ("--encoder", name)]
    words += ["--encoders", encoders, "--out", folder, "--device", "cpu", "--turns", turns]
    with contextlib.redirect_stdout(io.StringIO()):
        if index_command([str(word) for word in words]):
            raise SystemExit("the index could not be built")
    return open_index(folder / "pbc")


def with_encoders(folder: Path, place: str) -> Path:
    """The folder, if both encoders are in it; else one in `place`, where they are exported."""
    if all((folder / name / MANIFEST).is_file() for name in ENCODERS):
        return folder
    for name in ENCODERS:
        if export(["run", name, "--out", f"{place}/encoders"]):
            raise SystemExit(f"{name} could not be exported")
    return Path(place) / "encoders"


def inner_folds(bank: Bank, count: int, seed: int) -> list[Split]:
    return folds(bank.labels, units_of(bank.groups, "cell"), count, 1000 + seed, bank.classes)


def tuned(
    index: ReferenceIndex, rows: I64, seed: int, *, inner: int, chosen: list[str], scalings: tuple[str, ...]
) -> Caller:
    """What `tune` chooses on these cells, calibrated on them too."""
    bank = bank_of(index).rows(rows)
    found = choose(bank, Grid(**DEPTHS, scaling=scalings), inner_folds(bank, inner, seed))
    s = found.settings
    chosen.append(f"{'+'.join(found.encoders)} {s.k_min}..{s.k_max} {s.threshold:g} {s.reweight} {s.scaling}")
    return certified(index, rows, seed, settings=found.settings, encoders=found.encoders)


def knn_chosen_inside(bank: Bank, split: Split, inner: int, seed: int, scalings: tuple[str, ...]) -> I16:
    """Class ids of the split's held-out cells by plain k-NN: k, encoders and scaling by the same inner folds."""
    training = bank.rows(split.reference)
    scores: Counter[tuple[Subset, str, int]] = Counter()
    for part in inner_folds(training, inner, seed):
        for subset in power_set(tuple(bank.embeddings)):
            for scaling in scalings:
                found = neighbours(training, part, subset, scaling)
                for k in CHOICES:
                    right = voted(found, k, len(bank.classes)) == training.labels[part.validation]
                    scores[subset, scaling, k] += macro(right, training.labels[part.validation])
    subset, scaling, k = max(scores, key=lambda key: (scores[key], -len(key[0]), -key[2]))
    return voted(neighbours(bank, split, subset, scaling), k, len(bank.classes))


def neighbours(bank: Bank, split: Split, subset: Subset, scaling: str) -> I16:
    """Labels of the nearest references of the validation cells, nearest first."""
    reference = bank.rows(split.reference)
    search = search_over(reference, IndexSettings(scaling=scaling), subset)
    queries = {name: bank.embeddings[name][split.validation] for name in subset}
    return np.asarray(reference.labels[search.nearest(queries, max(CHOICES)).ids])


def voted(found: I16, k: int, classes: int) -> I16:
    return shares(found[:, :k], classes).argmax(axis=1).astype(np.int16)


def macro(right: np.ndarray, labels: I16) -> float:
    return float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))


def with_chosen(
    index: ReferenceIndex,
    deals: Sequence[Deal],
    splits: Sequence[Sequence[Split]],
    inner: int,
    scalings: tuple[str, ...],
) -> list[dict[str, I16]]:
    """The deals' plain calls, and beside them the k-NN that was chosen inside."""
    bank, everything = bank_of(index), []
    for seed, (deal, parts) in enumerate(zip(deals, splits, strict=True)):
        by_row = np.empty(len(bank), dtype=np.int16)
        for split in parts:
            by_row[split.validation] = knn_chosen_inside(bank, split, inner, seed, scalings)
        everything.append({CHOSEN: by_row[deal.rows], **deal.plain})
    return everything


def told(name: str, values: Sequence[float]) -> str:
    """Mean, spread and standard error over the seeds."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"  {name:<22}{np.mean(values):.4f} +- {spread:.4f} (standard error {spread / len(values) ** 0.5:.4f})"


def tell_certainty(runs: Sequence[Answers], classes: Sequence[str]) -> None:
    sure = [certainty(run, classes) for run in runs]
    if any(each.reliability is None or each.conformal is None for each in sure):
        print("  some folds could not be calibrated")
        return
    print(f"  calibration error, debiased: {mean_error([each.reliability for each in sure]):.4f} (aim 0.05)")
    for name in ("probability", "papers"):
        print(f"  AUROC for being right, {name}: {np.mean([getattr(each, name).auroc for each in sure]):.3f}")
    covered = [each.conformal.covered for each in sure]
    print(f"  conformal coverage at a promise of 0.9, pooled: {np.mean(covered):.4f} +- {np.std(covered):.4f}")
    print(f"  mean size of a set: {np.mean([each.conformal.mean_size for each in sure]):.2f} of {len(classes)} classes")
    by_class = {name: np.mean([each.conformal.by_class[name].covered for each in sure]) for name in classes}
    print("  by class: " + ", ".join(f"{name} {value:.3f}" for name, value in by_class.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--inner", type=int, default=5)
    parser.add_argument("--scalings", default=",".join(SCALINGS), help="that EWC and k-NN may choose among")
    parser.add_argument("--turns", type=int, default=1, help="orientations a cell is seen in: 1 or 4")
    parser.add_argument("--encoders", type=Path, default=ROOT / "encoders")
    parser.add_argument("--index", type=Path, help="an index that was built before, instead of building one")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no {DATA}; set CELLVIGIL_TEST_DATA")
        return
    with tempfile.TemporaryDirectory() as place:
        if options.index:
            index = open_index(options.index)
        else:
            index = built(Path(place), with_encoders(options.encoders, place), options.turns)
        began, chosen = time.perf_counter(), []
        splits = split_in_folds(index, k=options.folds, by="cell", seeds=options.seeds)
        scalings = tuple(options.scalings.split(","))
        make = partial(tuned, inner=options.inner, chosen=chosen, scalings=scalings)
        deals = dealt(index, splits, named(BASELINES), make)
        plain = with_chosen(index, deals, splits, options.inner, scalings)
        print(f"scalings to choose among: {options.scalings}")
        print(f"{len(index)} cells, {options.folds} outer folds x {options.seeds} seeds; macro accuracy by seed:")
        print(told("EWC, tuned inside", [deal.answers.scores(index.classes).balanced_accuracy for deal in deals]))
        rows = [plain_scores(d.answers.truth, p, index.classes) for d, p in zip(deals, plain, strict=True)]
        for name in rows[0]:
            print(told(name, [row[name].balanced_accuracy for row in rows]))
        tell_certainty([deal.answers for deal in deals], index.classes)
        print("chosen, in how many of the folds:")
        for what, times in Counter(chosen).most_common(6):
            print(f"  {times:>3}  {what}")
        print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
