"""Many vectors of real cells: white blood cells, varied at random and embedded by EfficientNet-Lite0 (real weights).

Makes what `search.py` needs to try an index of 450,000 cells when nobody has labelled so many. Each picture is turned,
mirrored, scaled, shifted, and changed in brightness, contrast and colour; the cells of one tenth of the images become
queries and are no references. Labels are the images' own. The same seed gives the same pictures. It takes about 25
minutes on two cores; a second run goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import cv2
import numpy as np

from cellvigil.bundle.encoder import open_encoder
from cellvigil.encoder import open_session

SIDE = 224
WINDOW = 260  # px of the 360 x 363 images: 26 um, as in pbc.py
_BLOCK = 2048  # vectors between two notes of how far it is


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the vectors and labels")
    parser.add_argument("--cells", type=int, default=450_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--encoder", type=Path, default=Path("encoders/efficientnet-lite0"))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CELLVIGIL_TEST_DATA", "../shared/data")))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    images, labels = pictures(args.data / "pbc")
    asking = np.random.default_rng(0).permutation(len(images)) % 10 == 0
    encoder = open_session(open_encoder(args.encoder), device="cpu")
    for name, own, count in (("queries", asking, args.queries), ("reference", ~asking, args.cells)):
        rows = np.flatnonzero(own)
        np.save(args.out / f"{name}_labels.npy", labels[rows[np.arange(count) % len(rows)]])
        write(args.out, name, [images[row] for row in rows], count, encoder)


def pictures(root: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """The images, RGB u8, and their class ids (folders in alphabetical order)."""
    images, labels = [], []
    for label, folder in enumerate(sorted(path for path in root.iterdir() if path.is_dir())):
        for path in sorted(folder.glob("*.jpg")):
            images.append(cv2.imread(str(path))[..., ::-1].copy())
            labels.append(label)
    return images, np.array(labels, dtype=np.int16)


def write(folder: Path, name: str, images: list[np.ndarray], count: int, encoder: object) -> None:
    """Embed `count` variants of the images in turn into `name`.npy, going on after what `name`.done says."""
    path, note = folder / f"{name}.npy", folder / f"{name}.done"
    done = int(note.read_text()) if note.exists() and path.exists() else 0
    mode = "r+" if done else "w+"
    out = np.lib.format.open_memmap(path, mode=mode, dtype=np.float32, shape=(count, encoder.dimension))
    for start in range(done, count, _BLOCK):
        rows = range(start, min(start + _BLOCK, count))
        batch = np.stack([variant(images[row % len(images)], np.random.default_rng([7, row])) for row in rows])
        out[rows.start : rows.stop] = encoder.embed(batch)
        out.flush()
        note.write_text(str(rows.stop))
        print(f"{name}: {rows.stop} of {count}", flush=True)


def variant(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One random variant of an image, (224, 224, 3) u8."""
    angle, scale = rng.uniform(0, 360), SIDE / WINDOW * rng.uniform(0.9, 1.1)
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    turn[:, 2] += SIDE / 2 - np.array([width, height]) / 2 + rng.uniform(-6, 6, 2)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    out = cv2.warpAffine(image, turn, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    gain, offset = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3), rng.uniform(-15, 15)
    return np.clip(out * gain + offset, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
