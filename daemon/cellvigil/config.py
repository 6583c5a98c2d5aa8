"""The configuration: one YAML file, every key checked, every wrong key answered with the nearest right one.

`config.yaml` at the top of the repository shows every key with its default; a test keeps the two equal.
Relative paths are taken from the folder that the configuration file is in.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import types
import typing
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cellvigil.errors import UsageError

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Retention(_Section):
    """How long each tier of the record is kept; None = for ever. A unit is one time point of a plate."""

    pixels_days: Positive | None = None
    labels_days: Positive | None = None
    embeddings_days: Positive | None = None
    measurements_days: Positive | None = None  # the rows of cells: features and calls
    counts_days: Positive | None = None  # the journal: then the whole plate goes
    orphans_days: Positive | None = 30.0  # what a crash left uncommitted, moved aside under `.orphans`
    max_gb: Positive | None = None  # above this size the oldest units go, pixels first
    free_floor_gb: Positive | None = None  # the same, when the disk has less room than this
    warn_hours: Annotated[float, Field(ge=0)] = 24.0  # a warning stands so long before anything is deleted
    pins: tuple[str, ...] = ()  # "source/experiment/plate", * and ? match: never deleted


class Store(_Section):
    """Where the record is kept."""

    path: Path = Path("store")
    embeddings: bool = True  # keep each cell's embedding (f16); needed to call stored cells again
    min_free_mb: Annotated[float, Field(ge=0)] = 500.0  # with less room on its disk, writing waits
    retention: Retention = Retention()


class Channels(_Section):
    """Which channels make a frame, in the microscope's own spelling."""

    segment: str = ""  # the channel that is segmented and embedded; "" = the first (or only) one
    required: tuple[str, ...] = ()  # a frame is complete when these are there; `segment` always is one of them
    optional: tuple[str, ...] = ()  # never waited for; one that comes late joins its frame

    @property
    def awaited(self) -> tuple[str, ...]:
        """The channels a frame waits for."""
        return tuple(dict.fromkeys((self.segment, *self.required))) if self.segment else self.required


class Expect(_Section):
    """What the assay will bring; `check` works out from it whether this machine keeps up."""

    wells: Annotated[int, Field(ge=1)] = 96
    fields: Annotated[int, Field(ge=1)] = 1
    cells: Annotated[int, Field(ge=1)] = 300  # cells in one field of view


class Align(_Section):
    """Whether and how a source's index is carried to its microscope while it runs; see docs/alignment.md."""

    mode: Literal["off", "states", "types"] = "off"  # states: the shift alone; types: transport, classes dropped
    present: tuple[str, ...] = ()  # states: classes known to be in the control (or first) wells; () = the alive ones
    wells: Literal["controls", "t0"] = "controls"  # states: control wells, or every well until its treatment
    warm_up_cells: Annotated[int, Field(ge=50)] = 2000  # so many counted cells are waited for, then the fit is taken
    drift_limit: Positive = 3.0  # control wells this many times further out than at the fit: a refit is asked for

    @model_validator(mode="after")
    def _fits_mode(self) -> Align:
        if self.mode != "states" and self.present:
            raise ValueError("present is for mode states: with types, the classes there are found out")
        return self


