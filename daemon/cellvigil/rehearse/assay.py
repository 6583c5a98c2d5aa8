"""A simulated assay from its settings: which wells get what, and every field of view at every time. Pure.

`simulate` yields the scenes in the order in which the microscope visits them; `rehearse.run` writes them.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from cellvigil.errors import UsageError
from cellvigil.rehearse.cells import Biology, Culture, Dish, Stress, seed_culture, step
from cellvigil.rehearse.optics import Optics
from cellvigil.rehearse.scene import CONTROL, TREATED, Floats, Scene, Well

KINDS = ("gen5", "nanolive")
PIXEL_SIZE_UM = {"gen5": 0.322, "nanolive": 0.19}
SHAPE = {"gen5": (452, 612), "nanolive": (448, 448)}
_MARGIN_UM = 14.0
"""Ground beyond the frame on which cells live too, so that they come and go over the border."""
_LONGEST_STEP_H = 0.5
_GROUND_A_CELL_UM2 = 717.0


@dataclass(frozen=True, slots=True)
class Assay:
    """All settings of a rehearsal; the same settings give the same bytes."""

    seed: int = 1
    kind: str = "gen5"
    experiment: str = "Rehearsal"
    plate: str = "Plate 1"
    wells: tuple[str, ...] = ("A1", "A2", "B1", "B2")
    treated: tuple[str, ...] = ("B1", "B2")
    compound: str = "Raptinal"
    doses_um: tuple[float, ...] = (10.0,)  # micromolar, given to the treated wells in turn
    ec50_um: float = 2.5  # micromolar: half the drug's highest hazard (Hill slope 2)
    fields: int = 1
    timepoints: int = 13
    minutes: float = 120.0  # between two time points
    dosed_at: int = 2  # time point at whose end the drug is given: that frame is the last one before
    shape: tuple[int, int] | None = None  # (Y, X) pixels; None = what the kind usually has
    pixel_size_um: float | None = None  # None = what the kind usually has
    cells: float | None = None  # in one field of view at the start; None = a third of the ground covered
    defocus_rate: float = 0.03  # share of frames the autofocus misses
    bubble_rate: float = 0.02  # share of frames with an air bubble
    stain_every: int = 0  # gen5: a dead stain in the GFP channel each so many time points; 0 = never
    started_at: datetime = datetime(2024, 3, 1, 18, 0, 0)  # noqa: DTZ001 - Gen5's clock is local and has no zone
    biology: Biology = field(default_factory=Biology)

    def __post_init__(self) -> None:
        """Refuse settings that make no assay. Raises UsageError."""
        rates = (self.defocus_rate, self.bubble_rate)
        for wrong, what, hint in (
            (self.kind not in KINDS, f"unknown kind {self.kind!r}", f"choose {' or '.join(KINDS)}"),
            (not self.wells or len(set(self.wells)) < len(self.wells), "wells must differ", "for example A1,A2,B1,B2"),
            (not set(self.treated) <= set(self.wells), "a treated well is not on the plate", "name it in wells too"),
            (min((*self.doses_um, 1.0)) <= 0 or not self.doses_um, "doses must be above 0", "for example 1,5,10"),
            (min(self.fields, self.timepoints) < 1, "there must be a field and a time point", "give 1 or more"),
            (self.minutes <= 0, "time points need minutes between them", "for example 15"),
            (self.dosed_at < 0, "dosed_at counts time points from 0", "for example 2"),
            (self.cells is not None and self.cells <= 0, "a field needs cells", "for example 40"),
            (min(rates) < 0 or max(rates) > 1, "rates are shares of the frames", "0 to 1"),
            (self.kind in KINDS and min(self.frame_shape) < 64, "frames too small for a cell", "64 pixels at least"),
        ):
            if wrong:
                raise UsageError(what, where="rehearse", hint=hint)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(Y, X) pixels."""
        return self.shape or SHAPE[self.kind]

    @property
    def micrometres_a_pixel(self) -> float:
        """Pixel size on both axes, um."""
        return self.pixel_size_um or PIXEL_SIZE_UM[self.kind]

    @property
    def cells_a_field(self) -> float:
        """Cells in one field of view at the start: 40 on 452 x 612 pixels of 0.322 um, or what was asked for."""
        ground = self.frame_shape[0] * self.frame_shape[1] * self.micrometres_a_pixel**2
        return self.cells or ground / _GROUND_A_CELL_UM2

    @property
    def optics(self) -> Optics:
        """What the pictures need of these settings."""
        return Optics(self.frame_shape, self.micrometres_a_pixel, self.seed, self.mitosis)

    @property
    def mitosis(self) -> float:
        """Share of the cell cycle spent rounded up."""
        return self.biology.mitosis_h / self.biology.doubling_h

    def acquired_after(self, scene: Scene) -> timedelta:
        """When the frame was taken, since the first one: two seconds an image, wells in order."""
        visits = len(self.wells) * self.fields
        visit = self.wells.index(scene.well.name) * self.fields + scene.field - 1
        pause = min(2.0, 48.0 * self.minutes / visits)
        return timedelta(minutes=self.minutes * scene.timepoint, seconds=int(pause * visit))


