"""What a daemon's /metrics shows on a bad day, made by the daemon's own classes: faults, a full disk, a deletion due.

And a plate whose shares are corrected and whose doses have several wells, which a small rehearsal has not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from prometheus_client import CollectorRegistry

from cellvigil.metrics import Metrics, StoreMetrics, TallyMetrics
from cellvigil.metrics import families as names
from cellvigil.metrics.families import Family
from cellvigil.metrics.rendering import Block, label_text, scrape_lines, scrape_text

PLATE = "scope/bad/Plate 9"
_SHARES = {"live": 0.7, "apoptotic": 0.2, "necrotic": 0.1}


def bad_day(now: float) -> tuple[CollectorRegistry, bytes]:
    """The registry of counters, and the text of wells and arms, at `now` (seconds since 1970)."""
    registry = CollectorRegistry()
    metrics, store, tally = Metrics(registry), StoreMetrics(registry), TallyMetrics(registry)
    metrics.paused.labels("store_full").set(1)
    metrics.degraded.set(1)
    metrics.device_faults.labels("lite0", "degraded").inc()
    metrics.source_up.labels("scope").set(0)
    metrics.backlog.labels("scope").set(300)
    metrics.heartbeat.set(now - 3600)
    store.warned.labels("age").set(now - 7200)
    store.due.labels("age").set(5e9)
    store.dropped.labels("pixels", "age").inc()
    store.floor.set(3 * 3600)
    tally.thresholds({"certainty": 0.6})
    return registry, scrape_text([scrape_lines(_blocks(now))])


def _blocks(now: float) -> Iterator[Block]:
    well, arm = {"plate": PLATE, "well": "B1"}, {"plate": PLATE, "arm": "Raptinal 10 uM"}
    info = {"role": "treated", "compound": "Raptinal", "dose": "10 uM", "cell_line": ""}
    yield _block(names.WELL_INFO, 1, **well, arm=arm["arm"], **info)
    yield _block(names.ACQUIRED, now - 60, **well)
    yield _block(names.CORRECTION_INFO, 1, plate=PLATE, status="ok")
    for end, value in ((names.GR_MAX, -0.4), (names.GR_MAX.low, -0.6), (names.GR_MAX.high, -0.1)):
        yield _block(end, value, plate=PLATE, compound="Raptinal")
    for state, share in _SHARES.items():
        yield _block(names.CELLS, round(100 * share), **well, state=state)
        yield _block(names.STATE_INFO, 1, plate=PLATE, state=state, group={"live": "alive"}.get(state, "dead"))
        for family, place in ((names.STATE_SHARE, well), (names.ARM_SHARE, arm)):
            for estimate, away in (("plain", 0.0), ("corrected", 0.05)):
                ends = ((family, 0.0), (family.low, -0.02), (family.high, 0.02))
                for end, more in ends:
                    yield _block(end, share + away + more, **place, state=state, estimate=estimate)


def _block(family: Family, value: float, **labels: str) -> Block:
    text = label_text(family.labels, [labels[name] for name in family.labels])
    return Block(family, [text], np.array([[value]]), np.array([[0.0]]))
