"""Simulated 72-hour plates with and without an effect, for benchmarks/onset.py: counts, plate map, treatment times.

Made in another way than `response.onset` looks at them: beta-binomial shares whose intra-class correlation is the
same at every time; of a well's deviation a part lasts for ever and the rest fades over hours.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.special import betaincinv, expit, logit, ndtr

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "daemon")]

from cellvigil.data import UNKNOWN  # noqa: E402 - found through the path set above
from cellvigil.platemap import CONTROL, TREATED, PlatePlan, WellPlan  # noqa: E402
from cellvigil.response.values import PlateCounts  # noqa: E402

HORIZON_H = 72.0
STATES = ("live", "apoptotic", "necrotic", "debris", UNKNOWN)
GROUPS = {"live": "alive", "apoptotic": "dying", "necrotic": "dead", "debris": "artefact"}


@dataclass(frozen=True)
class Scenario:
    """One kind of plate; rates are a look and well."""

    name: str
    treated: int = 60
    controls: int = 12
    every_h: tuple[float, ...] = (0.5, 0.5, 1.0, 2.0)  # distances between looks, repeated
    before: int = 2  # looks before the treatment
    correlation: float = 0.05
    lasting: float = 0.8  # part of the deviation's variance that never fades
    fading_h: float = 12.0
    cells: int = 150  # in view at the beginning, doubling by the end
    start: float = 0.04  # dying and dead share
    end: float = 0.12
    drift: float = 0.15  # the whole plate, log odds
    missing: float = 0.03
    defocus: float = 0.03
    debris: float = 0.003  # a patch drifts in, for one to four looks
    pace: float = 0.0  # wells differ in how fast they come from start to end: sd of the log
    wander: float = 0.0  # each well's log odds go where they like: sd after an hour, growing with the root of time
    swaps: int = 0  # changes of the index, each of which sees twice the odds of a dead cell


SCENARIOS = (
    Scenario("usual"),
    Scenario("every 15 min", every_h=(0.25,)),
    Scenario("every 2 h", every_h=(2.0,)),
    Scenario("one look before", before=1),
    Scenario("no look before", before=0),
    Scenario("correlation 0.02", correlation=0.02),
    Scenario("correlation 0.15", correlation=0.15),
    Scenario("half fades in 12 h", lasting=0.5),
    Scenario("0.15, half in 12 h", correlation=0.15, lasting=0.5),
    Scenario("0.15, fades in 2 h", correlation=0.15, fading_h=2.0, lasting=0.5),
    Scenario("0.15, fades in 48 h", correlation=0.15, fading_h=48.0, lasting=0.5),
    Scenario("deviation for ever", correlation=0.15, lasting=1.0),
    Scenario("6 controls", controls=6),
    Scenario("6 controls, 0.15, 48 h", controls=6, correlation=0.15, fading_h=48.0, lasting=0.5),
    Scenario("16 controls", controls=16),
    Scenario("4 + 2 plate", treated=4, controls=2),
    Scenario("4 + 2, 0.15, 48 h", treated=4, controls=2, correlation=0.15, fading_h=48.0, lasting=0.5),
    Scenario("60 + 2", controls=2),
    Scenario("4 + 3 plate", treated=4, controls=3),
    Scenario("4 + 3, 0.15, 48 h", treated=4, controls=3, correlation=0.15, fading_h=48.0, lasting=0.5),
    Scenario("20 + 4 plate", treated=20, controls=4, correlation=0.1, fading_h=24.0),
    Scenario("384 wells", treated=352, controls=32, every_h=(1.0,)),
    Scenario("20 cells", cells=20),
    Scenario("500 cells", cells=500),
    Scenario("500 cells, 15 min, 0.02", cells=500, every_h=(0.25,), correlation=0.02),
    Scenario("deaths rise to 40 %", end=0.4),
    Scenario("paces differ by 30 %", end=0.4, pace=0.3),
    Scenario("wells wander", correlation=0.08, wander=0.08),
    Scenario("two index swaps", swaps=2),
    Scenario("much debris", debris=0.02),
    Scenario("a third lacks", missing=0.2, defocus=0.15),
    Scenario("plate drifts", drift=0.5),
)


@dataclass(frozen=True)
class Effect:
    """What the treatment does: from `delay_h` on, cells begin to die at `hazard` an hour, beyond the controls'."""

    hazard: float = 0.0
    delay_h: float = 0.0


NO_EFFECT = Effect()


