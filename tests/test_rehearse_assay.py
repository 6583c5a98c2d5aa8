"""The simulated assay: repeatable, different by seed, and biologically legal."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellvigil.errors import UsageError
from cellvigil.rehearse.assay import Assay, simulate, wells_of
from cellvigil.rehearse.cells import Biology
from cellvigil.rehearse.run import run
from cellvigil.rehearse.scene import APOPTOTIC, DEBRIS, LIVE, NECROTIC
from cellvigil.rehearse.score import dead_share

SMALL = Assay(wells=("A1", "B2"), treated=("B2",), timepoints=4, shape=(128, 160), cells=5, stain_every=2)
BIG = Assay(wells=("A1", "A2", "B1", "B2"), timepoints=13, shape=(512, 512), cells=60)
NOBODY_DIES = Biology(background_death_per_h=0.0, dead_at_start=0.0)
LEGAL = {
    LIVE: {LIVE, APOPTOTIC, NECROTIC},
    APOPTOTIC: {APOPTOTIC, NECROTIC, DEBRIS},
    NECROTIC: {NECROTIC},
    DEBRIS: {DEBRIS},
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["gen5", "nanolive"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    for name in ("one", "two"):
        run(replace(SMALL, kind=kind), tmp_path / name)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert len(one) == 2 + 4 + (
        12 if kind == "gen5" else 8
    )  # sheets, truth, frames, and Gen5's two stained reads of two wells
    assert one == two


def test_another_seed_gives_other_cells_and_other_pictures(tmp_path: Path) -> None:
    for seed in (1, 2):
        run(replace(SMALL, seed=seed), tmp_path / str(seed))
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert one.keys() == two.keys()
    assert {name for name in one if one[name] == two[name]} <= {"truth/plate.csv", "plate.csv", "events.csv"}


def test_how_many_pieces_and_how_slow_does_not_change_a_byte(tmp_path: Path) -> None:
    waits: list[float] = []
    run(SMALL, tmp_path / "fast")
    run(SMALL, tmp_path / "slow", pace_s=5.0, pieces=7, pause_s=0.25, sleep=waits.append, clock=lambda: 0.0)
    assert contents(tmp_path / "fast") == contents(tmp_path / "slow")
    assert Counter(waits)[0.25] == 6 * 12  # six pauses a file
    assert {5.0, 10.0, 15.0} <= set(waits)  # and each time point at its own time


def test_scenes_come_in_the_microscopes_order() -> None:
    scenes = list(simulate(replace(SMALL, fields=2, timepoints=2)))
    order = [(scene.timepoint, scene.well.name, scene.field) for scene in scenes]
    assert order == [(t, well, field) for t in (0, 1) for well in ("A1", "B2") for field in (1, 2)]


def test_cells_only_change_state_as_cells_do() -> None:
    last: dict[tuple[str, int], int] = {}
    steps: Counter[tuple[int, int]] = Counter()
    for scene in simulate(replace(BIG, minutes=30.0, timepoints=40)):  # frames at the simulation's own steps
        for cell in scene.cells:
            key = (scene.well.name, int(cell["id"]))
            if key in last:
                steps[last[key], int(cell["state"])] += 1
            last[key] = int(cell["state"])
    assert all(after in LEGAL[before] for before, after in steps)
    assert {(LIVE, APOPTOTIC), (LIVE, NECROTIC), (APOPTOTIC, NECROTIC)} <= set(steps)


@pytest.mark.parametrize("detach", [0.0, 0.5])
def test_ids_are_never_used_twice_and_only_detached_cells_vanish(detach: float) -> None:
    there: dict[str, dict[int, int]] = {}
    gone: dict[str, set[int]] = defaultdict(set)
    for scene in simulate(replace(BIG, biology=replace(BIG.biology, detach_per_h=detach))):
        ids, states = scene.cells["id"].tolist(), scene.cells["state"].tolist()
        assert len(ids) == len(set(ids))
        assert not gone[scene.well.name] & set(ids)
        lost = set(there.get(scene.well.name, {})) - set(ids)
        gone[scene.well.name] |= lost
        there[scene.well.name] = dict(zip(ids, states, strict=True))
    assert bool(gone["B1"]) is (detach > 0)
    assert NECROTIC in there["A1"].values() or detach


def test_division_only_adds_cells() -> None:
    assay = replace(BIG, treated=(), cells=30, biology=NOBODY_DIES)
    counts: dict[str, list[int]] = defaultdict(list)
    for scene in simulate(assay):
        counts[scene.well.name].append(int((scene.cells["state"] == LIVE).sum()))
    for series in counts.values():
        assert series == sorted(series)
        assert 1.5 < series[-1] / series[0] < 3.0  # a day at a doubling time of 22 hours


def test_a_full_dish_stops_dividing() -> None:
    crowded = replace(BIG, treated=(), cells=110, timepoints=20, minutes=240.0, biology=NOBODY_DIES, wells=("A1",))
    counts = [len(scene.cells) for scene in simulate(crowded)]
    assert counts[-1] < 2 * counts[0]  # 76 hours would make eleven times as many


def test_the_treated_arm_dies_after_the_dose_and_the_control_does_not() -> None:
    shares: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for scene in simulate(BIG):
        counts = Counter(("live", "apoptotic", "necrotic", "debris")[state] for state in scene.cells["state"])
        shares[scene.well.arm, scene.timepoint].update(counts)
    treated = [dead_share(shares["treated", time]) for time in range(BIG.timepoints)]
    control = [dead_share(shares["control", time]) for time in range(BIG.timepoints)]
    assert max(treated[: BIG.dosed_at + 1]) < 0.12
    assert treated[-1] > 0.7
    assert max(control) < 0.15


def test_a_higher_dose_kills_faster() -> None:
    wells = wells_of(
        replace(BIG, wells=("A1", "A2", "A3", "A4"), treated=("A2", "A3", "A4"), doses_um=(0.5, 2.5, 50.0))
    )
    assert [well.dose_um for well in wells] == [0.0, 0.5, 2.5, 50.0]
    rates = [well.kill_per_h for well in wells]
    assert rates == sorted(rates)
    assert rates[0] == 0


def test_wells_differ_and_cells_have_the_size_of_cells() -> None:
    first = list(simulate(replace(BIG, timepoints=1)))
    assert len({scene.well.brightness for scene in first}) == len(first)
    live = np.concatenate([scene.cells[scene.cells["state"] == LIVE]["size_um"] for scene in first])
    assert 8 < np.median(live) < 9.5  # radius at division: 16 to 19 um across


def test_defocus_and_bubbles_come_at_the_rates_asked_for() -> None:
    scenes = list(simulate(replace(SMALL, timepoints=250, defocus_rate=0.2, bubble_rate=0.1, stain_every=0)))
    assert 0.15 < np.mean([scene.defocus_um > 0 for scene in scenes]) < 0.25
    assert 0.06 < np.mean([len(scene.bubbles) > 0 for scene in scenes]) < 0.14


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "zeiss"}, "zeiss"),
        ({"wells": ()}, "wells"),
        ({"wells": ("A1", "A1"), "treated": ()}, "wells"),
        ({"treated": ("H12",)}, "treated well"),
        ({"doses_um": ()}, "doses"),
        ({"doses_um": (-1.0,)}, "doses"),
        ({"fields": 0}, "field"),
        ({"timepoints": 0}, "time point"),
        ({"minutes": 0.0}, "minutes"),
        ({"dosed_at": -1}, "dosed_at"),
        ({"cells": 0.0}, "cells"),
        ({"defocus_rate": 1.5}, "rates"),
        ({"bubble_rate": -0.1}, "rates"),
        ({"shape": (16, 16)}, "too small"),
    ],
)
def test_settings_that_make_no_assay_are_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Assay(**settings)  # type: ignore[arg-type]
