"""A reference from one microscope serves another: `pbc` and `bccd`, both ways, every choice of `--align` side by side.

    python benchmarks/transfer.py [--crops 18 26] [--turns 1 4] [--encoders encoders] [--work FOLDER]

Lite0 and MobileNetV2, neutrophil, eosinophil, lymphocyte and monocyte (the target has two basophils). A target's labels
score and do nothing else. Prints, for each crop and number of turns: balanced accuracy with a 95 % bootstrap interval
over target cells and the recall of each class; the default fitted on half of the target and scored on the other half;
the layout of table 8 of the transfer paper (filtering x transport x voting) with eight reference classes, what is kept
of them, and equation 24; and where the cells of a class end that the reference lacks. `--work`: keep the embedded sets
there, and take those that are there already. Chance is 0.25.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "export", "indexes")]

from cellvigil.bundle.files import MANIFEST  # noqa: E402 - found through the path set above
from cellvigil.bundle.index import open_index  # noqa: E402
from cellvigil.errors import UsageError  # noqa: E402
from cellvigil_indexes.aligning import voters  # noqa: E402
from cellvigil_indexes.aligning.align import AlignSettings, align  # noqa: E402
from cellvigil_indexes.aligning.choosing import halves  # noqa: E402
from cellvigil_indexes.aligning.maps.catalogue import MAPS  # noqa: E402
from cellvigil_indexes.aligning.sharing.scores import global_accuracy  # noqa: E402
from cellvigil_indexes.aligning.types.fitting import fitted  # noqa: E402
from cellvigil_indexes.aligning.values import Alignment  # noqa: E402
from cellvigil_indexes.bank import Bank, bank_of  # noqa: E402
from cellvigil_indexes.cli import main as index_command  # noqa: E402

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", ROOT.parent / "shared" / "data"))
ENCODERS = ("efficientnet-lite0", "mobilenetv2")
FOUR = ("neutrophil", "eosinophil", "lymphocyte", "monocyte")
SCALE = {"pbc": 0.1, "bccd": 0.075}  # um a pixel: red cells (7.5 um) are about 75 and 100 px across
RESAMPLES = 2000
EXPERT = 2 / 3  # of the voters' weight: less agreement flags a cell


@dataclass(frozen=True)
class Said:
    """What a choice calls the target's cells: class names, and how far its voters agree."""

    names: np.ndarray
    agreement: np.ndarray


def embedded(work: Path, encoders: Path, name: str, crop: int, turns: int) -> Bank:
    """All cells of a set, embedded at one crop in so many orientations, as labelled vectors."""
    folder = work / f"{name}{crop}x{turns}"
    if not (folder / MANIFEST).is_file():
        source = ["--images", DATA / "pbc"] if name == "pbc" else _bccd()
        words = ["build", folder.name, *source, "--pixel-size", SCALE[name], "--crop-um", crop, "--turns", turns]
        words += [word for encoder in ENCODERS for word in ("--encoder", encoder)]
        words += ["--encoders", encoders, "--out", work, "--device", "cpu", "--set-aside", 0]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if index_command([str(word) for word in words]):
                raise SystemExit(f"{name} could not be embedded")
    bank = bank_of(open_index(folder))
    blocks = {encoder: np.asarray(bank.embeddings[encoder], dtype=np.float32) for encoder in ENCODERS}
    return replace(bank, embeddings=blocks)


def _bccd() -> list[Path | str]:
    return ["--coco", DATA / "bccd" / "annotations.coco.json", "--image-root", DATA / "bccd" / "images"]


def only(bank: Bank, classes: tuple[str, ...]) -> Bank:
    """The cells of these classes, whose ids follow this order."""
    names = np.array(bank.classes)[bank.labels]
    part = bank.rows(np.flatnonzero(np.isin(names, classes)))
    ids = np.array([classes.index(name) if name in classes else -1 for name in bank.classes])
    return replace(part, classes=classes, labels=ids[part.labels].astype(np.int16))


def by_map(bank: Bank, target: Mapping[str, np.ndarray], method: str, voting: str = "one") -> Said:
    """Calls by one map, the references' classes and masses as they are."""
    settings = AlignSettings(method=method, filter=False, voting=voting)
    fit = fitted(bank.embeddings, bank.labels, target, len(bank.classes), settings)
    told = voters.asked(voters.rows_of(fit.voters, fit.kept), bank.labels[fit.kept], len(bank.classes), target)
    return Said(np.array(bank.classes)[told.best], told.agreement)


