"""Labelled pictures that a person could tell apart, and an index written without any encoder."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from cellvigil.bundle.index import ReferenceCell
from cellvigil.data import ImageRule
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.writing import write_index

STATES = ("live", "dead", "debris")
FRAME = (120, 200)  # pixels
PIXEL_UM = 0.5


def draw(canvas, state, y, x):
    """A bright smooth cell, a dark one with a rim, or a few specks, about 20 px across."""
    if state == "live":
        cv2.circle(canvas, (x, y), 9, 200, -1, cv2.LINE_AA)
    elif state == "dead":
        cv2.circle(canvas, (x, y), 9, 40, -1, cv2.LINE_AA)
        cv2.circle(canvas, (x, y), 9, 255, 2, cv2.LINE_AA)
    else:
        for dy, dx in ((-4, -4), (4, -2), (0, 5)):
            cv2.circle(canvas, (x + dx, y + dy), 2, 230, -1)


def ground(shape, seed):
    return np.random.default_rng(seed).normal(128, 6, shape).clip(0, 255).astype(np.uint8)


def write_frames(folder: Path, frames: int, *, outlines: bool = True, seed: int = 0) -> Path:
    """Frames of six cells each, two of each state, as PNG, with a COCO file beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    images, notes = [], []
    for number in range(frames):
        canvas = ground(FRAME, seed + number)
        for place, state in enumerate(STATES * 2):
            y, x = 30 + 60 * (place // 3), 35 + 60 * (place % 3) + number % 5
            draw(canvas, state, y, x)
            note = {"id": len(notes), "image_id": number, "category_id": STATES.index(state) + 1}
            note["bbox"] = [x - 10, y - 10, 21, 21]
            if outlines:
                note["segmentation"] = [[x - 10, y - 10, x + 11, y - 10, x + 11, y + 11, x - 10, y + 11]]
            notes.append(note)
        cv2.imwrite(str(folder / f"frame{number}.png"), canvas)
        images.append({"id": number, "file_name": f"frame{number}.png", "height": FRAME[0], "width": FRAME[1]})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate((*STATES, "mitotic"))]
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": categories}))
    return path


def write_singles(folder: Path, each: int, *, seed: int = 0) -> Path:
    """One folder a state of single-cell pictures, 48 x 40."""
    for state in STATES:
        (folder / state).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            canvas = ground((48, 40), seed + number)
            draw(canvas, state, 24 + number % 3, 20)
            cv2.imwrite(str(folder / state / f"{number}.png"), canvas)
    return folder


def write_plain_index(folder: Path, *, cells: int = 20, groups: int = 10, encoders=("one",), **settings) -> Path:
    """An index of two classes whose vectors lie apart; no encoder was asked."""
    rng = np.random.default_rng(0)
    names = ["live", "dead"]
    references = [ReferenceCell(names[i % 2], f"{i}.png", (0, 0, 9, 9), str(i % groups)) for i in range(cells)]
    vectors = {
        name: (rng.normal(size=(cells, 4)) + 10 * np.arange(cells)[:, None] % 20).astype(np.float32) * 3**n
        for n, name in enumerate(encoders)
    }
    draft = Draft(
        collected=Collected(references, vectors, rng.integers(0, 255, (cells, 64, 64, 1), dtype=np.uint8)),
        set_aside=None,
        groups={"live": "alive", "dead": "dead"},
        encoders={name: f"{n:064x}" for n, name in enumerate(encoders)},
        used=list(encoders),
        image_rule=ImageRule(pixel_size_um=PIXEL_UM, crop_um=20.0),
        settings=IndexSettings(**settings),
        provenance={},
    )
    write_index(folder, draft)
    return folder