def wells_of(assay: Assay) -> tuple[Well, ...]:
    """The wells with their treatment and their own small differences."""
    wells = []
    for name in assay.wells:
        rng = np.random.default_rng([assay.seed, zlib.crc32(name.encode()), 1])
        size, density, brightness, contrast, kill = np.exp(rng.normal(0, (0.03, 0.08, 0.03, 0.05, 0.15)))
        is_treated = name in assay.treated
        dose = assay.doses_um[assay.treated.index(name) % len(assay.doses_um)] if is_treated else 0.0
        effect = dose**2 / (dose**2 + assay.ec50_um**2)
        wells.append(
            Well(
                name=name,
                arm=TREATED if is_treated else CONTROL,
                compound=assay.compound if is_treated else "",
                dose_um=dose,
                kill_per_h=float(kill) * effect * assay.biology.kill_per_h,
                size=float(size),
                density=float(density),
                brightness=float(brightness),
                contrast=float(contrast),
            )
        )
    return tuple(wells)


def simulate(assay: Assay) -> Iterator[Scene]:
    """Every field of view at every time, in the microscope's order: time, well, field."""
    wells = wells_of(assay)
    places = [(well, number) for well in wells for number in range(1, assay.fields + 1)]
    rngs = [_field_rng(assay, well, number) for well, number in places]
    cultures = [_seeded(assay, well, rng) for (well, _), rng in zip(places, rngs, strict=True)]
    for timepoint in range(assay.timepoints):
        for place, (well, number) in enumerate(places):
            if timepoint:
                cultures[place] = _grown(assay, well, cultures[place], timepoint, rngs[place])
            yield _scene(assay, well, number, timepoint, cultures[place])


def dish_of(assay: Assay) -> Dish:
    """The ground that the cells of one field have, from the frame's first pixel's centre."""
    height, width = ((size - 1) * assay.micrometres_a_pixel for size in assay.frame_shape)
    return Dish(-_MARGIN_UM, -_MARGIN_UM, height + _MARGIN_UM, width + _MARGIN_UM, assay.biology)


def _field_rng(assay: Assay, well: Well, number: int) -> np.random.Generator:
    return np.random.default_rng([assay.seed, zlib.crc32(well.name.encode()), 2, number])


def cells_on_ground(assay: Assay, well: Well) -> int:
    """How many cells the whole ground of a field starts with, so that the frame shows `cells_a_field` on average."""
    height, width = assay.frame_shape
    seen = (height - 1) * (width - 1) * assay.micrometres_a_pixel**2
    return round(assay.cells_a_field * well.density * dish_of(assay).area_um2 / seen)


def _seeded(assay: Assay, well: Well, rng: np.random.Generator) -> Culture:
    return seed_culture(dish_of(assay), cells_on_ground(assay, well), well.size, rng)


def _grown(assay: Assay, well: Well, culture: Culture, timepoint: int, rng: np.random.Generator) -> Culture:
    """The culture from the time point before to this one, in steps of at most half an hour."""
    hours = assay.minutes / 60
    steps = math.ceil(hours / _LONGEST_STEP_H)
    dish, biology = dish_of(assay), assay.biology
    for number in range(steps):
        since_dose = hours * (timepoint - 1 - assay.dosed_at + (number + 0.5) / steps)
        drugged = well.kill_per_h > 0 and since_dose > 0
        kill = well.kill_per_h * -math.expm1(-since_dose / biology.kill_lag_h) if drugged else 0.0
        stress = Stress(biology.background_death_per_h + kill, drugged)
        culture = step(culture, hours / steps, stress, dish, rng)
    return culture


def _scene(assay: Assay, well: Well, number: int, timepoint: int, culture: Culture) -> Scene:
    rng = np.random.default_rng([assay.seed, zlib.crc32(well.name.encode()), 3, number, timepoint])
    missed, bubbly = rng.random(2) < (assay.defocus_rate, assay.bubble_rate)
    return Scene(
        well=well,
        field=number,
        timepoint=timepoint,
        hours=timepoint * assay.minutes / 60,
        cells=culture.cells,
        bubbles=_bubbles(assay, rng) if bubbly else np.empty((0, 3)),
        defocus_um=float(rng.uniform(2.2, 3.5)) if missed else 0.0,
    )


def _bubbles(assay: Assay, rng: np.random.Generator) -> Floats:
    sides = np.array(assay.frame_shape) * assay.micrometres_a_pixel
    count = int(rng.integers(1, 3))
    centres = rng.uniform(0, 1, (count, 2)) * sides
    return np.column_stack([centres, rng.uniform(0.06, 0.14, count) * sides.min()])


def as_settings(assay: Assay) -> dict[str, object]:
    """The settings as plain values, for `assay.json`."""
    plain = dataclasses.asdict(assay)
    return {**plain, "started_at": assay.started_at.isoformat(), "shape": list(assay.frame_shape)} | {
        "pixel_size_um": assay.micrometres_a_pixel
    }