def by_alignment(bank: Bank, alignment: Alignment, cells: Mapping[str, np.ndarray]) -> Said:
    """What an alignment of the bank calls cells."""
    classes = (*alignment.classes, *sorted(set(alignment.extra_labels)))
    own = [alignment.classes.index(bank.classes[label]) for label in bank.labels[alignment.rows]]
    labels = np.array([*own, *(classes.index(name) for name in alignment.extra_labels)], dtype=np.int16)
    plans = []
    for plan in alignment.voters:
        whole = {name: np.concatenate([block, alignment.extra[name]]) for name, block in plan.vectors.items()}
        plans.append(replace(plan, vectors=whole))
    told = voters.asked(plans, labels, len(classes), cells)
    return Said(np.array(classes)[told.best], told.agreement)


def by_default(bank: Bank, target: Mapping[str, np.ndarray]) -> tuple[Said, str]:
    """The shipped default, and what it says of itself."""
    alignment = align(bank, target, AlignSettings(filter=False))
    told = alignment.told
    shares = ", ".join(f"{share:.2f}" for share in alignment.shares.values())
    verdict = f"accepted {alignment.accepted}, halves {told['split_half']:.3f}, voters {told['voters_agreement']:.3f}"
    return by_alignment(bank, alignment, target), f"{verdict}, shares {shares}"


def probe(bank: Bank, target: Mapping[str, np.ndarray]) -> Said:
    """A linear probe, each side standardised by itself."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - in the extra `index`

    sides = [np.concatenate([_standard(side[name]) for name in ENCODERS], axis=1) for side in (bank.embeddings, target)]
    model = LogisticRegression(C=0.001, class_weight="balanced", max_iter=500).fit(sides[0], bank.labels)
    return _sure(bank, model.predict(sides[1]))


def five_nearest(bank: Bank, target: Mapping[str, np.ndarray]) -> Said:
    """The majority of the five nearest, as the vectors come, each encoder with a spread of 1."""
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415 - in the extra `index`

    spread = {name: float(bank.embeddings[name].std()) for name in ENCODERS}
    both = (bank.embeddings, target)
    sides = [np.concatenate([side[name] / spread[name] for name in ENCODERS], axis=1) for side in both]
    return _sure(bank, KNeighborsClassifier(5).fit(sides[0], bank.labels).predict(sides[1]))


def _standard(block: np.ndarray) -> np.ndarray:
    return np.asarray((block - block.mean(axis=0)) / (block.std(axis=0) + 1e-6))


def _sure(bank: Bank, labels: np.ndarray) -> Said:
    return Said(np.array(bank.classes)[labels], np.ones(len(labels)))


def recalls(said: np.ndarray, truth: np.ndarray, classes: tuple[str, ...] = FOUR) -> np.ndarray:
    """The share of each class's cells that are called it; NaN where there are none."""
    there = [truth == name for name in classes]
    pairs = zip(there, classes, strict=True)
    return np.array([np.mean(said[one] == name) if one.any() else np.nan for one, name in pairs])


def balanced(said: np.ndarray, truth: np.ndarray) -> float:
    """The mean recall of the classes that have cells."""
    return float(np.nanmean(recalls(said, truth)))


