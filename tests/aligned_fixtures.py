"""Two microscopes in a test: labelled pictures of one, unlabelled ones of the other, and quick encoders."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import Embeddings
from cellvigil_indexes.aligning.maps.zscore import zscore
from cellvigil_indexes.aligning.sharing.matching import MatchSettings, match
from cellvigil_indexes.aligning.values import ALIGNED, ORIGINAL, Alignment, Clusters, Shared, VoterPlan
from cellvigil_indexes.bank import bank_of
from cellvigil_indexes.cli import main
from index_fixtures import STATES
from lookup_encoder import lookup_bundle

ENCODERS = ("lookup", "other")
GROUPS = {"live": "alive", "dead": "dead", "debris": "artefact"}


def write_encoders(folder: Path) -> Path:
    """Two encoders that see the same squares through tables of their own, made if they are not there."""
    if folder.exists():
        return folder
    for seed, name in enumerate(ENCODERS):
        lookup_bundle(folder, name=name, seed=seed)
    return folder


def write_cells(folder: Path, each: int, *, seed: int = 0) -> Path:
    """One folder a state of single-cell pictures, 48 x 40, of cells that differ in size, brightness and place."""
    for number, state in enumerate(STATES):
        (folder / state).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, number])
        for place in range(each):
            canvas = rng.normal(128, 6, (48, 40)).astype(np.float32)
            y, x = (int(c) for c in rng.integers(-2, 3, 2) + np.array([24, 20]))
            light, radius = float(rng.normal(0, 12)), int(rng.integers(8, 12))
            if state == "live":
                cv2.circle(canvas, (x, y), radius, 200 + light, -1, cv2.LINE_AA)
            elif state == "dead":
                cv2.circle(canvas, (x, y), radius, 45 + light, -1, cv2.LINE_AA)
                cv2.circle(canvas, (x, y), radius, 225 + light, 2, cv2.LINE_AA)
            else:
                for dy, dx in rng.integers(-radius, radius, (12, 2)):
                    cv2.circle(canvas, (x + int(dx), y + int(dy)), 2, 215 + light, -1)
            cv2.imwrite(str(folder / state / f"{place}.png"), canvas.clip(0, 255).astype(np.uint8))
    return folder


def seen_otherwise(folder: Path) -> None:
    """The pictures below `folder` as a paler, softer microscope shows them."""
    for path in sorted(folder.rglob("*.png")):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32)
        cv2.imwrite(str(path), (cv2.GaussianBlur(picture, (0, 0), 0.5) * 0.9 + 20).clip(0, 255).astype(np.uint8))


def write_device(folder: Path, each: int, *, seed: int = 5000, only: tuple[str, ...] = STATES) -> Path:
    """Cells of the other microscope, one folder a state, of these states."""
    write_cells(folder, each, seed=seed)
    for state in set(STATES) - set(only):
        for path in (folder / state).iterdir():
            path.unlink()
        (folder / state).rmdir()
    seen_otherwise(folder)
    return folder


def flattened(folder: Path, target: Path) -> Path:
    """The same pictures in one folder, without a word of what they show."""
    target.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        (target / f"{number}.png").write_bytes(path.read_bytes())
    return target


def build_reference(base: Path, *, each: int = 80, classes: tuple[str, ...] = STATES, name: str = "states") -> Path:
    """`base`/indexes/NAME of labelled pictures, by the encoders in `base`/encoders, which are made; returns `base`."""
    write_encoders(base / "encoders")
    write_cells(base / "own", each)
    groups = ",".join(f"{state}={GROUPS[state]}" for state in classes)
    words = ["build", name, "--images", base / "own", "--states", groups]
    words += [word for state in set(STATES) - set(classes) for word in ("--exclude", f"{state}/*")]
    words += [word for encoder in ENCODERS for word in ("--encoder", encoder)]
    words += ["--encoders", base / "encoders", "--device", "cpu", "--out", base / "indexes"]
    if main([str(word) for word in words]):
        raise RuntimeError(f"the index {name} was not built")
    return base


def hand_made(index: ReferenceIndex, target: Embeddings, *, accepted: bool = True, least: float = 0.6) -> Alignment:
    """An alignment put together by hand, by a shift and stretch of each dimension; its clusters are k-means'."""
    vectors = {name: np.asarray(index.embeddings[name], dtype=np.float32) for name in target}
    moved = {name: zscore(block, index.labels, target[name], None).vectors for name, block in vectors.items()}
    whole = np.concatenate([target[name] for name in target], axis=1)
    labels = _nearest(whole, len(index.classes))
    central = tuple(np.flatnonzero(labels == cluster)[:5].astype(np.int64) for cluster in range(labels.max() + 1))
    clusters = Clusters(labels, central)
    matches = match(target, clusters, bank_of(index), MatchSettings(least_probability=least))
    found = {index.classes[best] for best in matches.best.tolist() if best >= 0}
    shared = Shared(
        kept=index.classes,
        dropped=(),
        clusters=clusters,
        matches=matches,
        votes={name: float(name in found) for name in index.classes},
        unmatched=np.flatnonzero(np.isin(labels, np.flatnonzero(matches.best < 0))).astype(np.int64),
    )
    everything = tuple(target)
    return Alignment(
        rows=np.arange(len(index), dtype=np.int64),
        classes=index.classes,
        voters=(
            VoterPlan("both, aligned", everything, ALIGNED, 0.75, "discriminant", moved),
            VoterPlan("first, original", everything[:1], ORIGINAL, 0.25, "none", vectors),
        ),
        shares=dict.fromkeys(index.classes, 1 / len(index.classes)),
        shared=shared,
        extra={name: block[:7] for name, block in target.items()},
        extra_labels=("unmatched 1",) * 4 + (index.classes[0],) * 3,
        accepted=accepted,
        told={
            "method": "zscore",
            "split_half": 0.93,
            "voters_agreement": 0.88,
            "warnings": ["<b>mind</b> the gap"],
        },
    )


def _nearest(vectors: np.ndarray, parts: int) -> np.ndarray:
    """Cells by the nearest of `parts` cells that lie far from each other, (n,) i32."""
    chosen = [0]
    while len(chosen) < parts:
        away = np.min([np.linalg.norm(vectors - vectors[one], axis=1) for one in chosen], axis=0)
        chosen.append(int(away.argmax()))
    return np.argmin([np.linalg.norm(vectors - vectors[one], axis=1) for one in chosen], axis=0).astype(np.int32)
