"""Logistic regression with a ridge and signs, by Newton steps: a few features, so nothing larger is needed.

Maximum likelihood with Newton steps: Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 4.4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from cellvigil.data import Bools

F64 = npt.NDArray[np.float64]

RIDGE = 1.0
"""Penalty on the squared weights of standardised features, in cells: an index that is never wrong stays finite."""

_STEPS = 50


def fit(features: F64, right: Bools, not_negative: Sequence[int]) -> tuple[float, F64]:
    """Intercept and weights, (f,), of the probability of being right.

    Args:
        features: (n, f), as they come; a feature that never changes gets 0.
        right: (n,).
        not_negative: features whose weight must be 0 or more.

    The penalised likelihood is concave, so its best with signs is its best without signs on some choice of the signed
    features, the others at 0: the whole choice where that fits, else the best of all. Raises ValueError where all or
    none are right.
    """
    if right.all() or not right.any():
        raise ValueError("all or none are right: nothing tells them apart")
    centre, spread = features.mean(axis=0), features.std(axis=0)
    changing = [place for place in range(features.shape[1]) if spread[place] > 1e-12]
    scaled = (features - centre) / np.where(spread > 1e-12, spread, 1)
    free = [place for place in changing if place not in not_negative]
    signed = [place for place in changing if place in not_negative]
    best, weights, intercept = -np.inf, np.zeros(features.shape[1]), 0.0
    for size in range(len(signed), -1, -1):
        for kept in combinations(signed, size):
            places = [*kept, *free]
            theta, value = _newton(scaled[:, places], right)
            if value > best and (theta[1 : 1 + size] >= 0).all():
                best, intercept, weights = value, float(theta[0]), np.zeros(features.shape[1])
                weights[places] = theta[1:] / spread[places]
        if size == len(signed) and np.isfinite(best):
            break
    return intercept - float(weights @ centre), weights


def _newton(features: F64, right: Bools) -> tuple[F64, float]:
    """Parameters, the intercept first, and the penalised log-likelihood there."""
    design = np.column_stack([np.ones(len(features)), features])
    ridge = np.diag([1e-9, *[RIDGE] * features.shape[1]])
    theta = np.zeros(design.shape[1])
    value = _value(theta, design, right, ridge)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-design @ theta))
        slope = design.T @ (right - p) - ridge @ theta
        step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design + ridge, slope)
        length = 1.0
        while (after := _value(theta + length * step, design, right, ridge)) < value and length > 1e-6:
            length /= 2
        theta = theta + length * step
        if after - value < 1e-10 * (1 + abs(value)):
            return theta, max(after, value)
        value = after
    return theta, value


def _value(theta: F64, design: F64, right: Bools, ridge: F64) -> float:
    logit = design @ theta
    likelihood = -np.logaddexp(0, np.where(right, -logit, logit))
    return float(likelihood.sum() - theta @ ridge @ theta / 2)
