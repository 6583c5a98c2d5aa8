"""Small plates with wells that die, and their onsets, for tests of `response.onset`."""

from __future__ import annotations

import numpy as np

from cellvigil.response.epochs import epochs
from cellvigil.response.onset import onsets
from response_plates import HOUR, plan_of, plate

ROLES = "t" * 8 + "c" * 6
POINTS, TREATED_AT = 24, 2.5  # hourly looks; the third is the last one before


def shares(seed=0):
    """(W, T) dying and dead shares around 5 %, each well with its own."""
    rng = np.random.default_rng(seed)
    return rng.beta(2, 38, (len(ROLES), 1)) * np.ones(POINTS)


def counted(share, cells=200, seed=1, **more):
    dead = np.random.default_rng(seed).binomial(cells, share)
    return plate(cells - dead, dead, **more)


def killed(*wells, at=10, rate=0.3):
    """Wells that begin to die at a time point."""
    share = shares()
    harmed = 1 - np.exp(-rate * np.maximum(np.arange(POINTS) - at, 0))
    for well in wells:
        share[well] += (1 - share[well]) * harmed
    return share


def found(counts, plan=None, treated_h=TREATED_AT, events=(), shifts=None, **more):
    plan = plan_of(ROLES) if plan is None else plan
    spans = epochs(counts, events, shifts or {}, max_shift=0.2)
    when = np.broadcast_to(np.asarray(treated_h) * HOUR, len(counts.wells))
    return onsets(counts, plan, when, spans, **{"false_onset": 0.05, "horizon_h": 72.0, **more})
