"""Runs an encoder bundle: pictures of cells in, vectors out, in batches of a few fixed sizes.

Fixed sizes, because onnxruntime plans memory (and on a GPU compiles) for each shape it meets: with a handful of them
resident memory stays flat. What a cell gets does not depend on its batch mates. Reads the bundle, writes nothing.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from cellvigil import device as devices
from cellvigil.batches import BUCKETS, RUN_COST, batch_plan
from cellvigil.binding import Bound
from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME, EncoderBundle
from cellvigil.data import F32, U8, Array
from cellvigil.device_options import Batches, Tuning
from cellvigil.errors import BundleError, DeviceError, NotFinite, UsageError
from cellvigil.golden import compare, one_minus_cosine

__all__ = ["Encoder", "one_minus_cosine", "open_session"]

LOG = logging.getLogger("cellvigil")

_AS_IT_IS = Tuning()


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
    lanes: ThreadPoolExecutor | None  # the threads that run batches: a core's each on the CPU, one for a GPU, where
    # what was recorded belongs to its thread; None = the caller's
    on_halved: Callable[[], None] = _nothing  # a run failed, and is tried in smaller batches; from any thread
    binder: Callable[[int], Bound] | None = None  # on a GPU: makes the buffers of a batch size
    bound: dict[int, Bound] = field(default_factory=dict)  # those made so far
    is_recorded: bool = False  # whether runs are replayed CUDA graphs

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

    def embed(self, pixels: U8) -> F32:
        """The vectors (n, dimension) f32 of pictures (n, side, side, C) u8, in their order; n may be 0.

        C is the encoder's channels, or 1: grey is repeated over them. A batch that fails is cut in two and tried again,
        down to single pictures: memory may be short. Raises UsageError for pictures of another shape, DeviceError if
        the device fails with one picture (NotFinite if it gives numbers that are none).
        """
        self._check_pictures(pixels)
        plan = batch_plan(len(pixels), self.buckets, RUN_COST[self.provider])
        starts = tuple(itertools.accumulate(plan, initial=0))[:-1]
        blocks = [pixels[start : start + size] for start, size in zip(starts, plan, strict=True)]
        run = map if self.lanes is None else self.lanes.map
        parts = list(run(self._vectors, blocks, plan))
        vectors = np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)
        if not np.isfinite(vectors).all():
            raise NotFinite(f"encoder {self.name} gave vectors that are not finite", where=self.provider)
        return vectors

    def check(self) -> None:
        """Raises BundleError unless the golden input gives the golden output, DeviceError if the device fails."""
        _check_golden(self)

    def close(self) -> None:
        """End the lanes' threads, without waiting for one that hangs in a run. The session goes with its last user."""
        if self.lanes is not None:
            self.lanes.shutdown(wait=False, cancel_futures=True)

    def _check_pictures(self, pixels: U8) -> None:
        side = self.input_size
        fits = pixels.ndim == 4 and pixels.shape[1:3] == (side, side) and pixels.shape[3] in {1, self.bundle.channels}
        if pixels.dtype != np.uint8 or not fits:
            wants = f"(n, {side}, {side}, {self.bundle.channels} or 1) uint8"
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
            if self.binder is not None:
                if size not in self.bound:
                    self.bound[size] = self.binder(size)
                return self.bound[size].run(block)
            batch = _filled(block, size, self.bundle.channels)
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
    tuning: Tuning = _AS_IT_IS,
) -> Encoder:
    """Load `bundle` on `device` ("auto", "cpu", "cuda" or "tensorrt") and try its golden pair.

    `threads` on the CPU, 0 = one a core; no run takes more than `batch` images. Of `tuning` the limit of memory, the
    CUDA graphs and the folder of engines are heeded; an encoder that cannot be recorded runs without. Raises
    DeviceError if the device cannot be had (see `device.open_model`), BundleError if the model does not load or does
    not give its golden output, UsageError for 8 bits on a GPU.
    """
    if batch < 1:
        raise UsageError(f"a batch of {batch} images cannot be run", hint="encoder.batch must be 1 or more")
    if bundle.precision == "int8" and device != "cpu":
        if device != "auto":
            hint = "set encoder.device to auto or cpu, or export the encoder as fp16"
            raise UsageError(f"encoder {bundle.name} is int8, which is for the CPU only", where=device, hint=hint)
        device = "cpu"
    load = partial(
        _loaded, bundle, device=device, cores=threads or os.cpu_count() or 1, batch=batch, on_halved=on_halved
    )
    encoder = load(tuning=tuning)
    _check_ends(encoder)
    try:
        encoder.check()
    except (DeviceError, BundleError) as error:
        if not encoder.is_recorded:
            raise
        LOG.warning("encoder %s runs without CUDA graphs: %s", bundle.name, error)
        encoder.close()
        encoder = load(tuning=replace(tuning, cuda_graphs=False))
        encoder.check()
    if encoder.device_note:
        LOG.info("encoder %s: %s", bundle.name, encoder.device_note)
    return encoder


