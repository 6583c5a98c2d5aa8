"""Where nothing can be said about an onset, nothing is said, and why."""

from __future__ import annotations

import numpy as np
import pytest

from cellvigil.platemap import NO_PLAN
from dying_wells import POINTS, ROLES, counted, found, killed, shares
from response_plates import plan_of, plate


@pytest.mark.parametrize(
    ("roles", "treated_h", "word"),
    [
        ("t" * 13 + "c", 2.5, "1, needed are 2"),
        ("t" * 14, 2.5, "0, needed are 2"),
        (ROLES, np.nan, "no treatment time"),
    ],
)
def test_where_nothing_can_be_said_it_says_why(roles, treated_h, word):
    result = found(counted(killed(*range(8))), plan_of(roles), treated_h=treated_h)
    assert (result.place < 0).all()
    assert np.isnan(result.evidence).all()
    for role, reason in zip(roles, result.why_not, strict=True):
        assert (word in reason) if role == "t" else not reason


def test_nothing_is_said_where_control_wells_change_from_look_to_look():
    share = np.random.default_rng(0).beta(0.3, 3, (len(ROLES), POINTS))
    result = found(counted(share))
    assert (result.place < 0).all()
    assert all("from look to look" in reason for reason in result.why_not[:8])
    assert not any(result.why_not[8:])


def test_nothing_is_said_while_fewer_than_two_controls_are_seen():
    gone = [(well, time) for well in range(9, 14) for time in range(12, POINTS)]
    result = found(counted(killed(1, at=13), missing=gone))
    assert np.isfinite(result.evidence[0, 3:12]).all()
    assert np.isnan(result.evidence[:, 12:]).all()


def test_plates_without_map_time_points_or_frames():
    assert (found(counted(shares()), NO_PLAN).place < 0).all()
    assert found(plate(np.zeros((14, 0), dtype=int))).evidence.shape == (14, 0)
    blind = plate(np.full((14, 3), 9), missing=[(well, time) for well in range(14) for time in range(3)])
    assert np.isnan(found(blind).evidence).all()
