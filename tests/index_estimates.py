"""Live indexes of wells as a test writes them down, and who is whose control."""

from __future__ import annotations

import numpy as np

from cellvigil.response.epochs import controls
from cellvigil.response.values import Estimate
from response_plates import plan_of, plate

NAN = float("nan")


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def estimates(live, spread=0.1):
    live = np.asarray(live, dtype=np.float64)
    return Estimate(live, live * np.exp(-spread), live * np.exp(spread))


def held(roles):
    return controls(plate(np.full((len(roles), 1), 9)), plan_of(roles))