class Source(_Section):
    """One folder that one microscope writes to."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    kind: Literal["gen5", "nanolive", "ometiff", "plain"]
    path: Path
    pattern: str = ""  # a regular expression over the relative path with named groups; not for gen5
    timezone: str = ""  # of the times in the files, e.g. Europe/Berlin; required for gen5
    pixel_size_um: tuple[Positive, Positive] | None = None  # (y, x); overrides what the files say
    channels: Channels = Channels()
    interval_s: Positive | None = None  # expected seconds between two time points of one field
    expect: Expect = Expect()
    experiment_rule: Literal["dated_folder", "parent", "source"] = "dated_folder"
    series: Literal["folder", "merge"] = "folder"
    derived: tuple[str, ...] = ()  # derived images to use all the same, e.g. ["Tsf"]; others are ignored
    z: Literal["focus", "max"] = "focus"
    plate_map: Path | None = None
    events: Path | None = None  # events.csv; `cellvigil event add` needs none
    index: str  # a name under `classify.indexes`, or a path to an index
    same_device_as_index: bool = False  # the index's cells come from this very device: novel cells become unknown
    align: Align = Align()
    order: Literal["oldest", "newest"] = "oldest"
    scan_interval_s: Positive = 2.0
    settle_scans: Annotated[int, Field(ge=2)] = 3  # size and time must be equal over this many scans
    frame_timeout_s: Positive = 1800.0  # then a frame without all its channels is taken (or quarantined)

    @field_validator("pixel_size_um", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int | float) else value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value and value not in zoneinfo.available_timezones():
            raise ValueError(f"{value!r} is no time zone; write it like Europe/Berlin or UTC")
        return value

    @model_validator(mode="after")
    def _fits_kind(self) -> Source:
        if self.kind == "gen5" and not self.timezone:
            raise ValueError("timezone is required for gen5 (its files carry local times without a zone)")
        if self.kind == "gen5" and self.pattern:
            raise ValueError("pattern is not for gen5 (its names have a fixed form); use kind plain")
        if self.kind == "plain" or self.pattern:
            self._check_pattern()
        return self

    def _check_pattern(self) -> None:
        if not self.pattern:
            raise ValueError("pattern is required for kind plain")
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise ValueError(f"pattern is no regular expression: {error}") from None
        known = ("experiment", "plate", "well", "field", "time", "channel", "z")
        if wrong := sorted(set(groups) - set(known)):
            raise ValueError(f"pattern has unknown groups {wrong}; known are {', '.join(known)}")


class Sam(_Section):
    """How SAM is asked for cells; see segment/sam.py."""

    bundle: str = "mobile-sam"  # a segmenter bundle under `encoder.path`
    prompts: Literal["boxes", "grid"] = "boxes"  # one box a cell that OpenCV found, or points all over the image
    points_per_side: Annotated[int, Field(ge=1, le=128)] = 32  # grid: points along the image's longer side
    min_iou: Share = 0.88  # grid: a mask whose own predicted quality is lower is dropped
    min_stability: Share = 0.95  # grid: so is one that changes when its threshold moves: overlap of the two
    max_overlap: Share = 0.7  # of two masks that overlap more, the better one stands


class Segment(_Section):
    """How cells are found. Areas in square micrometres."""

    method: Literal["opencv", "sam"] = "opencv"
    min_area_um2: Positive = 30.0
    max_area_um2: Positive = 5000.0
    cell_diameter_um: Positive = 18.0  # a typical cell; sets the scale of the contrast window and of the splitting
    sensitivity: Annotated[float, Field(ge=0.1, le=10)] = 1.0  # above 1 finds fainter cells, and more debris
    sam: Sam = Sam()


class Encoder(_Section):
    """Where the encoder bundles are, and what runs them."""

    path: Path = Path("encoders")
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    precision: Literal["fp32", "fp16", "int8"] = "fp32"  # the coarsest that is accepted of a bundle
    batch: Annotated[int, Field(ge=1, le=256)] = 32
    threads: Annotated[int, Field(ge=0)] = 0  # CPU threads of the encoder; 0 = all cores
    gpu_mem_limit_gb: Positive | None = None  # an encoder's arena on the GPU; None = as much as it asks for
    cuda_graphs: bool = False  # runs are recorded once a batch size and replayed
    licence_use: Literal["research", "commercial"] = "research"  # commercial refuses weights that do not allow it


class Classify(_Section):
    """Overrides of what the index's manifest says; empty = as the index says."""

    indexes: Path = Path("indexes")
    k_min: Annotated[int, Field(ge=2)] | None = None
    k_max: Annotated[int, Field(ge=2)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    min_probability: Share | None = None  # a cell less probably right becomes unknown; needs a calibrated index


class Response(_Section):
    """Which frames count. Limits are shares 0..1; a frame outside is stored, but left out of the figures."""

    min_focus: Annotated[float, Field(ge=0)] = 0.25  # against the usual focus of the plate's first frames
    max_saturated: Share = 0.3
    max_dark: Share = 0.3
    max_coverage: Share = 0.9
    max_debris: Share = 0.5  # share of a frame's counted cells that are artefacts
    edge_margin_um: Annotated[float, Field(ge=0)] = 0.0  # cells nearer than this to the border are not counted
    false_onset: Annotated[float, Field(gt=0, lt=1)] = 0.05  # chance of any false onset on a plate in `horizon_h`
    horizon_h: Positive = 72.0
    max_shift: Share = 0.2  # a field that moved by more of its side starts a new baseline
    growth: Literal["adherent", "suspension"] = "adherent"  # growth-rate inhibition is for cells that stay in the field


class Alerts(_Section):
    """When the rules in `dashboards/prometheus` fire: published as `cellvigil_alert_threshold{alert}`."""

    dead_share: Share = 0.3  # share of a well's cells in the group "dead" ...
    dead_timepoints: Annotated[int, Field(ge=1)] = 3  # ... for so many time points in a row
    no_response_h: Positive = 24.0  # hours after treatment by which a treated well should have an onset
    control_death: Share = 0.15  # dying and dead share of the control wells, their median
    unknown: Share = 0.3  # share of unknown cells in a well
    certainty: Share = 0.6  # mean probability of a well's calls
    novel: Share = 0.3  # share of a control well's cells with a novelty p-value of at most 0.1 (expected: 0.1)
    focus: Annotated[float, Field(ge=0)] = 0.5  # sharpness against the plate's first frames
    stalled_intervals: Positive = 2.5  # expected intervals without a frame
    backlog_frames: Annotated[int, Field(ge=1)] = 100
    floor_h: Positive = 48.0  # hours until the store's disk is down to its floor
    heartbeat_s: Positive = 600.0


class Metrics(_Section):
    """Where /metrics and /healthz listen."""

    listen: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9108  # 0 = any free port, told in the log
    token_file: Path | None = None  # holds the bearer token that every request but /healthz must bring
    tls_cert_file: Path | None = None  # PEM; with `tls_key_file` the door speaks TLS only
    tls_key_file: Path | None = None
    keep_hours: Positive = 168.0  # a plate without a frame for so long leaves /metrics and the page
    max_wells: Annotated[int, Field(ge=1)] = 1536  # most wells published at once: the plates begun last


class Limits(_Section):
    """What a hostile or broken file may cost at most."""

    max_file_mb: Positive = 512.0
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000  # y * x of one plane
    max_pages: Annotated[int, Field(ge=1)] = 512  # z slices of one stack
    max_members: Annotated[int, Field(ge=1)] = 100_000  # images in one archive or series
    max_metadata_mb: Positive = 16.0  # XML or text metadata of one file
    read_retries: Annotated[int, Field(ge=0)] = 3
    max_load: Share = 0.8  # `check` refuses above this share of the machine's capacity


class Log(_Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(_Section):
    """The whole configuration."""

    version: Literal[1] = 1
    state_dir: Path = Path("state")
    store: Store = Store()
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    segment: Segment = Segment()
    encoder: Encoder = Encoder()
    classify: Classify = Classify()
    response: Response = Response()
    alerts: Alerts = Alerts()
    metrics: Metrics = Metrics()
    limits: Limits = Limits()
    log: Log = Log()

    @model_validator(mode="after")
    def _names_differ(self) -> Config:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("two sources share one name; every source needs its own")
        return self

    @model_validator(mode="after")
    def _embeddings_are_kept(self) -> Config:
        aligned = [source.name for source in self.sources if source.align.mode != "off"]
        if aligned and not self.store.embeddings:
            raise ValueError(f"source {aligned[0]} is aligned by stored embeddings: store.embeddings must be true")
        return self

    @property
    def sha256(self) -> str:
        """Digest of every value, for provenance: equal exactly when two configurations mean the same."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def load(path: str | Path) -> Config:
    """Read and check a configuration file.

    Raises UsageError for a missing file, bad YAML, or any wrong key or value; the message names each of them.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration: {error.strerror}", where=path, hint="give one with --config"
        ) from None
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"the configuration is no YAML: {error}", where=path, hint="mend that line") from None
    return parse(raw, base=path.parent.resolve(), where=path)


