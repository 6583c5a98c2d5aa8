"""The biology of a rehearsal: cells that live, move, grow, divide and die in one field of view. Pure.

Transitions that can happen: live -> apoptotic -> necrotic (secondary necrosis: nothing eats the dead in a dish) or
debris; live -> necrotic; and a dead cell may detach and be gone. Nothing comes back to life.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from cellvigil.rehearse.scene import APOPTOTIC, CELL, DEBRIS, LIVE, NECROTIC, Floats, Table

DAUGHTER = 0.5 ** (1 / 3)
"""A daughter's radius over its mother's: half the volume."""


@dataclass(frozen=True, slots=True)
class Biology:
    """Rates and sizes, all per hour and micrometres."""

    radius_um: float = 8.6  # typical radius of a cell about to divide: 12 to 20 um across over its cycle
    radius_spread: float = 0.11  # sigma of the logarithm
    doubling_h: float = 22.0
    mitosis_h: float = 1.0  # rounded up and bright
    arrest: float = 0.25  # speed of the cycle under the drug, against 1
    confluence: float = 0.7  # covered share of the field at which division stops
    step_um: float = 2.5  # random walk of a live cell, per root hour and axis
    background_death_per_h: float = 0.002
    kill_per_h: float = 0.12  # at a saturating dose
    kill_lag_h: float = 3.0  # time constant with which the hazard rises after dosing
    apoptotic_share: float = 0.65  # of deaths; the others are necrotic at once
    apoptosis_h: float = 6.0  # shrink, bleb, fragment
    swelling_h: float = 10.0  # necrosis: swell and fade
    crumbling_share: float = 0.2  # of ended apoptoses leave only debris
    detach_per_h: float = 0.0  # of dead cells
    dead_at_start: float = 0.04  # share
    debris_at_start: float = 0.12  # specks, against the number of cells


@dataclass(frozen=True, slots=True, eq=False)
class Culture:
    """The cells of one field of view and the next free id."""

    cells: Table
    next_id: int


@dataclass(frozen=True, slots=True)
class Dish:
    """Where cells live and by which rules. The ground reaches a little beyond the frame; lengths in um."""

    y0_um: float
    x0_um: float
    y1_um: float
    x1_um: float
    biology: Biology

    @property
    def area_um2(self) -> float:
        """The whole ground."""
        return (self.y1_um - self.y0_um) * (self.x1_um - self.x0_um)

    @property
    def mitosis(self) -> float:
        """Share of the cell cycle spent rounded up."""
        return self.biology.mitosis_h / self.biology.doubling_h


@dataclass(frozen=True, slots=True)
class Stress:
    """What acts on the live cells just now."""

    hazard_per_h: float  # of death
    drugged: bool  # the cell cycle is slowed


def radius_um(cells: Table, mitosis: float) -> Floats:
    """Radius of each cell as it looks now, (n,) um. `mitosis` is the share of the cycle spent rounded up."""
    grown = np.clip(cells["cycle"] / (1 - mitosis), 0, 1)
    live = cells["size_um"] * (DAUGHTER + (1 - DAUGHTER) * grown)
    live = np.where(cells["cycle"] > 1 - mitosis, 0.9 * live, live)
    course = progress(cells)
    shrunk = cells["start_um"] * (1 - 0.34 * np.clip(course / 0.2, 0, 1))
    swollen = cells["start_um"] * (1 + 0.25 * np.clip(course / 0.4, 0, 1))
    return np.choose(cells["state"], [live, shrunk, swollen, cells["start_um"]])


def progress(cells: Table) -> Floats:
    """How far each cell is through its state's visible course, 0..1; (n,)."""
    return np.asarray(np.clip(cells["age_h"] / np.maximum(cells["span_h"], 1e-9), 0, 1))


