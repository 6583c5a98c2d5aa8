"""Runs an encoder bundle: pictures of cells in, vectors out, in batches of a few fixed sizes.

Fixed sizes, because onnxruntime plans memory (and on a GPU compiles) for each shape it meets: with a handful of them
resident memory stays flat. What a cell gets does not depend on its batch mates. Reads the bundle, writes nothing.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from cellvigil import device as devices
from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME, EncoderBundle
from cellvigil.data import F32, U8, Array
from cellvigil.errors import BundleError, DeviceError, UsageError

LOG = logging.getLogger("cellvigil")

BUCKETS = {"cpu": (1, 2), "cuda": (1, 8, 32, 64), "tensorrt": (1, 8, 32, 64)}
"""Batch sizes by provider. On the CPU an image costs the least alone or in pairs, each core with its own: no core waits
for another, and the activations stay in its cache (benchmarks/README.md has the figures)."""

RUN_COST = {"cpu": 0.0, "cuda": 8.0, "tensorrt": 8.0}
"""What starting a run costs, in images: on the CPU nothing, so that nothing is padded; on a GPU a batch of one takes
about as long as one of eight."""


def batch_plan(count: int, buckets: Sequence[int], run_cost: float) -> tuple[int, ...]:
    """Batch sizes that together hold `count` images, largest first, at the least images-and-starts.

    Each batch costs its size (padding included) plus `run_cost`; `buckets` ascend and begin with 1.
    """
    full, rest = divmod(count, buckets[-1])
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]  # for 0, 1, ... images: the cost, and the batches
    for left in range(1, rest + 1):
        options = []
        for size in reversed(buckets):  # of equal costs the one with the larger batch stands
            cost, sizes = best[max(left - size, 0)]
            options.append((size + run_cost + cost, (size, *sizes)))
        best.append(min(options, key=lambda option: option[0]))
    return (buckets[-1],) * full + tuple(sorted(best[rest][1], reverse=True))


class NotFinite(DeviceError):
    """The device gave numbers that are none."""


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A loaded encoder. `embed` may be called from any thread."""

    bundle: EncoderBundle
    provider: str  # "cpu", "cuda" or "tensorrt": what was obtained, not what was asked for
    device_note: str  # why `auto` did not take the GPU; "" otherwise
    buckets: tuple[int, ...]  # batch sizes that are run, ascending, the first is 1
    session: Any  # onnxruntime.InferenceSession
    lanes: ThreadPoolExecutor | None  # on the CPU one thread a core, each running batches alone; None = one at a time
    on_halved: Callable[[], None] = _nothing  # a run failed, and is tried in smaller batches; from any thread

    @property
    def name(self) -> str:
        """The encoder's name, which keys its embeddings."""
        return self.bundle.name

    @property
    def dimension(self) -> int:
        """Length of the vector."""
        return self.bundle.dimension

    @property
    def input_size(self) -> int:
        """Side of the square input, pixels."""
        return self.bundle.input_size

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.bundle.channels

    def embed(self, pixels: U8) -> F32:
        """The vectors (n, dimension) f32 of pictures (n, side, side, C) u8, in their order; n may be 0.

        C is the encoder's channels, or 1: grey is repeated over them. A batch that fails is cut in two and tried again,
        down to single pictures: memory may be short. Raises UsageError for pictures of another shape, DeviceError if
        the device fails with one picture (NotFinite if it gives numbers that are none).
        """
        self._check(pixels)
        plan = batch_plan(len(pixels), self.buckets, RUN_COST[self.provider])
        starts = tuple(accumulate(plan, initial=0))[:-1]
        blocks = [pixels[start : start + size] for start, size in zip(starts, plan, strict=True)]
        run = map if self.lanes is None else self.lanes.map
        parts = list(run(self._vectors, blocks, plan))
        vectors = np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)
        if not np.isfinite(vectors).all():
            raise NotFinite(f"encoder {self.name} gave vectors that are not finite", where=self.provider)
        return vectors

    def close(self) -> None:
        """End the lanes' threads, without waiting for one that hangs in a run. The session goes with its last user."""
        if self.lanes is not None:
            self.lanes.shutdown(wait=False, cancel_futures=True)

    def _check(self, pixels: U8) -> None:
        side = self.input_size
        fits = pixels.ndim == 4 and pixels.shape[1:3] == (side, side) and pixels.shape[3] in {1, self.channels}
        if pixels.dtype != np.uint8 or not fits:
            wants = f"(n, {side}, {side}, {self.channels} or 1) uint8"
            raise UsageError(f"encoder {self.name} takes pictures {wants}, not {pixels.shape} {pixels.dtype}")

    def _vectors(self, block: U8, size: int) -> F32:
        """The vectors of one block, run as a batch of `size`; in halves where that fails."""
        try:
            return np.asarray(self._run(block, size)[: len(block)], dtype=np.float32)
        except DeviceError:
            if size == 1:
                raise
        self.on_halved()
        smaller = max(bucket for bucket in self.buckets if bucket <= size // 2)
        parts = [self._vectors(block[i : i + smaller], smaller) for i in range(0, len(block), smaller)]
        return np.concatenate(parts)

    def _run(self, block: U8, size: int) -> Array:
        try:
            batch = _filled(block, size, self.channels)
            (vectors,) = self.session.run([OUTPUT_NAME], {INPUT_NAME: batch})
        except devices.runtime_errors() as error:
            hint = "a smaller encoder.batch takes less memory"
            raise DeviceError(f"encoder {self.name} failed: {error}", where=self.provider, hint=hint) from error
        return np.asarray(vectors)


def _filled(block: U8, size: int, channels: int) -> U8:
    """`block` as one batch: black pictures up to `size`, grey repeated over the channels."""
    if block.shape[3] != channels:
        block = np.repeat(block, channels, axis=3)
    if len(block) < size:
        block = np.concatenate([block, np.zeros((size - len(block), *block.shape[1:]), np.uint8)])
    return np.ascontiguousarray(block)


def open_session(
    bundle: EncoderBundle,
    *,
    device: str,
    threads: int = 0,
    batch: int = 32,
    on_halved: Callable[[], None] = _nothing,
) -> Encoder:
    """Load `bundle` on `device` ("auto", "cpu", "cuda" or "tensorrt") and try its golden pair.

    `threads` on the CPU, 0 = one a core; no run takes more than `batch` images. Raises DeviceError if the device cannot
    be had (see `device.open_model`), BundleError if the model does not load or does not give its golden output.
    """
    if batch < 1:
        raise UsageError(f"a batch of {batch} images cannot be run", hint="encoder.batch must be 1 or more")
    opened = devices.open_model(bundle.model_path, device=device, threads=1)
    buckets = tuple(size for size in BUCKETS[opened.provider] if size <= batch)
    cores = threads or os.cpu_count() or 1
    lanes = ThreadPoolExecutor(cores, thread_name_prefix="encode") if opened.provider == "cpu" and cores > 1 else None
    encoder = Encoder(bundle, opened.provider, opened.note, buckets, opened.session, lanes, on_halved)
    _check_ends(encoder)
    _check_golden(encoder)
    if opened.note:
        LOG.info("encoder %s: %s", bundle.name, opened.note)
    return encoder


def one_minus_cosine(got: Array, wanted: Array) -> F32:
    """1 - cosine of each pair of rows of two (n, d) arrays, computed in float64; 1 where a row is all zero."""
    a, b = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return np.asarray(1.0 - cosines)


def golden_tolerance(bundle: EncoderBundle, provider: str) -> float:
    """Largest 1 - cosine allowed between the golden output and what `provider` gives; int8: the manifest's figure."""
    if bundle.precision == "fp32":
        return 1e-6 if provider == "cpu" else 1e-4
    if bundle.precision == "fp16":
        return 1e-3
    try:
        return float(bundle.manifest["golden_tolerance"])
    except (KeyError, TypeError, ValueError):
        raise BundleError(
            f"the manifest states no golden_tolerance, which {bundle.precision} on {provider} needs",
            where=bundle.folder,
            hint="export the encoder again",
        ) from None


def _check_ends(encoder: Encoder) -> None:
    """The model must take and give what its manifest says."""
    taken = [(end.name, end.type, list(end.shape[1:])) for end in encoder.session.get_inputs()]
    given = [(end.name, end.type, list(end.shape[1:])) for end in encoder.session.get_outputs()]
    side = encoder.input_size
    wants = [(INPUT_NAME, "tensor(uint8)", [side, side, encoder.channels])]
    gives = [(OUTPUT_NAME, "tensor(float)", [encoder.dimension])]
    if (taken, given) != (wants, gives):
        what = f"the model takes {taken} and gives {given}, its manifest says {wants} and {gives}"
        raise BundleError(what, where=encoder.bundle.model_path, hint="export the encoder again")


def _check_golden(encoder: Encoder) -> None:
    """The golden input must give the golden output: direction by cosine, and length, which unscaled distances see."""
    wanted = encoder.bundle.golden_output()
    got = encoder.embed(encoder.bundle.golden_input())
    if len(got) != len(wanted):
        raise BundleError("the golden input and output differ in number", where=encoder.bundle.folder)
    tolerance = golden_tolerance(encoder.bundle, encoder.provider)
    away = float(one_minus_cosine(got, wanted).max())
    lengths = np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)
    # Vectors whose relative difference is r have 1 - cosine of at most r^2 / 2: the same r bounds the length.
    if away > tolerance or float(np.abs(lengths - 1.0).max()) > math.sqrt(2.0 * tolerance):
        what = f"encoder {encoder.name} on {encoder.provider} does not give its golden output (1 - cosine {away:.1e})"
        raise BundleError(what, where=encoder.bundle.folder, hint="export the encoder again")