def interval(said: np.ndarray, truth: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % of balanced accuracy under resampling of target cells."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(truth), size=len(truth)) for _ in range(RESAMPLES)]
    low, high = np.percentile([balanced(said[rows], truth[rows]) for rows in drawn], [2.5, 97.5])
    return float(low), float(high)


def row(name: str, said: Said, truth: np.ndarray) -> str:
    """One line of a table."""
    low, high = interval(said.names, truth)
    each = " / ".join(f"{value:.2f}" for value in recalls(said.names, truth))
    return f"| {name} | {balanced(said.names, truth):.3f} | {low:.3f} to {high:.3f} | {each} |"


def choices(bank: Bank, target: Bank) -> None:
    """Every choice on one direction."""
    truth = np.array(target.classes)[target.labels]
    simple: dict[str, Callable[[], Said]] = {
        "5 nearest": lambda: five_nearest(bank, target.embeddings),
        "linear probe, z-scored": lambda: probe(bank, target.embeddings),
    }
    print("| choice | balanced accuracy | 95 % | recall: " + ", ".join(FOUR) + " |\n|---|---|---|---|")
    for name, asked in simple.items():
        print(row(name, asked(), truth), flush=True)
    for method in MAPS:
        label = "EWC, no map" if method == "none" else method
        print(row(label, by_map(bank, target.embeddings, method), truth), flush=True)
    said, told = by_default(bank, target.embeddings)
    print(row("default", said, truth), flush=True)
    for name in ENCODERS:
        alone, seen = replace(bank, embeddings={name: bank.embeddings[name]}), {name: target.embeddings[name]}
        print(row(f"default, {name} alone", by_default(alone, seen)[0], truth), flush=True)
    print(f"\ndefault: {told}")
    names = np.empty(len(target), dtype=object)
    parts = halves(len(target), 1)
    for seen, unseen in (parts, parts[::-1]):
        fit = align(bank, target.rows(seen).embeddings, AlignSettings(filter=False))
        names[unseen] = by_alignment(bank, fit, target.rows(unseen).embeddings).names
    print(f"default, fitted on half of the cells, the other half scored, both ways: {balanced(names, truth):.3f}\n")


def table8(bank: Bank, target: Bank) -> None:
    """Filtering x transport x voting, with all classes of the reference and the target's four."""
    truth = np.array(target.classes)[target.labels]
    print("| filtering | transport | voting | balanced accuracy |\n|---|---|---|---|")
    filtered = align(bank, target.embeddings)
    kept = filtered.shared.kept if filtered.shared is not None else bank.classes
    for filtering in (False, True):
        part = only(bank, tuple(kept)) if filtering else bank
        for transport in (False, True):
            for voting in ("one", "mapped", "both"):
                if transport:
                    fit = align(part, target.embeddings, AlignSettings(filter=False, voting=voting))
                    said = by_alignment(part, fit, target.embeddings)
                else:
                    said = by_map(part, target.embeddings, "none", voting)
                cells = " | ".join(("yes" if filtering else "no", "yes" if transport else "no", voting))
                print(f"| {cells} | {balanced(said.names, truth):.3f} |", flush=True)
    score = global_accuracy(kept, FOUR, bank.classes)
    print(f"\nof {len(bank.classes)} classes kept: {', '.join(kept)}; equation 24: {score:.3f}\n")


def withheld(bank: Bank, target: Bank) -> None:
    """Each class in turn is not in the reference: what its cells are called, and how many an expert would see.

    With `unmatched`, which is not the default: a class of their own is what is asked for here, and what it costs.
    """
    truth = np.array(target.classes)[target.labels]
    print("| withheld | its cells are called | of them flagged | known made a new class | others right | accepted |")
    print("|---|---|---|---|---|---|")
    for name in ("none", *FOUR):
        part = only(bank, tuple(other for other in FOUR if other != name))
        try:
            fit = align(part, target.embeddings, AlignSettings(unmatched=True))
        except UsageError as error:
            print(f"| {name} | {error} | | | | |")
            continue
        said = by_alignment(part, fit, target.embeddings)
        mine = truth == name
        ends = ", ".join(f"{what} {count}" for what, count in Counter(said.names[mine].tolist()).most_common())
        flagged = f"{np.mean(said.agreement[mine] < EXPERT):.0%}" if mine.any() else "-"
        lost, right = ~np.isin(said.names[~mine], FOUR), np.nanmean(recalls(said.names, truth, part.classes))
        print(f"| {name} | {ends} | {flagged} | {lost.mean():.1%} | {right:.3f} | {fit.accepted} |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, nargs="+", default=[18, 26], help="side of a cell's crop, um")
    parser.add_argument("--turns", type=int, nargs="+", default=[1, 4], help="orientations a cell is seen in")
    parser.add_argument("--encoders", type=Path, default=ROOT / "encoders")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    if not ((DATA / "pbc").is_dir() and (DATA / "bccd").is_dir()):
        print(f"skipped: no {DATA / 'pbc'} and bccd; set CELLVIGIL_TEST_DATA")
        return
    with tempfile.TemporaryDirectory() as place:
        work = options.work or Path(place)
        for crop, turns in product(options.crops, options.turns):
            sets = {name: embedded(work, options.encoders, name, crop, turns) for name in SCALE}
            four = {name: only(bank, FOUR) for name, bank in sets.items()}
            how = f"crop {crop} um, turns {turns}"
            for source, target in (("pbc", "bccd"), ("bccd", "pbc")):
                print(f"## {source} -> {target}, {how}, {len(four[source])} -> {len(four[target])} cells\n")
                choices(four[source], four[target])
            print(f"## pbc (eight classes) -> bccd (four), {how}\n")
            table8(sets["pbc"], four["bccd"])
            print(f"## pbc -> bccd with one class withheld, {how}\n")
            withheld(four["pbc"], four["bccd"])


if __name__ == "__main__":
    main()
