"""What lies between EWC and a linear probe on stained white blood cells (`pbc`), and what closes it.

    python benchmarks/probe_gap.py [--seeds 3] [--folds 5] [--encoders encoders] [--each] [--nca]

Everything is fitted on the reference cells of a fold and nothing on the cells that are called: each row is another
space to seek neighbours in, each encoder's by itself, and EWC (k 3 to 100, threshold 0.3, votes weighted) calls in all
of them. "+-" is the standard error over the folds of one seed, averaged over seeds: folds of another seed are the same
cells. "novel" is the AUROC of the mean distance to three neighbours, cells of a class withheld from the reference
against the others, averaged over classes (first fold of each seed). "live/own" is the distance of called cells to their
three nearest references over that of references to theirs: 1 where the space owes nothing to the references.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "export", "indexes")]

from sklearn.covariance import ledoit_wolf  # noqa: E402 - found through the path set above
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402
from sklearn.neighbors import NeighborhoodComponentsAnalysis  # noqa: E402

from cellvigil.bundle.files import MANIFEST  # noqa: E402
from cellvigil.bundle.index import open_index  # noqa: E402
from cellvigil.neighbours import ExactSearch  # noqa: E402
from cellvigil_export.cli import main as export  # noqa: E402
from cellvigil_indexes import discriminant  # noqa: E402
from cellvigil_indexes.bank import Bank, bank_of  # noqa: E402
from cellvigil_indexes.baselines import BASELINES  # noqa: E402
from cellvigil_indexes.calling import ewc  # noqa: E402
from cellvigil_indexes.cli import main as index_command  # noqa: E402
from cellvigil_indexes.settings import IndexSettings  # noqa: E402
from cellvigil_indexes.splitting import folds, units_of  # noqa: E402

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", ROOT.parent / "shared" / "data")) / "pbc"
ENCODERS = ("efficientnet-lite0", "mobilenetv2")
FOUR = ("eosinophil", "lymphocyte", "monocyte", "neutrophil")
SHRINKAGES = (0.1, 0.3, 0.5, 0.7, 0.9)
WITHHELD = ("as they come", "whitened within classes", "logits of a probe", "discriminants, 0.5")

Map = Callable[[np.ndarray], np.ndarray]
Space = Callable[[np.ndarray, np.ndarray], Map]  # (vectors, labels) of the reference -> what maps any cells


def as_they_come(_vectors: np.ndarray, _labels: np.ndarray) -> Map:
    return lambda cells: cells


def z_scores(vectors: np.ndarray, _labels: np.ndarray) -> Map:
    mean, std = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    return lambda cells: (cells - mean) / std


def whitened(residuals: np.ndarray) -> Map:
    """The inverse root of Ledoit and Wolf's covariance, in all dimensions."""
    covariance, _ = ledoit_wolf(residuals, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    matrix = ((vectors / np.sqrt(values)) @ vectors.T).astype(np.float32)
    return lambda cells: cells @ matrix


def residuals(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each cell less the mean of its class."""
    means = {c: vectors[labels == c].mean(axis=0) for c in np.unique(labels)}
    return vectors - np.stack([means[c] for c in labels])


def discriminants(shrinkage: float) -> Space:
    return lambda vectors, labels: discriminant.fit(vectors, labels, shrinkage=shrinkage).of


def ledoit_wolf_discriminants(vectors: np.ndarray, labels: np.ndarray) -> Map:
    _, shrinkage = ledoit_wolf(residuals(vectors, labels), assume_centered=True)
    return discriminants(float(shrinkage))(vectors, labels)


def inner_discriminants(vectors: np.ndarray, labels: np.ndarray) -> Map:
    """The shrinkage of which three inner folds call best."""
    bank = bank_from({"one": vectors}, labels)
    scores = [
        np.mean([accuracy(bank, inner.reference, inner.validation, discriminants(a))
                 for inner in folds(bank.labels, units_of(bank.groups, "cell"), 3, 0)])
        for a in SHRINKAGES
    ]  # fmt: skip
    return discriminants(SHRINKAGES[int(np.argmax(scores))])(vectors, labels)


def probe_logits(vectors: np.ndarray, labels: np.ndarray) -> Map:
    scaled = z_scores(vectors, labels)
    probe = LogisticRegression(C=0.01, max_iter=300).fit(scaled(vectors), labels)
    return lambda cells: (scaled(cells) @ probe.coef_.T).astype(np.float32)


def nca(vectors: np.ndarray, labels: np.ndarray) -> Map:
    """Neighbourhood components after 64 principal ones: all 1,280 would take hours."""
    first = PCA(64, random_state=0).fit(vectors)
    model = NeighborhoodComponentsAnalysis(16, init="pca", max_iter=30, random_state=0)
    model.fit(first.transform(vectors), labels)
    return lambda cells: model.transform(first.transform(cells)).astype(np.float32)


SPACES: dict[str, Space] = {
    "as they come": as_they_come,
    "z-scores": z_scores,
    "whitened": lambda vectors, _labels: whitened(vectors - vectors.mean(axis=0)),
    "whitened within classes": lambda vectors, labels: whitened(residuals(vectors, labels)),
    "logits of a probe": probe_logits,
    "discriminants, Ledoit-Wolf": ledoit_wolf_discriminants,
    "discriminants, chosen inside": inner_discriminants,
    **{f"discriminants, {a:g}": discriminants(a) for a in SHRINKAGES},
}


def bank_from(embeddings: dict[str, np.ndarray], labels: np.ndarray) -> Bank:
    names = tuple(str(number) for number in range(int(labels.max()) + 1))
    return Bank(names, embeddings, labels.astype(np.int16), np.arange(len(labels), dtype=np.int32))


def in_space(bank: Bank, rows: np.ndarray, asked: np.ndarray, space: Space) -> tuple[Bank, dict[str, np.ndarray]]:
    """The reference cells `rows` and the cells `asked`, each encoder mapped by what the reference says."""
    reference, queries = bank.rows(rows), {}
    mapped = {}
    for name, block in reference.embeddings.items():
        move = space(block, reference.labels)
        mapped[name] = np.ascontiguousarray(move(block), dtype=np.float32)
        queries[name] = np.ascontiguousarray(move(bank.embeddings[name][asked]), dtype=np.float32)
    return replace(reference, embeddings=mapped), queries


def balanced(truth: np.ndarray, best: np.ndarray) -> float:
    return float(np.mean([(best[truth == c] == c).mean() for c in np.unique(truth)]))


def accuracy(bank: Bank, rows: np.ndarray, asked: np.ndarray, space: Space) -> float:
    return balanced(bank.labels[asked], ewc(*in_space(bank, rows, asked, space), IndexSettings()).best)


def live_to_own(reference: Bank, queries: dict[str, np.ndarray]) -> float:
    names = tuple(reference.embeddings)
    search = ExactSearch.of(names, list(reference.embeddings.values()), [1.0] * len(names))
    own = search.leaving_out(reference.groups, 3).distances.mean()
    return float(search.nearest(queries, 3).distances.mean() / own)


def novel(bank: Bank, rows: np.ndarray, asked: np.ndarray, space: Space) -> float:
    """AUROC of distance for the cells of a class that the reference lacks; mean over classes."""
    found = []
    for withheld in np.unique(bank.labels):
        known = rows[bank.labels[rows] != withheld]
        called = ewc(*in_space(bank, known, asked, space), IndexSettings())
        found.append(roc_auc_score(bank.labels[asked] == withheld, called.novelty))
    return float(np.mean(found))


def probes(reference: Bank, queries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is no space to search in, on the vectors as they come, and a probe on z-scores."""
    vectors, asked = (np.hstack(list(blocks.values())) for blocks in (reference.embeddings, queries))
    classes = len(reference.classes)
    scaled = z_scores(vectors, reference.labels)
    probe = LogisticRegression(C=0.01, max_iter=300).fit(scaled(vectors), reference.labels)
    names = {"5-NN": "5-NN", "linear probe": "linear probe, DinoBloom's"}
    plain = {told: BASELINES[name](vectors, reference.labels, asked, classes, 0) for name, told in names.items()}
    return {"linear probe, z-scores": probe.predict(scaled(asked))} | {k: v.argmax(axis=1) for k, v in plain.items()}


def measured(bank: Bank, count: int, seeds: int, spaces: dict[str, Space], withhold: bool) -> dict:
    """(what, column) -> one list of scores a seed."""
    scores = defaultdict(list)
    for seed in range(seeds):
        this = defaultdict(list)
        for number, fold in enumerate(folds(bank.labels, units_of(bank.groups, "cell"), count, seed)):
            truth = bank.labels[fold.validation]
            for name, space in spaces.items():
                reference, queries = in_space(bank, fold.reference, fold.validation, space)
                this[name, "accuracy"].append(balanced(truth, ewc(reference, queries, IndexSettings()).best))
                this[name, "live/own"].append(live_to_own(reference, queries))
                if withhold and number == 0 and name in WITHHELD:
                    this[name, "novel"].append(novel(bank, fold.reference, fold.validation, space))
            for name, best in probes(*in_space(bank, fold.reference, fold.validation, as_they_come)).items():
                this[name, "accuracy"].append(balanced(truth, best))
        for key, values in this.items():
            scores[key].append(values)
    return scores


def table(scores: dict) -> None:
    plain = np.array(scores["as they come", "accuracy"])
    print(f"  {'':<30}{'balanced accuracy':<18}{'over EWC as is':<18}{'novel':<8}live/own")
    for name in dict.fromkeys(name for name, _ in scores):
        each = np.array(scores[name, "accuracy"])
        more = each - plain
        parts = [
            f"{np.mean(v):+.3f} +- {np.std(v, axis=1, ddof=1).mean() / v.shape[1] ** 0.5:.3f}" for v in (each, more)
        ]
        rest = [f"{np.mean(scores[name, c]):.2f}" if scores.get((name, c)) else "" for c in ("novel", "live/own")]
        print(f"  {name:<30}{parts[0].lstrip('+'):<18}{parts[1]:<18}{rest[0]:<8}{rest[1]}", flush=True)


def whole_bank(folder: Path, encoders: Path) -> Bank:
    """Every cell of `pbc`, its window of 26 um (see `pbc.py`), by both encoders."""
    for name in ENCODERS:
        if not (encoders / name / MANIFEST).is_file() and export(["run", name, "--out", str(encoders)]):
            raise SystemExit(f"{name} could not be exported")
    words = ["build", "all", "--images", DATA, "--pixel-size", "0.1", "--crop-um", "26", "--device", "cpu"]
    words += [word for name in ENCODERS for word in ("--encoder", name)] + ["--encoders", encoders, "--out", folder]
    with contextlib.redirect_stdout(io.StringIO()):
        if index_command([str(word) for word in words]):
            raise SystemExit("the index could not be built")
    return bank_of(open_index(folder / "all"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--encoders", type=Path, default=ROOT / "encoders")
    parser.add_argument("--each", action="store_true", help="each encoder alone too")
    parser.add_argument("--nca", action="store_true", help="neighbourhood components analysis too (slow)")
    parser.add_argument("--only", default="", metavar="WORD", help="only spaces with this in their name")
    parser.add_argument("--index", type=Path, help="an index of all cells by both encoders; default: built now")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no {DATA}; set CELLVIGIL_TEST_DATA")
        return
    spaces = SPACES | ({"neighbourhood components": nca} if options.nca else {})
    spaces = {name: space for name, space in spaces.items() if name == "as they come" or options.only in name}
    with tempfile.TemporaryDirectory() as place:
        bank = bank_of(open_index(options.index)) if options.index else whole_bank(Path(place), options.encoders)
        for classes in (FOUR, bank.classes):
            rows = np.flatnonzero(np.isin(bank.labels, [bank.classes.index(name) for name in classes]))
            _, labels = np.unique(bank.labels[rows], return_inverse=True)
            for used in (ENCODERS, *((name,) for name in ENCODERS if options.each)):
                began = time.monotonic()
                some = bank_from({name: np.asarray(bank.embeddings[name][rows]) for name in used}, labels)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    scores = measured(some, options.folds, options.seeds, spaces, withhold=used == ENCODERS)
                print(
                    f"\n{len(classes)} classes, {len(rows)} cells, {' + '.join(used)}",
                    f"({time.monotonic() - began:.0f} s)",
                )
                table(scores)


if __name__ == "__main__":
    main()