def _loaded(
    bundle: EncoderBundle, *, device: str, cores: int, batch: int, on_halved: Callable[[], None], tuning: Tuning
) -> Encoder:
    """The encoder, not tried yet."""
    item = (bundle.input_size, bundle.input_size, bundle.channels)
    sizes = tuple(size for size in BUCKETS["tensorrt"] if size <= batch)
    tuning = replace(tuning, half=bundle.precision == "fp16", batches=Batches(INPUT_NAME, item, sizes))
    opened = devices.open_model(bundle.model_path, device=device, threads=1, tuning=tuning, bound=True)
    lanes = cores if opened.provider == "cpu" else 1
    threaded = lanes > 1 or opened.is_on_gpu
    ort = devices.runtime()

    def bind(size: int) -> Bound:
        inputs = {INPUT_NAME: np.zeros((size, *item), np.uint8)}
        output = (OUTPUT_NAME, (size, bundle.dimension), np.float32)
        graph = size if opened.is_recorded else None
        return Bound(ort, opened.session, inputs, output, on_gpu=True, graph=graph)

    return Encoder(
        bundle,
        opened.provider,
        opened.note,
        tuple(size for size in BUCKETS[opened.provider] if size <= batch),
        opened.session,
        ThreadPoolExecutor(lanes, thread_name_prefix="encode") if threaded else None,
        on_halved,
        binder=bind if opened.is_on_gpu else None,
        is_recorded=opened.is_recorded,
    )


def _check_ends(encoder: Encoder) -> None:
    """The model must take and give what its manifest says."""
    taken = [(end.name, end.type, list(end.shape[1:])) for end in encoder.session.get_inputs()]
    given = [(end.name, end.type, list(end.shape[1:])) for end in encoder.session.get_outputs()]
    side = encoder.input_size
    wants = [(INPUT_NAME, "tensor(uint8)", [side, side, encoder.bundle.channels])]
    gives = [(OUTPUT_NAME, "tensor(float)", [encoder.dimension])]
    if (taken, given) != (wants, gives):
        what = f"the model takes {taken} and gives {given}, its manifest says {wants} and {gives}"
        raise BundleError(what, where=encoder.bundle.model_path, hint="export the encoder again")


def _check_golden(encoder: Encoder) -> None:
    """The golden input must give the golden output: direction by cosine, and length, which unscaled distances see."""
    pixels, wanted = encoder.bundle.golden_input(), encoder.bundle.golden_output()
    if encoder.binder is not None and len(pixels) == len(wanted):
        # Each batch size has kernels of its own there. What is recorded at the first run is replayed at the second,
        # with the pictures in other places: a replay that gave what the first run gave would show.
        for turn, size in itertools.product(range(2), encoder.buckets):
            rows = (np.arange(size) + turn) % len(pixels)
            compare(encoder.bundle, encoder.provider, encoder.embed(pixels[rows]), wanted[rows])
        return
    if len(pixels) == len(wanted):
        # A CPU has one way for all: one picture tells a wrong build as well as four, and a large encoder takes seconds
        # for each. The second is the first with colour (`cellvigil_export.golden`): channels mixed up show in it.
        pixels, wanted = pixels[:2][-1:], wanted[:2][-1:]
    compare(encoder.bundle, encoder.provider, encoder.embed(pixels), wanted)
