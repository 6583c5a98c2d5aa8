"""The checks of a segmenter's graphs, in a process of their own: against torch, repeated, one prompt or sixteen.

    python -m cellvigil_export.segmenter_check FOLDER

FOLDER holds wanted.npz and a request.json that names the bundle being made; the golden files go into the bundle, the
figures (or the complaint) to stdout. `checked` writes the request and reads the answer.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle import segmenter as format_
from cellvigil.data import F32, Array
from cellvigil.encoder import one_minus_cosine
from cellvigil.errors import BundleError
from cellvigil_export import parity
from cellvigil_export.checking import answered, asked
from cellvigil_export.segmenter_trial import Prompts, Trial, trial

BATCHES = (1, 3, 16)  # prompts at once
COSINE = 1e-6  # largest 1 - cosine, of the features and of each prompt's logits
IOU = 1e-3  # largest difference of a predicted IoU

_REQUEST, _WANTED = "request.json", "wanted.npz"


def checked(bundle: Path, side: int, against: str, wanted: Mapping[str, Array]) -> dict[str, Any]:
    """Check the graphs in `bundle` in a fresh process, which adds the golden files; the figures for the manifest.

    `wanted` holds what torch gives for `trial(side)`: "features", and "masks_<i>" and "iou_<i>" of its i-th prompts.
    Raises BundleError if a graph fails a check, OSError if the disk fails.
    """
    with tempfile.TemporaryDirectory(dir=bundle, prefix=".checks.") as folder:
        work = Path(folder)
        np.savez(work / _WANTED, allow_pickle=False, **wanted)
        request = {"bundle": str(bundle), "side": side, "against": against}
        (work / _REQUEST).write_text(json.dumps(request), encoding="utf-8")
        return asked(__name__, work)


def check(folder: Path) -> dict[str, Any]:
    """Do what the request in `folder` asks for; the figures. Raises BundleError as `checked` does."""
    request = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
    bundle, asked_of = Path(request["bundle"]), trial(request["side"])
    for name in (format_.ENCODER, format_.DECODER):
        parity.check_graph(bundle / name)
    features = _features(bundle, asked_of)
    with np.load(folder / _WANTED, allow_pickle=False) as wanted:
        found = _compared(bundle, asked_of, features, wanted)
    _judge(found, request["against"], bundle)
    _write_golden(bundle, asked_of, features)
    return {"against": request["against"], "prompts": list(BATCHES), "kinds": len(asked_of.prompts), **_rounded(found)}


def _features(bundle: Path, asked_of: Trial) -> F32:
    """The picture's features on one thread; the same bits twice. Raises BundleError if they are not."""
    session = parity.lean(bundle / format_.ENCODER, threads=1)
    given = {format_.IMAGE: asked_of.image, format_.EXTENT: asked_of.extent}
    first, again = (session.run([format_.FEATURES], given)[0] for _ in range(2))
    if first.tobytes() != again.tobytes():
        raise BundleError("the image encoder gives other features for the same picture", where=bundle)
    return np.asarray(first)


def _compared(bundle: Path, asked_of: Trial, features: F32, wanted: Mapping[str, Array]) -> dict[str, float]:
    """The largest differences: of the features, and over all kinds and numbers of prompts."""
    session = parity.lean(bundle / format_.DECODER, threads=1)
    masks, iou, sign, across = [0.0], [0.0], [0.0], [0.0]
    for number, prompts in enumerate(asked_of.prompts):
        right, scores = wanted[f"masks_{number}"], wanted[f"iou_{number}"]
        alone = None
        for count in BATCHES:
            got = run_prompts(session, features, prompts, count)
            masks.append(_cosine(got[0], right[:count]))
            iou.append(float(np.abs(got[1] - scores[:count]).max()))
            sign.append(float(((got[0] > 0) != (right[:count] > 0)).mean()))
            alone = got if alone is None else alone
            across.append(_cosine(got[0][:1], alone[0]))
    return {
        "features_one_minus_cosine": _cosine(features, wanted["features"]),
        "masks_one_minus_cosine": max(masks),
        "masks_pixels_of_another_sign": max(sign),
        "iou_difference": max(iou),
        "one_minus_cosine_between_numbers_of_prompts": max(across),
    }


def run_prompts(session: Any, features: F32, prompts: Prompts, count: int) -> tuple[F32, F32]:
    """Masks and IoU of the first `count` prompts; the same bits twice. Raises BundleError if they are not."""
    given = {
        format_.FEATURES: features,
        format_.POINTS: prompts.points[:count],
        format_.LABELS: prompts.labels[:count],
    }
    first, again = (session.run([format_.MASKS, format_.IOU], given) for _ in range(2))
    if any(one.tobytes() != other.tobytes() for one, other in zip(first, again, strict=True)):
        raise BundleError("the mask decoder gives other masks for the same prompts")
    return first[0], first[1]


def _judge(found: Mapping[str, float], against: str, bundle: Path) -> None:
    for name, value in found.items():
        limit = IOU if name == "iou_difference" else COSINE if name.startswith(("features", "masks_one")) else 1e-3
        if not value <= limit:
            raise BundleError(f"the export does not give what {against} gives ({name} {value:.1e})", where=bundle)


def _write_golden(bundle: Path, asked_of: Trial, features: F32) -> None:
    prompts = asked_of.golden
    session = parity.lean(bundle / format_.DECODER, threads=1)
    masks, iou = run_prompts(session, features, prompts, len(prompts.points))
    golden: tuple[Array, ...] = (asked_of.image, asked_of.extent, prompts.points, prompts.labels, features, masks, iou)
    for part, array in zip(format_.PARTS, golden, strict=True):
        np.save(bundle / format_.golden_name(part), array)


def _cosine(got: Array, wanted: Array) -> float:
    """The largest 1 - cosine of the rows."""
    return float(one_minus_cosine(got.reshape(len(got), -1), wanted.reshape(len(wanted), -1)).max())


def _rounded(found: Mapping[str, float]) -> dict[str, float]:
    """Two digits: more would be this processor's, not the export's."""
    return {name: max(0.0, float(f"{value:.1e}")) for name, value in found.items()}


if __name__ == "__main__":
    sys.exit(answered(check))
