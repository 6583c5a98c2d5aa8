"""Adam (Kingma and Ba 2015, algorithm 1) over named arrays, with torch's default betas and epsilon."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cellvigil.data import Array


class Adam:
    """Steps downhill; the arrays that it was given are changed in place."""

    def __init__(
        self,
        weights: Mapping[str, Array],
        *,
        rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self._weights = weights
        self._rate, self._betas, self._epsilon = rate, betas, epsilon
        self._first = {name: np.zeros_like(array) for name, array in weights.items()}
        self._second = {name: np.zeros_like(array) for name, array in weights.items()}
        self._steps = 0

    def step(self, slopes: Mapping[str, Array]) -> None:
        """One step against the gradient, an array of its shape for every array."""
        self._steps += 1
        one, two = self._betas
        rate = self._rate / (1 - one**self._steps)
        root = np.sqrt(1 - two**self._steps)
        for name, array in self._weights.items():
            slope, first, second = slopes[name], self._first[name], self._second[name]
            first += (1 - one) * (slope - first)
            second += (1 - two) * (slope * slope - second)
            np.subtract(array, rate * first / (np.sqrt(second) / root + self._epsilon), out=array)
