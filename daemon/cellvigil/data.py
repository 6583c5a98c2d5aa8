"""The values that flow through a frame's life: file -> frame -> cells -> crops -> embeddings -> calls -> record.

Frozen; arrays are made read-only on the way in (`frozen_array`). Every field states its unit, axis order and sentinel.
This file knows nothing of files, models or threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
U8 = npt.NDArray[np.uint8]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

GROUPS = ("alive", "dying", "dead", "artefact", "none")
"""What a class means for a count; shares divide by the cells in alive, dying and dead."""

UNKNOWN = "unknown"
"""The state label of a cell that was called unknown; never a class name."""

NOVEL, UNCERTAIN = "novel", "uncertain"
UNKNOWN_REASONS = ("", NOVEL, UNCERTAIN)
"""Why a cell is unknown: "" where it is not; nothing in the index looks like it; too improbable. Stored by position."""

NEIGHBOURS_KEPT = 5
"""Reference cells kept a call, for "why"."""


def frozen_array(array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> Array:
    """A read-only view of `array` (converted to `dtype` if need be); the caller's own array stays writable."""
    view = np.asarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True, order=True)
class FrameKey:
    """Which frame this is: stable over restarts, and the same whoever reads the folder."""

    source: str  # the configured source's name
    experiment: str  # from the source's experiment rule; default: the dated folder
    plate: str  # the plate's own name, e.g. "Plate 1"
    well: str  # row letters and column number, not padded: "A1", "P24", "AF48"
    field: str  # field of view inside the well: "1", "ROI14"
    timepoint: int  # 0-based ordinal of the acquisition in its series; not the number in the file's name

    @property
    def series(self) -> tuple[str, str, str]:
        """Source, experiment and plate: what shares one store, one intensity range and one clock."""
        return (self.source, self.experiment, self.plate)

    def __str__(self) -> str:
        return f"{self.source}/{self.experiment}/{self.plate}/{self.well}/{self.field}/t{self.timepoint}"


@dataclass(frozen=True, slots=True, order=True)
class FileStat:
    """One line of a folder listing."""

    path: str  # relative to the source's folder, with forward slashes
    size: int  # bytes
    mtime_ns: int  # the file server's clock, ns since 1970; compared for equality only


