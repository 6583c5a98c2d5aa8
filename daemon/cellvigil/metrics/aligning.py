"""What Prometheus sees of the alignment of the sources' indexes; set by `service/aligner.py`."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge


class AlignmentMetrics:
    """One service's, in the registry that it was given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._info = Gauge(
            "cellvigil_alignment_info", "How a source's cells are called now, and by which index (its sha256).",
            ["source", "status", "bundle"], registry=registry,
        )  # fmt: skip
        self.cells = Gauge(
            "cellvigil_alignment_warm_up_cells", "Cells that a fit can be taken on; counted while one is waited for.",
            ["source"], registry=registry,
        )  # fmt: skip
        self._drift = Gauge(
            "cellvigil_alignment_drift_ratio", "Distance of control wells from where they were at the fit.",
            ["source"], registry=registry,
        )  # fmt: skip
        self.limit = Gauge(
            "cellvigil_alignment_drift_limit_ratio", "The same, from which on a refit is asked for.", ["source"],
            registry=registry,
        )  # fmt: skip
        self.failures = Counter(
            "cellvigil_alignment_fit_failures", "Fits that failed or were not accepted.", ["source"], registry=registry
        )
        self.recalled = Counter(
            "cellvigil_recalled_frames", "Stored frames called again by the index in force.", ["source"],
            registry=registry,
        )  # fmt: skip
        self._shown: dict[str, tuple[str, str]] = {}
        self._measured: set[str] = set()

    def show(self, source: str, status: str, bundle: str) -> None:
        """Tell how a source stands; what was told of it before is taken back."""
        if (now := (status, bundle)) != self._shown.get(source):
            if source in self._shown:
                self._info.remove(source, *self._shown[source])
            self._info.labels(source, *now).set(1)
            self._shown[source] = now

    def drift(self, source: str, ratio: float) -> None:
        """Tell how far control wells are; NaN = nobody knows: no sample."""
        if math.isfinite(ratio):
            self._drift.labels(source).set(ratio)
            self._measured.add(source)
        elif source in self._measured:
            self._drift.remove(source)
            self._measured.remove(source)
