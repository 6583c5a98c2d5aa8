"""Least squares of a Hill curve with its top at 1, by the dose at which it is at half: nested grids. Pure.

y(c) = f + (1 - f) / (1 + (c / e)^h). Where y = 0.5, (c / e)^h = 1 / (1 - 2 f). So a curve that is held to 0.5 at a
dose u has two free numbers, f (below 0.5) and h: (c / e)^h = (c / u)^h / (1 - 2 f). The profile over u is then a search
in a small box, done for many u at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.response.values import F64

FREE = 3  # u, f and h

_STEEP = (np.log(0.1), np.log(5.0))  # of log h: bounds of Hafner et al.'s GR calculator
_BEYOND = np.log(100.0)  # how far beyond the doses u is looked for, and e: the same
_ACROSS = 49  # places on the axis of u at first
_ZOOMS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Hill:
    """The values of some doses, and how near curves come to them."""

    logs: F64  # (D,) log dose, ascending
    values: F64  # (D,) means; 1 = no effect
    weights: F64  # (D,) wells
    floor: float  # the least that f may be

    @classmethod
    def of(cls, doses: F64, values: F64, weights: F64, *, floor: float) -> Hill:
        """`doses` (D,) ascending, above 0."""
        return cls(np.log(doses), values, weights, floor)

    def nearest(self) -> tuple[float, float]:
        """The dose u of the nearest curve that has one, and its weighted sum of squares."""
        places = self._axis()
        for _ in range(_ZOOMS):
            found = self.profile(places)
            best = int(found.argmin())
            step = places[1] - places[0]
            middle, least = float(places[best]), float(found[best])
            places = np.linspace(middle - step, middle + step, 9)
        return float(np.exp(middle)), least

    def profile(self, places: F64) -> F64:
        """(U,) least weighted sum of squares of the curves that are at 0.5 at these log doses."""
        shape = (len(places), 1)
        low = np.broadcast_to(np.array([self.floor, _STEEP[0]]), (len(places), 2))
        high = np.broadcast_to(np.array([0.5, _STEEP[1]]), (len(places), 2))
        middle, size = (low + high) / 2, high - low
        least: F64 = np.full(len(places), np.inf)
        for zoom in range(_ZOOMS):
            steps = np.linspace(-0.5, 0.5, 13 if not zoom else 7)
            f = np.clip(middle[:, :1] + size[:, :1] * steps, self.floor, 0.5 - 1e-6)
            h = np.clip(middle[:, 1:] + size[:, 1:] * steps, *_STEEP)
            f, h = (np.repeat(f, len(steps), axis=1), np.tile(h, len(steps)))
            z = np.exp(h)[..., None] * (self.logs - places[:, None, None]) - np.log(1 - 2 * f)[..., None]
            found = self._misfit(f, z)
            best = found.argmin(axis=1)[:, None]
            least = np.minimum(least, np.take_along_axis(found, best, 1)[:, 0])
            middle = np.column_stack([np.take_along_axis(axis, best, 1).reshape(shape) for axis in (f, h)])
            size = size * (0.3 if not zoom else 0.45)
        return least

    def least_without_half(self) -> float:
        """The least weighted sum of squares of the curves that never come down to 0.5."""
        log_e, log_h = self._axis(), np.linspace(*_STEEP, 25)
        z = np.exp(log_h)[None, :, None] * (self.logs - log_e[:, None, None])
        fall = 1 - 1 / (1 + np.exp(np.clip(z, -50, 50)))  # y = 1 - (1 - f) fall
        drop = 1 - self.values
        top = (self.weights * drop * fall).sum(axis=2) / np.maximum((self.weights * fall**2).sum(axis=2), 1e-300)
        depth = np.clip(top, 0, 0.5)[..., None]
        return float((self.weights * np.square(drop - depth * fall)).sum(axis=2).min())

    def ends(self, middle: float, limit: float) -> tuple[float, float]:
        """The doses between which the profile stays within `limit`; 0, or infinite, where it does so to the end."""
        start, places = np.log(middle), self._axis()
        step = places[1] - places[0]
        within = self.profile(places) <= limit
        below, above = np.flatnonzero(within & (places < start)), np.flatnonzero(within & (places > start))
        low = start if not below.size else float(places[below[0]])
        high = start if not above.size else float(places[above[-1]])
        open_below = below.size and below[0] == 0
        open_above = (above.size and above[-1] == len(places) - 1) or self.least_without_half() <= limit
        return (
            0.0 if open_below else float(np.exp(self._crossing(low, -step, limit))),
            np.inf if open_above else float(np.exp(self._crossing(high, step, limit))),
        )

    def _crossing(self, inside: float, step: float, limit: float) -> float:
        """The end of what is within `limit`, between `inside`, which is, and `inside + step`, which is not."""
        for _ in range(2):
            places = inside + step * np.linspace(0, 1, 9)
            beyond = np.flatnonzero(self.profile(places[1:]) > limit)
            first = int(beyond[0]) if beyond.size else 8
            inside, step = float(places[first]), step / 8
        return inside + step / 2

    def _axis(self) -> F64:
        return np.linspace(self.logs[0] - _BEYOND, self.logs[-1] + _BEYOND, _ACROSS)

    def _misfit(self, f: F64, z: F64) -> F64:
        """(U, K) weighted sums of squares for f (U, K) and z (U, K, D) = h log(c / e)."""
        y = f[..., None] + (1 - f)[..., None] / (1 + np.exp(np.clip(z, -50, 50)))
        return np.asarray((self.weights * np.square(self.values - y)).sum(axis=2))
