"""What Prometheus sees of the service itself: counters, histograms and a few gauges. The registry is passed in.

The figures of wells, arms and plates are none of these: see `families`, `rendering` and `exposition`.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from cellvigil import __version__

_STAGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_DELAY_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
_PROBABILITY_BUCKETS = tuple(step / 10 for step in range(1, 11))


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
        self.plate_map_up = Gauge(
            "cellvigil_plate_map_up", "0 while a source's plate map cannot be used as it is.", ["source"],
            registry=registry,
        )  # fmt: skip
        self.events_up = Gauge(
            "cellvigil_events_up", "0 while a source's events cannot be used as they are.", ["source"],
            registry=registry,
        )  # fmt: skip
        self.scan = Gauge(
            "cellvigil_scan_duration_seconds", "How long the last look at a source's folder took.", ["source"],
            registry=registry,
        )  # fmt: skip
        Info("cellvigil_build", "The running version.", registry=registry).info({"version": __version__})


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
        self.floor = Gauge(
            "cellvigil_store_floor_seconds", "Time until the disk's floor at the last day's rate; +Inf without growth.",
            registry=registry,
        )  # fmt: skip
        self.failures = Counter(
            "cellvigil_retention_failures", "Times that retention failed on the disk, and was put off.",
            registry=registry,
        )  # fmt: skip


class TallyMetrics:
    """What Prometheus sees of how the figures of wells are made, and of what the alert rules compare them with."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "cellvigil_tally_up", "0 while figures of a plate cannot be made: the last good ones stand.",
            registry=registry,
        )  # fmt: skip
        self.duration = Gauge(
            "cellvigil_tally_duration_seconds", "How long the last making of the figures took.", registry=registry
        )
        self.timestamp = Gauge(
            "cellvigil_tally_timestamp_seconds", "What was committed before then is in the figures.", registry=registry
        )
        self.left_out = Gauge(
            "cellvigil_wells_left_out", "Wells that are not shown: beyond metrics.max_wells.", registry=registry
        )
        self._threshold = Gauge(
            "cellvigil_alert_threshold", "The limits of alerts, as configured.", ["alert"], registry=registry
        )

    def thresholds(self, limits: Mapping[str, float]) -> None:
        """Publish the configuration's `alerts`, each by its key."""
        for name, limit in limits.items():
            self._threshold.labels(name).set(limit)
