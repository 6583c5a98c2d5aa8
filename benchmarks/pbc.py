"""Stained white blood cells (`pbc`, five classes) held out from their own index: EWC against plain neighbours.

    python benchmarks/pbc.py [--seeds 5] [--share 0.2] [--encoders encoders]

The crop rule is fixed beforehand by reasoning: red cells (7.5 um) are about 75 px across, so a pixel is 0.1 um, and a
window of 26 um holds the largest monocyte. The second table chooses the window for each seed on a split inside its
training part; the cells that score were never looked at. `pbc` has no donor ids, so any split of it flatters.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "export", "indexes")]

from cellvigil.bundle.files import MANIFEST  # noqa: E402 - found through the path set above
from cellvigil.bundle.index import ReferenceIndex, open_index  # noqa: E402
from cellvigil_export.cli import main as export  # noqa: E402
from cellvigil_indexes.baselines import named  # noqa: E402
from cellvigil_indexes.cli import main as index_command  # noqa: E402
from cellvigil_indexes.evaluating.answers import plain_scores  # noqa: E402
from cellvigil_indexes.evaluating.holdout import Deal, dealt, split_once  # noqa: E402
from cellvigil_indexes.evaluating.scoring import mean_and_spread  # noqa: E402
from cellvigil_indexes.splitting import Split  # noqa: E402
from cellvigil_indexes.telling import crop_rule  # noqa: E402

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", ROOT.parent / "shared" / "data")) / "pbc"
ENCODER = "efficientnet-lite0"
CLASSES = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
FIXED = "26 um"
WINDOWS = {"whole": [], **{f"{um} um": ["--pixel-size", "0.1", "--crop-um", str(um)] for um in (26, 22, 18)}}


def built(folder: Path, encoders: Path, window: str) -> ReferenceIndex:
    """The index of all five classes with one window."""
    words = ["build", window.replace(" ", ""), "--images", DATA, "--encoder", ENCODER, *WINDOWS[window]]
    words += ["--encoders", encoders, "--out", folder, "--device", "cpu"]
    words += [word for name in CLASSES for word in ("--only", f"{name}/*")]
    with contextlib.redirect_stdout(io.StringIO()):
        if index_command([str(word) for word in words]):
            raise SystemExit("the index could not be built")
    return open_index(folder / window.replace(" ", ""))


def chosen_inside(indexes: dict[str, ReferenceIndex], training: np.ndarray) -> str:
    """The window with the best balanced accuracy over three splits inside the training cells."""

    def inner(index: ReferenceIndex) -> float:
        inside = [
            Split(training[split.reference], training[split.validation])
            for (split,) in split_once(index.subset(training), share=0.2, by="cell", seeds=3)
        ]
        found = dealt(index, [[split] for split in inside], {})
        return mean(deal.answers.scores(index.classes).balanced_accuracy for deal in found)

    return max(indexes, key=lambda name: inner(indexes[name]))


def table(deals: list[Deal], classes: tuple[str, ...]) -> None:
    """Mean and standard deviation over the seeds."""
    plain = [plain_scores(deal.answers.truth, deal.plain, classes) for deal in deals]
    methods = {"EWC 3..100, 0.3": [deal.answers.scores(classes) for deal in deals]}
    methods |= {name: [scores[name] for scores in plain] for name in plain[0]}
    for name, scores in methods.items():
        found = mean_and_spread(scores)
        cells = (f"{found[key]['mean']:.3f} +- {found[key]['std']:.3f}" for key in ("balanced_accuracy", "weighted_f1"))
        print(f"  {name:<16}" + "  ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--encoders", type=Path, default=ROOT / "encoders")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no {DATA}; set CELLVIGIL_TEST_DATA")
        return
    with tempfile.TemporaryDirectory() as place:
        encoders = options.encoders
        if not (encoders / ENCODER / MANIFEST).is_file():
            encoders = Path(place) / "encoders"
            export(["run", ENCODER, "--out", str(encoders)])
        indexes = {window: built(Path(place) / "indexes", encoders, window) for window in WINDOWS}
        fixed = indexes[FIXED]
        deals = split_once(fixed, share=options.share, by="cell", seeds=options.seeds)
        plain = named("1-NN,5-NN,majority")
        print(
            f"\n{len(fixed)} cells, {options.share:.0%} held out, {options.seeds} seeds; balanced accuracy, weighted F1"
        )
        print(f"crop rule: {crop_rule(fixed.image_rule)}")
        table(dealt(fixed, deals, plain), fixed.classes)
        best = [chosen_inside(indexes, split.reference) for (split,) in deals]
        print(f"window chosen inside the training part, seed by seed: {', '.join(best)}")
        table([dealt(indexes[w], [deal], plain)[0] for w, deal in zip(best, deals, strict=True)], fixed.classes)


if __name__ == "__main__":
    main()