def seed_culture(dish: Dish, count: int, size: float, rng: np.random.Generator) -> Culture:
    """A field at the start: mostly live cells in every phase of the cycle, a few dead ones, some debris.

    Args:
        dish: the ground and the rules.
        count: cells on that ground, debris not counted.
        size: the well's factor on the radius.
        rng: the field's own generator.
    """
    biology = dish.biology
    specks = int(rng.poisson(biology.debris_at_start * count))
    cells = np.zeros(count + specks, dtype=CELL)
    cells["id"] = np.arange(1, len(cells) + 1)
    cells["y_um"] = rng.uniform(dish.y0_um, dish.y1_um, len(cells))
    cells["x_um"] = rng.uniform(dish.x0_um, dish.x1_um, len(cells))
    cells["size_um"] = size * biology.radius_um * np.exp(rng.normal(0, biology.radius_spread, len(cells)))
    cells["cycle"] = rng.uniform(0, 1, len(cells))
    cells["look"] = rng.integers(0, 1 << 32, len(cells), dtype=np.uint32)
    dead = (rng.random(len(cells)) < biology.dead_at_start) & (np.arange(len(cells)) < count)
    _enter(cells, dead, NECROTIC, biology, rng)
    cells["age_h"] = np.where(dead, rng.uniform(0, biology.swelling_h, len(cells)), cells["age_h"])
    dust = np.arange(len(cells)) >= count
    _enter(cells, dust, DEBRIS, biology, rng)
    settle(cells, dish, rounds=60)
    return Culture(cells, len(cells) + 1)


def mixed_culture(dish: Dish, count: int, size: float, rng: np.random.Generator) -> Culture:
    """A field with every state in about equal parts and at every stage of its course: material for a reference.

    Arguments as `seed_culture`; `count` includes the debris.
    """
    biology = dish.biology
    nobody_dead = dataclasses.replace(biology, dead_at_start=0.0, debris_at_start=0.0)
    cells = seed_culture(dataclasses.replace(dish, biology=nobody_dead), count, size, rng).cells
    fate = rng.choice(5, count, p=(0.32, 0.21, 0.13, 0.10, 0.24))  # live, apoptotic, necrotic, after apoptosis, debris
    _enter(cells, (fate == 1) | (fate == 3), APOPTOTIC, biology, rng)
    cells["age_h"] = np.where(fate == 3, cells["span_h"], rng.uniform(0, 1, count) * cells["span_h"])
    _enter(cells, (fate == 2) | (fate == 3), NECROTIC, biology, rng)
    ages = rng.uniform(0, 1.5, count) * cells["span_h"]  # beyond the end too: the dead stay as they are then
    cells["age_h"] = np.where((fate == 2) | (fate == 3), ages, cells["age_h"])
    _enter(cells, fate == 4, DEBRIS, biology, rng)
    settle(cells, dish, rounds=60)
    return Culture(cells, count + 1)


def step(culture: Culture, hours: float, stress: Stress, dish: Dish, rng: np.random.Generator) -> Culture:
    """The same field `hours` later (at most about half an hour at once)."""
    biology = dish.biology
    cells = culture.cells.copy()
    cells["age_h"] += hours
    _end_courses(cells, biology, rng)
    _die(cells, hours, stress.hazard_per_h, biology, rng)
    cells = _without_detached(cells, hours, biology, rng)
    grown = _divide(Culture(cells, culture.next_id), hours, stress.drugged, dish, rng)
    cells = grown.cells
    pace = np.choose(cells["state"], [1.0, 0.3, 0.15, 0.15])
    wander = biology.step_um * np.sqrt(hours) * pace
    cells["y_um"] += wander * rng.standard_normal(len(cells))
    cells["x_um"] += wander * rng.standard_normal(len(cells))
    settle(cells, dish, rounds=6)
    return Culture(cells, grown.next_id)


def settle(cells: Table, dish: Dish, rounds: int) -> None:
    """Push overlapping cells apart, in place, until they at most touch (or `rounds` are over).

    Neighbours may overlap by 6 % of their radii: cells press against each other, and the pictures show them touching.
    """
    radii = radius_um(cells, dish.mitosis)
    reach = 0.94 * (radii[:, None] + radii[None, :])
    np.fill_diagonal(reach, 0)
    for _ in range(rounds):
        dy = cells["y_um"][:, None] - cells["y_um"][None, :]
        dx = cells["x_um"][:, None] - cells["x_um"][None, :]
        gap = np.sqrt(dy * dy + dx * dx) + 1e-6
        push = np.maximum(reach - gap, 0) / gap * 0.5
        if not push.any():
            break
        cells["y_um"] += (push * dy).sum(axis=1)
        cells["x_um"] += (push * dx).sum(axis=1)
        cells["y_um"] = np.clip(cells["y_um"], dish.y0_um, dish.y1_um)
        cells["x_um"] = np.clip(cells["x_um"], dish.x0_um, dish.x1_um)


