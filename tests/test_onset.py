"""Onsets: what is found, what is not, and that an answer never changes for data that did not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.platemap import CONTROL, TREATED, PlatePlan, WellPlan
from cellvigil.response.deviation import MIN_CELLS
from cellvigil.response.onset import limit
from dying_wells import POINTS, ROLES, TREATED_AT, counted, found, killed, shares
from response_plates import HOUR, event, names, plan_of, plate


def same(first, second):
    np.testing.assert_allclose(first, second, rtol=1e-9)


def test_dying_wells_are_found_soon_after_they_begin_and_no_others():
    result = found(counted(killed(1, 6)))
    assert np.flatnonzero(result.place >= 0).tolist() == [1, 6]
    assert ((result.place[[1, 6]] > 10) & (result.place[[1, 6]] <= 14)).all()
    assert (result.at_s[[1, 6]] == result.place[[1, 6]] * HOUR).all()
    assert np.isnan(np.delete(result.at_s, [1, 6])).all()
    assert result.why_not == ("",) * len(ROLES)


def test_the_onset_stands_where_the_evidence_first_reaches_its_limit():
    result = found(counted(killed(1, 6)))
    for well in (1, 6):
        told = np.nan_to_num(result.evidence[well])
        assert told[result.place[well]] >= 1 > told[: result.place[well]].max()


def test_stronger_effects_are_found_sooner():
    places = [found(counted(killed(3, rate=rate))).place[3] for rate in (0.1, 0.3, 1.0)]
    assert 10 < places[2] <= places[1] <= places[0]
    assert places[2] < places[0]


def test_dying_and_dead_cells_count_alike_and_artefacts_not_at_all():
    counts = counted(killed(1))
    dying = counts.counts.copy()
    dying[..., 1], dying[..., 2], dying[..., 3] = dying[..., 2], 0, 500
    same(found(replace(counts, counts=dying)).evidence, found(counts).evidence)


def test_wells_that_get_better_have_no_onset():
    share = shares() + 0.3
    share[2, 10:] = 0.01
    assert (found(counted(share)).place < 0).all()


def test_what_befalls_the_whole_plate_is_no_onset():
    share = shares()
    share[:, 8:] += 0.4
    result = found(counted(share))
    assert (result.place < 0).all()
    assert np.isfinite(result.evidence[:8, 8:]).all()  # nor does it silence anything


def test_wells_that_always_had_more_dead_cells_have_no_onset():
    share = shares()
    share[2] = 0.35
    assert (found(counted(share)).place < 0).all()


def test_where_deaths_multiply_a_well_that_had_many_gets_more_and_has_no_onset():
    share = shares() * 0 + 0.04
    share[2] = 0.25
    odds = share[:, 10:] / (1 - share[:, 10:]) * 8
    share[:, 10:] = odds / (1 + odds)
    result = found(counted(share, cells=2000))
    assert np.abs(result.evidence[:8, 12:]).max() < 0.12  # 0.25 to 0.73 is to it what 0.04 to 0.25 is to the others


@pytest.mark.parametrize("at", [5, 12, 20])
def test_one_odd_look_is_no_onset(at):
    share = shares()
    share[4, at] = 0.95
    assert (found(counted(share)).place < 0).all()


def test_looks_before_the_treatment_are_not_tested():
    result = found(counted(killed(1, at=2)), treated_h=20.0)
    assert np.isnan(result.evidence[:, :21]).all()
    assert np.isfinite(result.evidence[:8, 21:]).all()


def test_only_treated_wells_are_tested():
    roles = "tt-b" + "c" * 10
    result = found(counted(killed(0, 1, 2, 3, 4)), plan_of(roles))
    assert np.flatnonzero(result.place >= 0).tolist() == [0, 1]
    assert np.isnan(result.evidence[2:]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, POINTS), st.sampled_from([-1.0, TREATED_AT]), st.sets(st.integers(0, 13)))
def test_later_time_points_change_nothing_that_was_said(seed, until, treated_h, late):
    rng = np.random.default_rng(seed)
    missing = [(int(well), int(time)) for well, time in zip(*np.nonzero(rng.random((14, POINTS)) < 0.15), strict=True)]
    missing += [(well, time) for well in late for time in range(12)]
    whole = counted(killed(1, 6, rate=0.4), seed=seed, missing=missing)
    begun = plate(whole.counts[:, :until, :, 0], whole.counts[:, :until, :, 2],
                  missing=[place for place in missing if place[1] < until])  # fmt: skip
    shifts = {("A2", 7): 1.0, ("A10", 9): 1.0}
    later, sooner = (found(each, treated_h=treated_h, shifts=shifts) for each in (whole, begun))
    same(sooner.evidence, later.evidence[:, :until])
    kept = np.where(later.place < until, later.place, -1)
    assert sooner.place.tolist() == kept.tolist()


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(len(ROLES))))
def test_the_order_of_the_wells_does_not_matter(order):
    counts = counted(killed(1, 6), missing=[(0, 2), (9, 5), (6, 12)])
    there = np.asarray(order)
    turned = replace(
        counts,
        wells=tuple(counts.wells[place] for place in order),
        **{name: getattr(counts, name)[there] for name in ("acquired_s", "counts", "counted", "settled", "version")},
    )
    same(found(turned).evidence, found(counts).evidence[there])


def test_the_calendar_does_not_matter():
    counts = counted(killed(1, 6))
    later = replace(counts, acquired_s=counts.acquired_s + 1e9)
    same(found(later, treated_h=TREATED_AT + 1e9 / HOUR).evidence, found(counts).evidence)


@pytest.mark.parametrize("every", [0.25, 2.0])
def test_what_is_found_does_not_hang_on_how_often_it_is_looked(every):
    hours = np.arange(-3, 24 / every) * every
    share = np.full((len(ROLES), len(hours)), 0.05)
    share[2] += 0.95 * (1 - np.exp(-0.3 * np.maximum(hours - 6, 0)))
    result = found(counted(share, hours=hours), treated_h=0.0)
    assert np.flatnonzero(result.place >= 0).tolist() == [2]
    assert 6 < result.at_s[2] / HOUR <= 6 + 3 + 2 * every


def test_looks_that_lack_pause_or_show_few_cells_are_passed_over():
    out = [event(12.5, "plate_out", "A2"), event(14.5, "plate_in", "A2")]
    counts = counted(killed(1), missing=[(1, 11), (1, 15)])
    result = found(counts, events=out, shifts={("A2", 15): 0.0})
    assert np.isnan(result.evidence[1, [11, 13, 14, 15]]).all()
    assert result.place[1] > 11
    few = plate(np.full((14, 6), MIN_CELLS - 1))
    assert np.isnan(found(few).evidence).all()


@pytest.mark.parametrize("at", [14, 16, 19])
def test_a_new_baseline_does_not_make_a_dying_well_healthy(at):
    share = killed(1, rate=0.15)
    share[1, at:] = share[1, 0]  # the field moved to a place that looks as at the beginning, and where no more die
    moved, unknown = found(counted(share), shifts={("A2", at): 1.0}), found(counted(share))
    before = moved.evidence[1, at - 1]
    assert moved.evidence[1, -1] > 0.7 * before > 0.2  # what had risen by then stays risen
    assert unknown.evidence[1, -1] < 0.2 * before
    assert moved.place[1] == unknown.place[1] or moved.place[1] >= at  # and an onset found before stays found


def test_another_index_that_sees_more_dead_cells_is_no_onset():
    share = shares() + 0.02
    share[:, 12:] *= 4
    swapped = np.where(np.arange(POINTS) < 12, 0, 1)
    assert (found(counted(share, version=swapped)).place < 0).all()
    onset_before = found(counted(killed(1), version=swapped))
    assert np.flatnonzero(onset_before.place >= 0).tolist() == [1]


def test_without_a_look_before_the_treatment_the_first_is_the_baseline():
    result = found(counted(killed(1)), treated_h=-1.0)
    assert np.flatnonzero(result.place >= 0).tolist() == [1]


def test_wells_are_held_against_controls_of_their_own_cell_line():
    lines = ["HeLa"] * 7 + ["A549"] * 7
    roles = [TREATED, TREATED, *[CONTROL] * 5] * 2
    plan = PlatePlan({w: WellPlan(w, r, cell_line=line) for w, r, line in zip(names(14), roles, lines, strict=True)})
    share = shares()
    share[7:, 10:] += 0.5  # all A549 die, treated or not
    assert (found(counted(share), plan).place < 0).all()
    share[0, 10:] += 0.5
    assert np.flatnonzero(found(counted(share), plan).place >= 0).tolist() == [0]


def test_the_limit_rises_with_all_that_must_be_promised_at_once():
    wells = [limit(count, 0.05, 72) for count in (1, 4, 60, 352)]
    assert wells == sorted(wells)
    assert wells[0] < wells[-1]
    assert limit(60, 0.01, 72) > limit(60, 0.05, 72) > limit(60, 0.05, 24)
    assert 2 < limit(1, 0.05, 72) < limit(352, 0.05, 72) < 7


def test_plates_without_effect_keep_the_promise():
    """A small one with fixed seeds; benchmarks/onset.py has the large one."""
    rng, plates, hits = np.random.default_rng(11), 60, 0
    roles, correlation = "t" * 40 + "c" * 8, 0.08
    wells = 1 / correlation - 1
    for _ in range(plates):
        own = rng.beta(0.06 * wells, 0.94 * wells, (48, 1))
        drift = np.exp(0.1 * np.cumsum(rng.standard_normal((48, 30)), axis=1))
        share = np.clip(own * drift * np.linspace(1, 2, 30), 0, 0.95)
        hits += bool((found(counted(share, 120, int(rng.integers(1e9))), plan_of(roles)).place >= 0).any())
    assert hits <= 6  # at 5 %, more than six of sixty come by chance once in thirty times
