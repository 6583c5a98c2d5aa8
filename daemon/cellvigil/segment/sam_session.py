"""Runs a segmenter bundle by onnxruntime: pictures to features, prompts to masks. Reads the bundle, writes nothing.

Prompts are run in batches of a few fixed sizes, as with encoders (`cellvigil.encoder`): memory stays bounded and flat.
The one file of SAM's segmenter that knows onnxruntime.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil import device as devices
from cellvigil.bundle import segmenter as format_
from cellvigil.bundle.segmenter import SegmenterBundle, open_segmenter
from cellvigil.data import F32, I64, U8, Array
from cellvigil.device_options import Tuning
from cellvigil.errors import BundleError, DeviceError, NotFinite, UsageError

LOG = logging.getLogger("cellvigil")

BUCKETS = {"cpu": (1, 4, 8), "cuda": (1, 8, 32, 64), "tensorrt": (1, 8, 32, 64)}
"""Prompts a run by provider. One takes some 40 MB while it is decoded, and on the CPU more at once are not faster:
benchmarks/README.md."""

_TOLERANCE = {"fp32": 1e-6, "fp16": 1e-3, "int8": 1e-2}  # 1 - cosine of the golden features, on the CPU
_GPU_TOLERANCE = 1e-4  # at least
_MASK_SHARE = 0.995  # of the golden masks' pixels that must lie on the same side of the threshold


_AS_IT_IS = Tuning()


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, eq=False)
class SamSession:
    """A loaded segmenter: a `sam_model.SamModel`."""

    bundle: SegmenterBundle
    provider: str  # "cpu", "cuda" or "tensorrt": what was obtained
    device_note: str  # why `auto` did not take the GPU; "" otherwise
    encoder: Any  # onnxruntime.InferenceSession
    decoder: Any  # onnxruntime.InferenceSession
    on_halved: Callable[[], None] = _nothing  # a run failed, and is tried with fewer prompts; from any thread

    @property
    def side(self) -> int:
        """Side of the square picture, pixels."""
        return self.bundle.input_size

    @property
    def together(self) -> int:
        """Most prompts that are decoded in one run."""
        return BUCKETS[self.provider][-1]

    def encode(self, picture: U8, extent: tuple[int, int]) -> F32:
        """Features (1, channels, side / 16, side / 16) f32: see `sam_model.SamModel.encode`.

        Raises UsageError for a picture of another shape, DeviceError if the device fails (NotFinite if it gives
        numbers that are none).
        """
        side = self.side
        if picture.shape != (side, side, 3) or picture.dtype != np.uint8:
            raise UsageError(f"SAM takes a picture ({side}, {side}, 3) uint8, not {picture.shape} {picture.dtype}")
        inputs: dict[str, Array] = {format_.IMAGE: picture[None], format_.EXTENT: np.array(extent, np.int64)}
        (features,) = self._run(self.encoder, [format_.FEATURES], inputs)
        return features

    def decode(self, features: F32, points: F32, labels: I64) -> tuple[F32, F32]:
        """Masks and their predicted overlap, see `sam_model.SamModel.decode`.

        Prompts that are more than `together`, or that fail, are run in halves.
        Raises UsageError for prompts of another shape or kind, DeviceError if the device fails with one prompt.
        """
        if points.shape != (*labels.shape, 2) or not len(points):
            raise UsageError(f"SAM takes one prompt or more, not {points.shape} {labels.shape}")
        if labels.min() < -1 or labels.max() > 3:
            raise UsageError("a prompt's labels are -1 to 3")
        if len(points) <= self.together:
            try:
                return self._decoded(features, points, labels)
            except DeviceError:
                if len(points) == 1:
                    raise
            self.on_halved()
        half = len(points) // 2
        parts = [self.decode(features, points[part], labels[part]) for part in (slice(half), slice(half, None))]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _decoded(self, features: F32, points: F32, labels: I64) -> tuple[F32, F32]:
        count = len(points)
        size = min(bucket for bucket in BUCKETS[self.provider] if bucket >= count)
        padded = np.pad(points, ((0, size - count), (0, 0), (0, 0)))
        kinds = np.pad(labels, ((0, size - count), (0, 0)), constant_values=-1)
        inputs: dict[str, Array] = {
            format_.FEATURES: features,
            format_.POINTS: padded.astype(np.float32),
            format_.LABELS: kinds.astype(np.int64),
        }
        masks, iou = self._run(self.decoder, [format_.MASKS, format_.IOU], inputs)
        return masks[:count], iou[:count]

    def check(self) -> None:
        """Raises BundleError unless the golden picture gives the golden masks, DeviceError if the device fails."""
        _check_golden(self)

    def close(self) -> None:
        """Nothing is held but the sessions, which go with their last user."""

    def _run(self, session: Any, outputs: list[str], inputs: dict[str, Array]) -> list[F32]:
        try:
            made = [np.asarray(one, dtype=np.float32) for one in session.run(outputs, inputs)]
        except devices.runtime_errors() as error:
            raise DeviceError(f"segmenter {self.bundle.name} failed: {error}", where=self.provider) from error
        if not all(np.isfinite(one).all() for one in made):
            what = f"segmenter {self.bundle.name} gave numbers that are not finite"
            raise NotFinite(what, where=self.provider)
        return made


def open_sam(
    bundle: SegmenterBundle,
    *,
    device: str,
    threads: int = 0,
    tuning: Tuning = _AS_IT_IS,
    on_halved: Callable[[], None] = _nothing,
) -> SamSession:
    """Load `bundle` on `device` ("auto", "cpu", "cuda" or "tensorrt") and try its golden pair.

    `threads` on the CPU, 0 = one a core; `tuning` says how it runs beside that. Raises DeviceError if the device cannot
    be had, BundleError if the models do not load, are not what the manifest says, or do not give their golden output.
    """
    encoder = devices.open_model(bundle.encoder_path, device=device, threads=threads, tuning=tuning)
    on = encoder.provider  # never one here and one there
    decoder = devices.open_model(bundle.decoder_path, device=on, threads=threads, tuning=tuning)
    session = SamSession(bundle, encoder.provider, encoder.note, encoder.session, decoder.session, on_halved)
    _check_ends(session)
    session.check()
    if encoder.note:
        LOG.info("segmenter %s: %s", bundle.name, encoder.note)
    return session


def open_same_sam(provenance: Mapping[str, Any], folder: Path, device: str) -> SamSession | None:
    """The segmenter that outlined an index's own cells, by its provenance; None where OpenCV alone did.

    `folder` holds the bundles. Raises BundleError if it is missing, or is another one now; DeviceError.
    """
    told = provenance.get("segmenter")
    if not told:
        return None
    bundle = open_segmenter(folder / told["name"])
    if bundle.sha256 != told["sha256"]:
        what = f"the index's cells were outlined by another segmenter {bundle.name} ({told['sha256'][:12]})"
        raise BundleError(what, where=bundle.folder, hint="bring that one, or build the index again")
    return open_sam(bundle, device=device)


def _check_ends(session: SamSession) -> None:
    """The models must take and give what the contract says."""
    whole, real = "tensor(int64)", "tensor(float)"
    wants = (
        {format_.IMAGE: "tensor(uint8)", format_.EXTENT: whole},
        {format_.FEATURES: real},
        {format_.FEATURES: real, format_.POINTS: real, format_.LABELS: whole},
        {format_.MASKS: real, format_.IOU: real},
    )
    models = (session.encoder, session.decoder)
    has = [{end.name: end.type for end in ends} for one in models for ends in (one.get_inputs(), one.get_outputs())]
    if tuple(has) != wants:
        what = f"the models take and give {has}, where a segmenter has {list(wants)}"
        raise BundleError(what, where=session.bundle.folder, hint="export the segmenter again")


def _check_golden(session: SamSession) -> None:
    """The golden picture must give the golden features, and these the golden masks."""
    golden = session.bundle.golden()
    features = session.encode(golden.image[0], (int(golden.extent[0]), int(golden.extent[1])))
    starts = range(0, len(golden.points), session.together)
    parts = [slice(start, start + session.together) for start in starts]
    answers = [session.decode(golden.features, golden.points[part], golden.labels[part]) for part in parts]
    masks, iou = (np.concatenate(each) for each in zip(*answers, strict=True))
    if features.shape != golden.features.shape or masks.shape != golden.masks.shape or iou.shape != golden.iou.shape:
        raise BundleError("the models give other shapes than their golden output", where=session.bundle.folder)
    tolerance = _tolerance(session)
    away = _one_minus_cosine(features, golden.features)
    same = float(np.mean((masks > 0) == (golden.masks > 0)))
    off = float(np.abs(iou - golden.iou).max())
    # Vectors whose relative difference is r have 1 - cosine of at most r^2 / 2.
    if away > tolerance or same < _MASK_SHARE or off > max(10 * np.sqrt(2 * tolerance), 1e-2):
        what = (
            f"segmenter {session.bundle.name} on {session.provider} does not give its golden output "
            f"(1 - cosine {away:.1e}, masks {same:.4f}, overlap off by {off:.1e})"
        )
        raise BundleError(what, where=session.bundle.folder, hint="export the segmenter again")


def _tolerance(session: SamSession) -> float:
    known = _TOLERANCE.get(session.bundle.precision, _TOLERANCE["int8"])
    return known if session.provider == "cpu" else max(known, _GPU_TOLERANCE)


def _one_minus_cosine(got: Array, wanted: Array) -> float:
    a, b = got.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return 1.0 - float(a @ b) / lengths if lengths else 1.0