@dataclass(frozen=True, slots=True, order=True)
class FileRef:
    """A file as it was when it was read: the identity of work is path, size and digest."""

    path: str  # relative to the source's folder, with forward slashes
    size: int  # bytes
    mtime_ns: int  # as listed when it was read
    digest: str  # sha256 of the bytes, hex


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One field of view at one time, read and decoded."""

    key: FrameKey
    acquired_at: datetime  # aware, UTC
    pixels: Array  # (C, Y, X) u8, u16 or f32
    channels: tuple[str, ...]  # C names, as the microscope spells them
    pixel_size_um: tuple[float, float]  # (y, x), micrometres
    files: tuple[FileRef, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", frozen_array(self.pixels))
        if self.pixels.ndim != 3 or len(self.channels) != self.pixels.shape[0]:
            raise ValueError(f"pixels {self.pixels.shape} do not fit channels {self.channels}")

    def channel(self, name: str) -> Array:
        """The (Y, X) plane of one channel. Raises KeyError for a channel the frame does not have."""
        try:
            return np.asarray(self.pixels[self.channels.index(name)])
        except ValueError:
            raise KeyError(name) from None


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The cells of one frame, numbered 1..n in `labels`; row i of every array is label i + 1. n may be 0."""

    labels: I32  # (Y, X) i32 on the raw frame's grid, 0 = background
    centroids_px: F32  # (n, 2) f32, y, x in raw pixels
    boxes_px: I32  # (n, 4) i32 y0, x0, y1, x1 in raw pixels, half-open
    areas_um2: F32  # (n,) f32, square micrometres
    touches_edge: Bools  # (n,) bool: the mask reaches the image's border, so the cell is not counted

    def __post_init__(self) -> None:
        for name in ("labels", "centroids_px", "boxes_px", "areas_um2", "touches_edge"):
            object.__setattr__(self, name, frozen_array(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.areas_um2)


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """The cells' pictures, one a cell, in the cells' order, at the index's scale."""

    pixels: U8  # (n, H, W, C) u8; C is 1 (grey), 3 (red, green, blue), or the image rule's channels

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", frozen_array(self.pixels))

    def __len__(self) -> int:
        return len(self.pixels)


Embeddings = Mapping[str, F32]
"""One (n, d_e) f32 block an encoder, by the encoder's name; rows in the cells' order."""


@dataclass(frozen=True, slots=True, eq=False)
class Calls:
    """What each cell was called, and how sure. Rows in the cells' order."""

    best_ids: I16  # (n,) i16 class ids of the index, never -1
    unknown: Bools  # (n,) bool: rejected; counts as `unknown`, not as its best class
    unknown_reason: tuple[str, ...]  # n entries, one of UNKNOWN_REASONS
    probabilities: F32  # (n, classes) f32, calibrated, rows sum to 1; all NaN where the index is not calibrated
    conformal_set: Bools  # (n, classes) bool: not ruled out at the index's promise; all True where it promises nothing
    vote_share: F32  # (n, classes) f32, class-weighted, rows sum to 1
    entropy: F32  # (n,) f32 in [0, 1]: H / log k at the k that was used; a stopping rule, not a confidence
    k: I32  # (n,) i32 neighbours used
    novelty_p: F32  # (n,) f32 in (0, 1]: conformal p-value of belonging to the best class; NaN if the index has none
    agreement: F32  # (n,) f32 in [0, 1]: weight of the index's members whose own best class it is; 1 with one member
    neighbours: I32  # (n, 5) i32 reference cell ids, nearest first; -1 where the index has fewer
    bundle_sha256: str  # the index that called
    voters: int = 1  # how many members the index has

    def __post_init__(self) -> None:
        names = ("best_ids", "unknown", "probabilities", "conformal_set", "vote_share", "entropy", "k")
        for name in (*names, "novelty_p", "agreement", "neighbours"):
            object.__setattr__(self, name, frozen_array(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.best_ids)


@dataclass(frozen=True, slots=True)
class CallConfusion:
    """How calls go wrong on cells that an index did not hold, for one way of calling."""

    counts: tuple[tuple[int, ...], ...]  # (classes, classes + 1) cells: rows true class, columns called, unknown last
    # (classes,) 1 or more: cells of one image (group) resemble each other, so n of a class tell as much as n / effect
    # independent ones.
    effects: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """Image quality of one frame's segmentation channel; dimensionless ratios unless said."""

    focus: float  # sharpness, comparable inside one plate; towards 0 = blurred, NaN = nothing there to focus on
    saturated: float  # share of pixels at the range's top, 0..1
    dark: float  # share of pixels at the range's bottom, 0..1
    coverage: float  # share of the image covered by cell masks, 0..1
    excluded: str = ""  # why the frame is left out: "focus", "exposure", "coverage", "debris"; "" = it counts


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a series' first frames fixed for all later ones; journaled: a restart measures with the same ruler."""

    intensity: tuple[float, float]  # raw values that become 0 and 255
    focus: float  # median `Quality.focus` of those frames; limits are shares of it; 0 = none could be measured
    # the same as `intensity` for each channel that an image rule of colour "channels" looks at, by the channel's name
    channels: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How bright the pixels of one (Y, X) plane are, in raw grey levels; made and laid out by `histogram`."""

    pixels: int  # those that are finite; 0 = nothing is known
    saturated: float  # share of pixels at the top of the pixel type's range, or of what is there, 0..1
    origin: float  # value of level 0
    step: float  # between two levels that the camera gives
    zero: int  # level of the plane's median: bins are counted from here
    exact: int  # so many levels to either side have a bin each
    otsu: float  # Otsu's threshold, halfway between two levels; NaN where all pixels are equal
    bins: bytes  # bins that are not empty, ascending: gap since the last and number of pixels, as LEB128


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Everything that one frame leaves behind: what `store.append` commits."""

    frame: Frame
    cells: Cells
    embeddings: Embeddings
    calls: Calls
    quality: Quality
    provenance: Mapping[str, str]  # "index", "config": sha256; "encoder:<name>": sha256; "version": cellvigil's
    stage_seconds: Mapping[str, float]  # stage name -> seconds spent
    classes: tuple[str, ...]  # the index's class names by id
    groups: Mapping[str, str]  # class name -> one of GROUPS
    missing_channels: tuple[str, ...] = ()  # required channels that never came (the frame timed out)
    revision: int = 0  # 0 = first; a rewritten file makes the next revision of the same key
    confusion: CallConfusion | None = None  # of the index, for the way it called here; None: not known
    confusion_overridden: bool = False  # not known because the configuration overrides the index's settings
    aligned_from: str = ""  # sha256 of the index that the one that called is an aligned version of; "" = of none
    signals: Mapping[str, Histogram] = field(default_factory=dict)  # of each channel that is not segmented


@dataclass(frozen=True, slots=True)
class IntensityRule:
    """How raw values become 0..255. Never from one frame alone: a curve must not move with its own exposure."""

    # "range": the two values below; "percentiles": of the plate's first frames; "full": all that the pixel type holds
    # (0..255, 0..65535, 0..1 for floats), for images that were mapped for display by whoever wrote them
    kind: str = "percentiles"
    low: float = 0.1  # raw value, or percentile 0..100
    high: float = 99.9  # raw value, or percentile 0..100
    frames: int = 4  # percentiles only: how many first frames of the plate are pooled (fewer if fewer are there)


@dataclass(frozen=True, slots=True)
class ClaheRule:
    """Contrast-limited adaptive histogram equalisation, applied after the intensity map and the scaling."""

    clip: float = 2.0  # OpenCV's clip limit
    tile_um: float = 50.0  # side of a tile, micrometres


@dataclass(frozen=True, slots=True)
class Fit:
    """How a cell's square picture becomes what an encoder takes: its checkpoint's own resizing. Done in `normalize`."""

    side: int  # of the encoder's input, pixels
    # "area": OpenCV's (averaged when made smaller, cubic when made larger); "bilinear", "bicubic": as Pillow does it
    resample: str = "area"
    shortest: int = 0  # the picture is first brought to this side, then its centre cut out; 0 = straight to `side`


TURNS = (1, 4)
"""In how many orientations a cell's picture may be seen: quarter turns need no resampling."""


@dataclass(frozen=True, slots=True)
class ImageRule:
    """How a cell's picture is made; part of an index's manifest, so that live and reference cells pass the same steps.

    Order: intensity map, scale to `pixel_size_um`, CLAHE, crop `crop_um` around the mask's centre, resize to the
    encoder's input size. With colour "channels" each of `channels` passes these steps on its own, with an intensity
    range of its own; cells are found in the segmentation channel all the same, which may be one of them.
    """

    pixel_size_um: float = 0.322  # micrometres a pixel, both axes (the papers: Lionheart at 20x)
    crop_um: float = 72.0  # side of the square crop, micrometres (the papers: 224 px at 0.322 um)
    intensity: IntensityRule = field(default_factory=IntensityRule)
    clahe: ClaheRule | None = None
    colour: str = "grey"  # "grey" (replicated to the encoder's channels), "rgb", or "channels": those below
    mask: bool = False  # blank everything outside the cell's own mask with the crop's border value
    pad: str = "reflect"  # at the image's border: "reflect" or "edge"
    frame_normalised: bool = True  # False: built from ready-made single-cell images; not comparable with live frames
    channels: tuple[str, ...] = ()  # of a frame, as the microscope spells them, in the order that the encoder takes
    # True: an encoder of grey or colour pictures sees each channel by itself, replicated, and the vectors are put one
    # behind the other (Cell-DINO, PLOS 2025, its DINOv2 baseline); False: a multi-channel encoder takes all at once
    per_channel: bool = False
    turns: int = 1  # 4: each picture is seen upright and turned by 90, 180 and 270 degrees; a cell's vector is the mean

    def __post_init__(self) -> None:
        if self.turns not in TURNS:
            raise ValueError(f"turns {self.turns!r} is none of {', '.join(map(str, TURNS))}")
        named = self.colour == "channels"
        if named != bool(self.channels) or len(set(self.channels)) < len(self.channels) or not all(self.channels):
            raise ValueError(f"colour {self.colour!r} with channels {list(self.channels)} is no image rule")
        if self.per_channel and not named:
            raise ValueError("per_channel is for an image rule of channels")


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a source's name rule reads out of one path, before anything is opened."""

    experiment: str
    plate: str
    well: str
    field: str
    number: int  # the time number in the name, as written; -1 where the name has none
    folder: str  # the dated folder (or the image's): orders the parts of a series; without a number: what tells the
    # time points apart, a text in natural order
    channel: str  # "" where the name does not say
    z: int | None  # slice number, None where there is none
    derived: str  # "Stitched", "Tsf", "Tsf[Stitched]", ... for an image computed from others; "" for a raw one


@dataclass(frozen=True, slots=True, order=True)
class Slice:
    """One image of a frame: a channel, or one z slice of it."""

    channel: str  # as the name says it; "" = the name does not say, the content will
    z: int | None
    stat: FileStat


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """The files that make one frame, not opened yet: what `assemble` hands to `sources.read`."""

    key: FrameKey
    slices: tuple[Slice, ...]  # by channel, then z
    missing: tuple[str, ...] = ()  # awaited channels that are not there (the frame timed out)
    first_seen: float = 0.0  # seconds on our monotonic clock, of the frame's first file
    folder: str = ""  # as sighted; with `number` it is what `key.timepoint` was given to
    number: int = -1  # the time number in the names, as written; -1 where there is none
    change: str = "new"  # "late": a channel or slice came after the frame was released; "rewritten": a file changed
    fresh: tuple[Slice, ...] = ()  # "late", "rewritten": those of `slices` that came, or changed, since then

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that are there, each once, in order."""
        return tuple(dict.fromkeys(item.channel for item in self.slices))


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One image file, decoded."""

    pixels: Array  # (C, Y, X); (Z, Y, X) stacks are already reduced by the source's z rule
    channels: tuple[str, ...]  # C names; "" where the file does not say
    pixel_size_um: tuple[float, float] | None  # (y, x); None where the file does not say
    acquired_at: datetime | None  # aware, UTC; None where the file does not say
    elapsed_ms: float | None = None  # since the series began, by the microscope's own clock; None where unknown
    number: int | None = None  # 0-based time index by the metadata; None where unknown
    digest: str = ""  # sha256 of the bytes it was decoded from, hex

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", frozen_array(self.pixels))
