"""How a running service finds cells: OpenCV alone, or with SAM behind it, opened and verified."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cellvigil import config, segment
from cellvigil.bundle.files import MANIFEST, VERIFIED, read_manifest
from cellvigil.bundle.licences import check_use
from cellvigil.bundle.segmenter import KIND, SegmenterBundle, open_segmenter
from cellvigil.data import I32, U8
from cellvigil.device_options import tuning_of
from cellvigil.errors import BundleError
from cellvigil.pipeline import Recipe
from cellvigil.segment.sam import sam_segmenter
from cellvigil.segment.sam_model import SamModel
from cellvigil.segment.sam_session import SamSession, open_sam
from cellvigil.segment.sam_tiles import tiles_of
from cellvigil.service.enduring import HALVED, unchanged
from cellvigil.service.lasting_sam import LastingSam
from cellvigil.service.pause import Wait

_MARK = "segmenter:"  # of a record's provenance, before the bundle's name


@dataclass(frozen=True, slots=True, eq=False)
class FoundBy:
    """What finds the cells, and what a record says of it beside the configuration's digest."""

    segmenter: segment.Segmenter
    provenance: Mapping[str, str] = field(default_factory=dict)  # "segmenter:<name>": sha256; empty with OpenCV alone


def segmenter_bundle(settings: config.Config, *, memory: Path | None) -> SegmenterBundle | None:
    """The segmenter bundle that the configuration names, verified; None with OpenCV alone.

    Raises BundleError if it is missing or altered, or its licence does not allow `encoder.licence_use`.
    """
    if settings.segment.method != "sam":
        return None
    name, encoders = settings.segment.sam.bundle, settings.encoder
    folder = encoders.path / name
    if not (folder / MANIFEST).is_file():
        known = ", ".join(sorted(_segmenters(encoders.path)))
        make = f"make it with `cellvigil-export run {name}`, or set segment.method: opencv"
        hint = f"{make}; there are: {known}" if known else make
        raise BundleError(f"segment.sam names the segmenter {name!r}, which is not there", where=folder, hint=hint)
    bundle = open_segmenter(folder, memory=memory)
    check_use(f"segmenter {bundle.name}", bundle.manifest, encoders.licence_use, where=folder)
    return bundle


def _segmenters(folder: Path) -> list[str]:
    found = []
    for path in folder.glob(f"*/{MANIFEST}"):
        try:
            read_manifest(path.parent, KIND)
        except BundleError:
            continue  # an encoder's, or none
        found.append(path.parent.name)
    return found


def lasting_sam(
    bundle: SegmenterBundle,
    settings: config.Config,
    told: Callable[[str, str], None],
    wait: Wait,
    *,
    writes: bool = True,
) -> LastingSam:
    """The segmenter's model, loaded on the configured device. Raises DeviceError and BundleError as `open_sam` does.

    With `writes` the engines that TensorRT builds are kept in the state folder.
    """
    wanted = settings.encoder
    tuning = tuning_of(settings, bundle.sha256 if writes else "")

    def opened(device: str) -> SamSession:
        return open_sam(
            bundle,
            device=device,
            threads=wanted.threads,
            tuning=tuning,
            on_halved=lambda: told(bundle.name, HALVED),
        )

    def again(device: str) -> SamSession:
        unchanged(bundle, open_segmenter(bundle.folder, memory=settings.state_dir / VERIFIED))
        return opened(device)

    return LastingSam(opened(wanted.device), again, may_degrade=wanted.device == "auto", told=told, wait=wait)


def found_by(settings: config.Segment, sam: LastingSam | None) -> FoundBy:
    """What finds cells with these settings; `sam` where their method is "sam"."""
    plain = segment.opencv_segmenter(settings)
    if sam is None:
        return FoundBy(plain)
    outlined = sam_segmenter(settings, sam, plain)

    def in_turn(image: U8, pixel_size_um: float) -> I32:
        with sam.turn:
            return outlined(image, pixel_size_um)

    return FoundBy(in_turn, {f"{_MARK}{sam.name}": sam.bundle.sha256})


@dataclass(frozen=True, slots=True)
class Pace:
    """How quick a segmenter's model is here."""

    picture_s: float  # to encode a picture
    prompt_s: float  # to decode a prompt, many together

    def frame(self, settings: config.Segment, cells: int, pictures: int = 1) -> float:
        """Seconds that a frame of so many cells takes, which so many pictures hold: see `pictures_of`."""
        # A grid leaves out a tile's points that lie deeper in the next: at most so many are asked.
        prompts = cells if settings.sam.prompts == "boxes" else pictures * settings.sam.points_per_side**2
        return pictures * self.picture_s + prompts * self.prompt_s


def pictures_of(settings: config.Segment, field_um: tuple[float, float], pixel_size_um: float, side: int) -> int:
    """How many pictures of `side` pixels SAM takes for a frame of `field_um` (y, x), looked at in such pixels."""
    shape = (max(1, round(field_um[0] / pixel_size_um)), max(1, round(field_um[1] / pixel_size_um)))
    return len(tiles_of(shape, settings.cell_diameter_um / pixel_size_um, side))


def pace_of(sam: SamModel) -> Pace:
    """Measure it now, with one picture of noise and one batch of prompts. Raises DeviceError."""
    side, many, rng = sam.side, sam.together, np.random.default_rng(0)
    picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    start = time.perf_counter()
    features = sam.encode(picture, (side, side))
    encoded = time.perf_counter()
    points = rng.uniform(0, side, (many, 2, 2)).astype(np.float32)
    sam.decode(features, np.sort(points, axis=1), np.tile(np.array([2, 3], np.int64), (many, 1)))
    return Pace(encoded - start, (time.perf_counter() - encoded) / many)


def found_as(recipe: Recipe) -> FoundBy:
    """What finds the cells of an earlier recipe."""
    told = {name: value for name, value in recipe.provenance.items() if name.startswith(_MARK)}
    return FoundBy(recipe.segmenter, told)
