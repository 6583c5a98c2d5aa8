"""Records for the store's tests: small, deterministic, and every pixel tells which frame it belongs to."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from cellvigil.data import Calls, Cells, FileRef, Frame, FrameKey, Quality, Record

CLASSES = ("live", "apoptotic", "debris")
GROUPS = {"live": "alive", "apoptotic": "dying", "debris": "artefact"}
START = datetime(2024, 3, 1, 20, 0, tzinfo=UTC)
SERIES = ("scope", "240301_run", "Plate 1")
PROFILE = "cells/profile-a1e0bec80d51"  # of the encoder that these records are embedded by
BUNDLE = "ab" * 32


def key(well: str = "A1", timepoint: int = 0, field: str = "1", series: tuple[str, str, str] = SERIES) -> FrameKey:
    return FrameKey(*series, well, field, timepoint)


def pattern(frame_key: FrameKey, revision: int, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """Pixels that follow from the key alone, so that a torn or swapped frame is seen."""
    rng = np.random.default_rng(hash_of(f"{frame_key} r{revision}"))
    if dtype == "float32":
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def hash_of(text: str) -> int:
    """A hash that is the same in every process."""
    return zlib.crc32(text.encode("utf-8", "surrogateescape"))


def cells_of(count: int, shape: tuple[int, int], seed: int = 0) -> Cells:
    """`count` cells of one pixel each (as many as fit), every third at the border."""
    labels = np.zeros(shape, dtype=np.int32)
    labels.flat[: min(count, labels.size)] = np.arange(1, min(count, labels.size) + 1)
    rng = np.random.default_rng(seed)
    centroids = rng.random((count, 2)).astype(np.float32) * min(shape)
    corners = centroids.astype(np.int32)
    return Cells(
        labels=labels,
        centroids_px=centroids,
        boxes_px=np.hstack([corners, corners + 1]).astype(np.int32),
        areas_um2=rng.random(count).astype(np.float32) * 100,
        touches_edge=np.arange(count) % 3 == 2,
    )


def calls_of(count: int, *, seed: int = 0, bundle: str = BUNDLE, classes: int = len(CLASSES)) -> Calls:
    rng = np.random.default_rng(seed)
    shares = rng.random((count, classes)).astype(np.float32)
    unknown = rng.random(count) < 0.1
    return Calls(
        best_ids=rng.integers(0, classes, count).astype(np.int16),
        unknown=unknown,
        unknown_reason=tuple("novel" if flag else "" for flag in unknown),
        probabilities=np.full((count, classes), np.nan, dtype=np.float32),
        conformal_set=rng.random((count, classes)) < 0.5,
        vote_share=shares / shares.sum(axis=1, keepdims=True),
        entropy=rng.random(count).astype(np.float32),
        k=rng.integers(3, 100, count).astype(np.int32),
        novelty_p=rng.random(count).astype(np.float32),
        agreement=np.ones(count, dtype=np.float32),
        neighbours=rng.integers(-1, 10_000, (count, 5)).astype(np.int32),
        bundle_sha256=bundle,
    )


def record(
    frame_key: FrameKey | None = None,
    *,
    n: int = 5,
    shape: tuple[int, int, int] = (2, 12, 18),
    dtype: str = "uint16",
    revision: int = 0,
    channels: tuple[str, ...] | None = None,
    excluded: str = "",
    dimension: int = 8,
    **other: Any,
) -> Record:
    frame_key = frame_key or key()
    seed = hash_of(f"{frame_key} r{revision}")
    name = f"{frame_key.well}_{frame_key.field}_{frame_key.timepoint:03d}.tif"
    frame = Frame(
        key=frame_key,
        acquired_at=START + timedelta(minutes=30 * frame_key.timepoint),
        pixels=other.pop("pixels", None) if "pixels" in other else pattern(frame_key, revision, shape, dtype),
        channels=channels or tuple(f"channel-{place}" for place in range(shape[0])),
        pixel_size_um=other.pop("pixel_size_um", (0.322, 0.322)),
        files=(FileRef(name, 1000 + revision, 1_700_000_000_000_000_000 + revision, f"{seed:064x}"),),
    )
    embeddings: Mapping[str, Any] = {"lite0": np.random.default_rng(seed).random((n, dimension)).astype(np.float32)}
    return Record(
        frame=frame,
        cells=cells_of(n, frame.pixels.shape[1:], seed),
        embeddings=embeddings,
        calls=other.pop("calls", None) or calls_of(n, seed=seed),
        quality=Quality(focus=1.0, saturated=0.0, dark=0.0, coverage=0.1, excluded=excluded),
        provenance={"index": BUNDLE, "config": "cd" * 32, "encoder:lite0": "ef" * 32, "version": "0"},
        stage_seconds={"read": 0.01, "segment": 0.2},
        classes=CLASSES,
        groups=GROUPS,
        revision=revision,
        **other,
    )
