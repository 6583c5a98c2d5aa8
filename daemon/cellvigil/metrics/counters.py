"""What Prometheus sees. The registry is passed in; the gauges of wells are made from a snapshot at each scrape.

A well's gauges are not kept as labelled children that would have to be cleared: a well that is not in the snapshot is
not in the answer. After a restart the first snapshot comes from the ledger, so a dashboard shows no drop to zero.
Names and labels are those of DESIGN.md, "Metrics"; `plate` is source/experiment/plate, since every microscope calls
its plate "Plate 1".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cellvigil import __version__

_STAGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_DELAY_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
_PROBABILITY_BUCKETS = tuple(step / 10 for step in range(1, 11))


@dataclass(frozen=True, slots=True)
class WellGauges:
    """The last published value of one well."""

    plate: str  # source/experiment/plate
    well: str
    acquired_at: datetime  # aware, UTC: of the time point that the value belongs to
    cells: Mapping[str, int]  # state -> number of cells that count; every class and "unknown"
    shares: Mapping[str, float]  # class -> share of the cells in alive, dying and dead; empty without such cells
    unknown_ratio: float | None  # share of all counted cells that were called unknown; None without cells
    fields_missing: int  # expected fields of view that never came at that time
    focus_ratio: float | None  # sharpness against the plate's first frames; None where not measured
    groups: Mapping[str, str]  # class -> alive | dying | dead | artefact | none


class WellCollector(Collector):
    """Turns the current snapshot of wells into gauges at each scrape."""

    def __init__(self, snapshot: Callable[[], Iterable[WellGauges]]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The families, one sample a well (and state)."""
        wells = tuple(self._snapshot())
        place = ("plate", "well")
        cells = GaugeMetricFamily("cellvigil_cells", "Cells of a well by called state.", labels=(*place, "state"))
        share = GaugeMetricFamily(
            "cellvigil_state_share",
            "Share of a well's cells in one state (of those alive, dying or dead).",
            labels=(*place, "state", "estimate"),
        )
        unknown = GaugeMetricFamily("cellvigil_unknown_ratio", "Share of cells called unknown.", labels=place)
        acquired = GaugeMetricFamily(
            "cellvigil_well_acquired_timestamp_seconds", "Acquisition time of the well's value.", labels=place
        )
        missing = GaugeMetricFamily("cellvigil_fields_missing", "Expected fields that lack in the value.", labels=place)
        focus = GaugeMetricFamily("cellvigil_focus_ratio", "Sharpness against the plate's first frames.", labels=place)
        groups = GaugeMetricFamily(
            "cellvigil_state_info", "The group of each state.", labels=("plate", "state", "group")
        )
        for well in wells:
            at = (well.plate, well.well)
            for state, count in well.cells.items():
                cells.add_metric((*at, state), count)
            for state, value in well.shares.items():
                share.add_metric((*at, state, "plain"), value)
            if well.unknown_ratio is not None:
                unknown.add_metric(at, well.unknown_ratio)
            if well.focus_ratio is not None:
                focus.add_metric(at, well.focus_ratio)
            acquired.add_metric(at, well.acquired_at.timestamp())
            missing.add_metric(at, well.fields_missing)
        for labels in sorted({(well.plate, *pair) for well in wells for pair in well.groups.items()}):
            groups.add_metric(labels, 1)
        return (cells, share, unknown, acquired, missing, focus, groups)


class Metrics:
    """The counters and histograms of one service, in the registry that it was given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.frames = Counter(
            "cellvigil_frames",
            "Frames (or refused files), by outcome: docs/operations.md.",
            ["source", "outcome"],
            registry=registry,
        )
        self.stage = Histogram(
            "cellvigil_stage_duration_seconds", "Time a frame spent in a stage.", ["stage"],
            buckets=_STAGE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.delay = Histogram(
            "cellvigil_frame_delay_seconds", "Commit minus first sight, by this machine's monotonic clock.",
            buckets=_DELAY_BUCKETS, registry=registry,
        )  # fmt: skip
        self.probability = Histogram(
            "cellvigil_call_probability", "Calibrated probability of the called state; empty until calibrated.",
            buckets=_PROBABILITY_BUCKETS, registry=registry,
        )  # fmt: skip
        self.backlog = Gauge(
            "cellvigil_backlog_frames", "Frames that are complete but not committed.", ["source"], registry=registry
        )
        self.waiting = Gauge(
            "cellvigil_waiting_files", "Files seen that belong to no complete frame yet.", ["source"], registry=registry
        )
        self.last_frame = Gauge(
            "cellvigil_last_frame_timestamp_seconds", "When the last frame was committed.", ["source"],
            registry=registry,
        )  # fmt: skip
        self.interval = Gauge(
            "cellvigil_expected_frame_interval_seconds", "Configured interval of the time points.", ["source"],
            registry=registry,
        )  # fmt: skip
        self.heartbeat = Gauge(
            "cellvigil_heartbeat_timestamp_seconds", "When a token last passed through every queue.", registry=registry
        )
        self.store_free = Gauge("cellvigil_store_free_bytes", "Free space of the store's disk.", registry=registry)
        self.device = Gauge(
            "cellvigil_device_info", "The provider that runs the encoders.", ["provider"], registry=registry
        )
        self.degraded = Gauge(
            "cellvigil_device_degraded", "1 where an encoder fell back to the CPU after its device failed.",
            registry=registry,
        )  # fmt: skip
        self.device_faults = Counter(
            "cellvigil_device_faults", "Failed runs of an encoder, by what was done: halved, rebuilt, degraded.",
            ["encoder", "action"], registry=registry,
        )  # fmt: skip
        self.paused = Gauge(
            "cellvigil_paused",
            "1 while writing waits for room on the disk.",
            ["reason"],
            registry=registry,
        )
        self.source_up = Gauge(
            "cellvigil_source_up", "0 while a source's folder is away, or a look at it hangs.", ["source"],
            registry=registry,
        )  # fmt: skip
        self.scan = Gauge(
            "cellvigil_scan_duration_seconds", "How long the last look at a source's folder took.", ["source"],
            registry=registry,
        )  # fmt: skip
        Info("cellvigil_build", "The running version.", registry=registry).info({"version": __version__})

    def watch_wells(self, snapshot: Callable[[], Iterable[WellGauges]]) -> None:
        """Publish the wells that `snapshot` returns at each scrape."""
        self.registry.register(WellCollector(snapshot))


class StoreMetrics:
    """What Prometheus sees of the store's size and of what retention deletes; set by `service/keeper.py`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.bytes = Gauge(
            "cellvigil_store_bytes", "Bytes of chunks and journals in the store, by tier.", ["kind"], registry=registry
        )
        self.due = Gauge(
            "cellvigil_retention_due_bytes", "Bytes to be deleted now or within warn_hours.", ["why"],
            registry=registry,
        )  # fmt: skip
        self.warned = Gauge(
            "cellvigil_retention_warned_timestamp_seconds", "Since when a deletion is announced; absent if none is.",
            ["why"], registry=registry,
        )  # fmt: skip
        self.dropped = Counter(
            "cellvigil_retention_dropped_units", "Time points of a plate deleted, by tier (or whole plates).",
            ["tier", "why"], registry=registry,
        )  # fmt: skip
        self.floor_hours = Gauge(
            "cellvigil_store_floor_hours", "Hours until the disk's floor at the last day's rate; +Inf without growth.",
            registry=registry,
        )  # fmt: skip
        self.failures = Counter(
            "cellvigil_retention_failures", "Times that retention failed on the disk, and was put off.",
            registry=registry,
        )  # fmt: skip