def parse(raw: object, *, base: Path, where: str | Path = "configuration") -> Config:
    """Check a configuration already read from YAML; relative paths are taken from `base`. Raises UsageError."""
    if not isinstance(raw, dict):
        raise UsageError("the configuration must be a mapping of keys", where=where, hint="see config.yaml")
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        found: list[dict[str, Any]] = [dict(item) for item in error.errors()]
        # An entry that is wrong is left out of its list, which is then called too short: an echo, not a second error.
        echoes = {item["loc"][:1] for item in found if item["type"] != "too_short"}
        lines = [_explain(item) for item in found if item["type"] != "too_short" or item["loc"][:1] not in echoes]
        raise UsageError("; ".join(lines), where=where, hint="see config.yaml for every key") from None
    return _rebased(config, base)


def _rebased(config: Config, base: Path) -> Config:
    def at(path: Path) -> Path:
        return path if path.is_absolute() else base / path

    sources = tuple(
        source.model_copy(
            update={
                "path": at(source.path),
                "plate_map": at(source.plate_map) if source.plate_map else None,
                "events": at(source.events) if source.events else None,
            }
        )
        for source in config.sources
    )
    return config.model_copy(
        update={
            "state_dir": at(config.state_dir),
            "store": config.store.model_copy(update={"path": at(config.store.path)}),
            "metrics": config.metrics.model_copy(
                update={
                    name: at(path)
                    for name in ("token_file", "tls_cert_file", "tls_key_file")
                    if (path := getattr(config.metrics, name)) is not None
                }
            ),
            "encoder": config.encoder.model_copy(update={"path": at(config.encoder.path)}),
            "classify": config.classify.model_copy(update={"indexes": at(config.classify.indexes)}),
            "sources": sources,
        }
    )


def _explain(item: dict[str, Any]) -> str:
    location = tuple(item["loc"])
    dotted = ".".join(str(part) for part in location) or "configuration"
    if item["type"] == "extra_forbidden":
        known = _keys_at(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.0)
        return f"unknown key {dotted!r}" + (f", did you mean {near[0]!r}?" if near else "")
    if item["type"] == "missing":
        return f"{dotted!r} is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{dotted!r}: {message[0].lower()}{message[1:]}"


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    """The keys that are allowed at a place in the configuration."""
    model: type[BaseModel] = Config
    for part in location:
        if isinstance(part, int):
            continue
        model = _section_of(model.model_fields[str(part)].annotation)
    return list(model.model_fields)


def _section_of(annotation: Any) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (tuple, types.UnionType, typing.Union, Annotated):
        for inner in typing.get_args(annotation):
            if inner is not Ellipsis and inner is not type(None):
                return _section_of(inner)
    raise TypeError(f"{annotation} holds no section")
