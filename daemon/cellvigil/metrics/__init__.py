"""What Prometheus sees: counters of the running service, and the figures of wells, arms and plates."""

from cellvigil.metrics.aligning import AlignmentMetrics
from cellvigil.metrics.counters import Metrics, StoreMetrics, TallyMetrics

__all__ = ["AlignmentMetrics", "Metrics", "StoreMetrics", "TallyMetrics"]