def _enter(cells: Table, who: np.ndarray, state: int, biology: Biology, rng: np.random.Generator) -> None:
    """Put the cells of the mask `who` into `state`, in place."""
    radii = radius_um(cells, biology.mitosis_h / biology.doubling_h)
    count = int(who.sum())
    if state == DEBRIS:
        radii[who] = np.clip(1.2 + rng.gamma(2.0, 0.9, count), 1.2, 5.5)
    course = {APOPTOTIC: biology.apoptosis_h, NECROTIC: biology.swelling_h, DEBRIS: 1.0}[state]
    cells["start_um"][who] = radii[who]
    cells["state"][who] = state
    cells["age_h"][who] = 0
    cells["span_h"][who] = course * rng.uniform(0.7, 1.3, count)


def _end_courses(cells: Table, biology: Biology, rng: np.random.Generator) -> None:
    over = (cells["state"] == APOPTOTIC) & (cells["age_h"] >= cells["span_h"])
    crumbles = rng.random(len(cells)) < biology.crumbling_share
    _enter(cells, over & ~crumbles, NECROTIC, biology, rng)
    _enter(cells, over & crumbles, DEBRIS, biology, rng)


def _die(cells: Table, hours: float, hazard_per_h: float, biology: Biology, rng: np.random.Generator) -> None:
    dies = (cells["state"] == LIVE) & (rng.random(len(cells)) < 1 - np.exp(-hazard_per_h * hours))
    apoptotic = rng.random(len(cells)) < biology.apoptotic_share
    _enter(cells, dies & apoptotic, APOPTOTIC, biology, rng)
    _enter(cells, dies & ~apoptotic, NECROTIC, biology, rng)


def _without_detached(cells: Table, hours: float, biology: Biology, rng: np.random.Generator) -> Table:
    leaves = (cells["state"] == NECROTIC) & (rng.random(len(cells)) < 1 - np.exp(-biology.detach_per_h * hours))
    return np.asarray(cells[~leaves])


def _divide(culture: Culture, hours: float, drugged: bool, dish: Dish, rng: np.random.Generator) -> Culture:
    """Let live cells grow; those at the end of their cycle become two. The mother's id goes on in one daughter."""
    cells, biology, mitosis = culture.cells, dish.biology, dish.mitosis
    covered = np.pi * (radius_um(cells, mitosis) ** 2).sum() / dish.area_um2
    speed = (biology.arrest if drugged else 1.0) * hours / biology.doubling_h
    ahead = cells["cycle"] + speed * rng.uniform(0.8, 1.2, len(cells))
    if covered > biology.confluence:
        ahead = np.where(cells["cycle"] <= 1 - mitosis, np.minimum(ahead, 1 - mitosis), ahead)  # no one enters mitosis
    live = cells["state"] == LIVE
    splits = live & (ahead >= 1)
    cells["cycle"] = np.where(live, np.where(splits, 0.0, ahead), cells["cycle"])
    daughters = cells[splits].copy()
    angle = rng.uniform(0, 2 * np.pi, len(daughters))
    apart = 0.75 * DAUGHTER * cells["size_um"][splits]
    daughters["y_um"] += apart * np.sin(angle)
    daughters["x_um"] += apart * np.cos(angle)
    cells["y_um"][splits] -= apart * np.sin(angle)
    cells["x_um"][splits] -= apart * np.cos(angle)
    daughters["id"] = np.arange(culture.next_id, culture.next_id + len(daughters))
    daughters["look"] = rng.integers(0, 1 << 32, len(daughters), dtype=np.uint32)
    daughters["size_um"] *= np.exp(rng.normal(0, 0.04, len(daughters)))
    return Culture(np.concatenate([cells, daughters]), culture.next_id + len(daughters))
