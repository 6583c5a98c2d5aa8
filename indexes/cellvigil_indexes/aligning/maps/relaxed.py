"""Fused Gromov-Wasserstein that need not keep the class shares: an unbalanced transport with few, named freedoms.

Balanced transport forces the references' class proportions on the target (`methods.md`, "Transport"). Here the target's
masses stay, and so does the equality of the cells of one class; the class masses m are free at a price:

    cost(T) + price * KL(m | shares),  T' 1 = q,  T 1 = m of its class / cells of its class.

A price of 0 would take the shares that are cheapest to transport, an infinite one keeps those given. Conditional
gradient as in `fused`; a direction's class masses come from Sinkhorn iterations in which they have a closed form
(Chizat et al., "Scaling algorithms for unbalanced optimal transport problems", 2018), its plan from the simplex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I16, I64
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.maps.fused import (
    ITERATIONS,
    SETTLED,
    Plan,
    Problem,
    cost,
    crossed,
    crossed_product,
)
from cellvigil_indexes.aligning.maps.simplex import emd
from cellvigil_indexes.aligning.values import F64

_SMOOTHING = 0.1  # of the costs' spread: how far Sinkhorn blurs, which only shifts the class masses tried next
_ROUNDS = 100  # of Sinkhorn
_STEPS = np.linspace(0.0, 1.0, 201)  # lengths that the line search tries: KL and a concave parabola have no one formula


@dataclass(frozen=True, slots=True, eq=False)
class _Classes:
    """Cells by class: only classes that have mass."""

    of: I64  # (N,) 0..C-1
    cells: F64  # (C,) how many
    shares: F64  # (C,) as given, sum 1

    def spread(self, masses: F64) -> F64:
        """Class masses (C,) shared out evenly to the cells, (N,)."""
        return np.asarray((masses / self.cells)[self.of])

    def gathered(self, values: F64) -> F64:
        """Sums over the cells of each class, (C,)."""
        return np.bincount(self.of, weights=values, minlength=len(self.cells)).astype(np.float64)

    def divergence(self, masses: F64) -> float:
        """KL(masses | shares)."""
        return float((masses * np.log(np.maximum(masses, np.finfo(np.float64).tiny) / self.shares)).sum())


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    plan: F64
    crossed: F32  # A plan B
    masses: F64  # (C,) of the classes in it


def relaxed_plan(given: Problem, labels: I16, *, pull: float, iterations: int = ITERATIONS) -> Plan:
    """The coupling, whose class masses may differ from those in `given.p` (N,), which are the shares pulled to.

    `pull` is in standard deviations of the features' costs: in many dimensions all cells are nearly equally far, and
    what a class costs more than another is small. `Plan.cost` is without the price. Cells of one class must have equal
    masses in `given.p`. Two starts, as in `fused`: mirrored clusters are a trap for the structure alone.

    Raises UsageError for a pull that is not above 0, or where POT is not installed.
    """
    if not pull > 0:
        raise UsageError(f"pull {pull} must be above 0: without any, the cheapest class may take all")
    of = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    shares = np.bincount(of, weights=given.p).astype(np.float64)
    classes = _Classes(of, np.bincount(of).astype(np.float64), shares)
    price = pull * (float(given.features.std()) + np.finfo(np.float64).tiny)
    product = _State(np.outer(given.p, given.q), crossed_product(given), shares)
    wanted = _cheapest_masses(given.features, given.q, classes, price)
    plan, _ = emd(classes.spread(wanted), given.q, given.features)
    features = _State(plan, crossed(given, plan), wanted)
    found = [
        (*_descended(given, classes, price, state, iterations), name)
        for name, state in (("product", product), ("features", features))
    ]
    worths = [cost(given, state.plan) + price * classes.divergence(state.masses) for state, _, _ in found]
    state, steps, name = found[int(np.argmin(worths))]
    return Plan(state.plan, cost(given, state.plan), steps, name)


def _descended(given: Problem, classes: _Classes, price: float, state: _State, iterations: int) -> tuple[_State, int]:
    """Conditional gradient from `state`, and how many steps it took."""
    own = np.square(given.source, dtype=np.float64)
    steps = 0
    while steps < iterations:
        steps += 1
        gradient = (1 - given.alpha) * given.features - 4 * given.alpha * state.crossed
        gradient += 2 * given.alpha * (own @ classes.spread(state.masses))[:, None]
        wanted = _cheapest_masses(gradient, given.q, classes, price)
        towards, _ = emd(classes.spread(wanted), given.q, gradient)
        change, moved = towards - state.plan, classes.spread(wanted - state.masses)
        bend = crossed(given, towards) - state.crossed
        curve = given.alpha * (float(moved @ own @ moved) - 2 * float(np.vdot(bend, change)))
        way = state.masses + _STEPS[:, None] * (wanted - state.masses)
        prices = price * np.array([classes.divergence(masses) for masses in way])
        values = float(np.vdot(gradient, change)) * _STEPS + curve * _STEPS**2 + prices - prices[0]
        best = int(values.argmin())
        length = float(_STEPS[best])
        state = _State(state.plan + length * change, state.crossed + np.float32(length) * bend, way[best])
        if values[best] > -SETTLED:
            break
    return state, steps


def _cheapest_masses(costs: F64, q: F64, classes: _Classes, price: float) -> F64:
    """Class masses (C,) of the plan that is cheapest for fixed costs with the price, blurred by Sinkhorn's entropy."""
    smooth = _SMOOTHING * float(costs.std()) + np.finfo(np.float64).tiny
    lowered = costs - costs.min(axis=0)
    lowest = lowered.min(axis=1)
    kernel: F32 = np.exp((lowest[:, None] - lowered) / smooth).astype(np.float32)
    column = q.copy()
    masses = classes.shares
    for _ in range(_ROUNDS):
        reached = (kernel @ column.astype(np.float32)).astype(np.float64)
        worth = classes.gathered(np.log(reached) - lowest / smooth) / classes.cells + np.log(classes.cells)
        logs = (smooth * worth + price * np.log(classes.shares)) / (smooth + price)
        masses = np.exp(logs - logs.max())
        masses /= masses.sum()
        row = classes.spread(masses) / reached
        column = q / (kernel.T @ row.astype(np.float32))
    return masses
