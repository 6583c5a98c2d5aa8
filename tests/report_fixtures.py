"""An index that has everything a report can show, made without any encoder, with class names nobody should trust."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellvigil.bundle.index import ReferenceCell, ReferenceIndex, open_index
from cellvigil.data import ImageRule
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.tuning.choice import Trial, Tuned
from cellvigil_indexes.tuning.record import write_trials
from cellvigil_indexes.writing import write_index

HOSTILE = ("<script>document.title='owned'</script>", '"><img src=x onerror=alert(1)>', "$\\frac{$ & 細胞")


def collected(
    classes, cells: int, *, encoders, seed: int = 0, spread: float = 3.0, channels: int = 3, groups: int | None = None
) -> Collected:
    """Cells whose vectors overlap a little, so that some calls are wrong; thumbnails are noise, the worst to pack."""
    rng = np.random.default_rng(seed)
    labels = np.arange(cells) % len(classes)
    vectors = {
        name: (
            3 * np.random.default_rng(place).normal(size=(len(classes), 6))[labels] / (1 + place)
            + spread * rng.normal(size=(cells, 6))
        ).astype(np.float32)
        for place, name in enumerate(encoders)
    }
    images = [f"plate/<b>{i}</b>.png" for i in range(cells)]
    references = [
        ReferenceCell(classes[label], image, (0, 0, 9, 9), str(i % (groups or cells)))
        for i, (label, image) in enumerate(zip(labels, images, strict=True))
    ]
    return Collected(references, vectors, rng.integers(0, 255, (cells, 64, 64, channels), dtype=np.uint8))


def write_reportable(
    folder: Path,
    *,
    classes=HOSTILE,
    cells: int = 240,
    encoders=("first", "second", "spare"),
    used=("first", "second"),
    aside: int = 60,
    tuned: bool = True,
    **changes,
) -> ReferenceIndex:
    """Write and open it; `changes` go to `collected` (spread, channels, groups) and the settings (the rest)."""
    own = {name: changes.pop(name) for name in ("spread", "channels", "groups") if name in changes}
    settings = IndexSettings(**{"k_max": 40, **changes})
    trials = _trials(folder, encoders) if tuned else None
    draft = Draft(
        collected=collected(classes, cells, encoders=encoders, **own),
        set_aside=collected(classes, aside, encoders=encoders, seed=9, **own) if aside else None,
        groups={name: ("alive", "dead", "none")[i % 3] for i, name in enumerate(classes)},
        encoders={name: f"{i:064x}" for i, name in enumerate(encoders)},
        used=list(used),
        image_rule=ImageRule(),
        settings=settings,
        provenance={"images": "<i>somewhere</i>", "image_count": cells},
        tuning={"search": "exhaustive", "held_out": {"mean": 0.8, "sd": 0.02, "cells": 50, "how": "folds"}, "notes": []}
        if tuned
        else None,
        trials=trials,
        history=[{"version": 1, "change": "built", "cells": 3}],
        change="tuned",
    )
    write_index(folder, draft)
    return open_index(folder)


def _trials(folder: Path, encoders) -> Path:
    """A table of trials as `tune` writes it."""
    trials = [
        Trial(subset, IndexSettings(k_min=k_min, k_max=k_max, threshold=threshold), (score, score + 0.02))
        for i, subset in enumerate([(name,) for name in encoders] + [tuple(encoders[:2])])
        for k_min in (3, 10)
        for k_max in (50, 100)
        for threshold in (0.1, 0.3)
        for score in [0.7 + 0.05 * i - 0.01 * (k_min == 10) + 0.1 * threshold - k_max / 10_000]
    ]
    trials.sort(key=lambda trial: -trial.mean)
    tuned = Tuned(trials[0], tuple(trials), "exhaustive", 2, False, len(trials), ())
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / "trials.parquet"
    write_trials(tuned, path)
    return path