def simulate(
    scene: Scenario, rng: np.random.Generator, effect: Effect = NO_EFFECT
) -> tuple[PlateCounts, PlatePlan, np.ndarray]:
    """One plate: counts, map, and when each well was treated (seconds; about 1,000,000)."""
    steps = np.cumsum(np.resize(scene.every_h, int(np.ceil(HORIZON_H / np.mean(scene.every_h)))))
    hours = np.concatenate([-np.cumsum(np.resize(scene.every_h, scene.before))[::-1], steps[steps <= HORIZON_H]])
    wells, points = scene.treated + scene.controls, len(hours)
    version = np.floor(np.clip(hours / HORIZON_H, 0, 0.999) * (scene.swaps + 1)).astype(np.int32)
    share = expit(_shares(scene, rng, hours, wells) + np.log(2) * version)
    harmed = 1 - np.exp(-effect.hazard * np.maximum(hours - effect.delay_h, 0))
    share[: scene.treated] += (1 - share[: scene.treated]) * harmed
    growth = 2.0 ** (np.maximum(hours, 0) / HORIZON_H)
    cells = rng.poisson(scene.cells * np.exp(0.2 * rng.standard_normal((wells, 1))) * growth)
    dead = rng.binomial(cells, share)
    dirt = _patches(rng, scene.debris, wells, points)
    dead = np.minimum(dead + rng.binomial(cells, 0.05 * dirt), cells)
    counts = np.zeros((wells, points, 1, len(STATES)), dtype=np.int32)
    counts[..., 0, 2] = rng.binomial(dead, 0.6)
    counts[..., 0, 1] = dead - counts[..., 0, 2]
    counts[..., 0, 0] = cells - dead
    counts[..., 0, 3] = rng.poisson(0.02 * cells)
    there = rng.random((wells, points)) >= scene.missing
    clear = there & (rng.random((wells, points)) >= scene.defocus) & (rng.random(points) >= scene.defocus / 4)
    counts[~clear] = 0
    acquired = 1e6 + 3600 * hours + np.arange(wells)[:, None] * 5.0
    names = tuple(f"{chr(65 + place // 24)}{place % 24 + 1}" for place in range(wells))
    role = [TREATED] * scene.treated + [CONTROL] * scene.controls
    plan = PlatePlan({name: WellPlan(name, each) for name, each in zip(names, role, strict=True)})
    plate = PlateCounts(
        names, tuple(range(points)), STATES, GROUPS, np.where(there, acquired, np.nan), counts, clear[..., None], there,
        np.where(there, version, -1).astype(np.int32),
    )  # fmt: skip
    return plate, plan, np.full(wells, 1e6 + 5.0 * wells if scene.before else 1e6 - 600.0)


def _shares(scene: Scenario, rng: np.random.Generator, hours: np.ndarray, wells: int) -> np.ndarray:
    """(W, T) log odds of a dying or dead cell in each well: beta with the scene's correlation at any time."""
    gaps = np.diff(hours, prepend=hours[0])
    plate, fading = np.zeros(len(hours)), np.zeros((wells, len(hours)))
    level, state = 0.0, rng.standard_normal(wells)
    for place, gap in enumerate(gaps):
        slow, kept = np.exp(-gap / 12.0), np.exp(-gap / scene.fading_h)
        level = slow * level + np.sqrt(1 - slow**2) * scene.drift * rng.standard_normal()
        state = kept * state + np.sqrt(1 - kept**2) * rng.standard_normal(wells)
        plate[place], fading[:, place] = level, state
    own = np.sqrt(scene.lasting) * rng.standard_normal((wells, 1)) + np.sqrt(1 - scene.lasting) * fading
    part = np.clip(hours / HORIZON_H, 0, 1)[None, :] * np.exp(scene.pace * rng.standard_normal((wells, 1)))
    mean = logit(scene.start) + np.clip(part, 0, 1.5) * (logit(scene.end) - logit(scene.start)) + plate
    wandered = np.cumsum(rng.standard_normal(own.shape) * np.sqrt(gaps), axis=1)
    return _beta(scene.correlation, np.broadcast_to(mean, own.shape), own) + scene.wander * wandered


_TABLES: dict[float, np.ndarray] = {}


def _beta(correlation: float, mean: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Log odds of the beta quantile with this mean (log odds) and correlation at a standard normal; by table."""
    if correlation not in _TABLES:
        middle = expit(np.linspace(-6, 3, 73))[:, None] * (1 / correlation - 1)
        other = (1 / correlation - 1) - middle
        quantile = betaincinv(middle, other, ndtr(np.linspace(-5, 5, 201)))
        _TABLES[correlation] = logit(np.clip(quantile, 1e-9, 1 - 1e-9))
    places = np.array([(mean + 6) / 9 * 72, (normal + 5) / 10 * 200])
    return np.asarray(map_coordinates(_TABLES[correlation], places, order=1, mode="nearest"))


def _patches(rng: np.random.Generator, rate: float, wells: int, points: int) -> np.ndarray:
    """(W, T) how much debris lies in view, 0 to 2."""
    dirt = np.zeros((wells, points))
    for well, place in zip(*np.nonzero(rng.random((wells, points)) < rate), strict=True):
        dirt[well, place : place + rng.integers(1, 5)] = 2 * rng.random()
    return dirt
