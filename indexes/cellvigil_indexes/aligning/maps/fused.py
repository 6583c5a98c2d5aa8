"""Fused Gromov-Wasserstein: which cell goes where, by features and by structure (section 3.3, equations 1 to 3).

Conditional gradient (Vayer et al., ICML 2019, algorithm 1), as POT's `fused_gromov_wasserstein` with its square loss
does it: L = |A_ik - B_jl|^2, the paper's times two, which is what the paper ran. Ours differs in this:

- a step's direction comes from the network simplex and has at most N + M - 1 entries, so A D B costs one dense product
  (in f32), where POT takes three (in f64); what was computed for the direction gives the next gradient too;
- the network simplex starts from the duals of the step before;
- a direction is sought for the gradient two steps ahead, as far as the last step tells it: the objective is nearly
  concave, and plain steps creep along plateaus from vertex to vertex (21 steps become 9 on `benchmarks/fgw.py`);
- it is not convex either. Two starts, all cells to all and the plan of the features alone, race for three steps, and
  the better one goes on.

POT is in the extra `index`, imported where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.maps.simplex import SMALL, Coordinates, Duals, cheapest, emd, entries_of
from cellvigil_indexes.aligning.values import F64

ITERATIONS = 12
"""Steps at most, the race included: each takes as long, and the last ones gain in the fifth digit."""

_RACE = 3  # steps of each start
_AHEAD = 2.0  # steps; 5 overshoots
_SAME = 1e-6  # of a cell's mass: less that goes elsewhere is rounding
_MANY = 0.8  # of the cells
SETTLED = 1e-6  # of the cost: a step that gains less is the last


Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A coupling of N reference cells with M target cells."""

    coupling: F64  # (N, M) T of equation 1, sum 1
    cost: float  # equation 2 with the loss above
    iterations: int
    start: str  # "product" or "features": the start that led to it


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is coupled: costs of equation 2, scaled to a mean of 1 each, and the masses."""

    features: F64  # (N, M) cost between cells
    source: F32  # (N, N) distances within the references
    target: F32  # (M, M)
    p: F64  # (N,) masses, sum 1, each above 0
    q: F64  # (M,)
    alpha: float  # 0: features alone; 1: structure alone


def problem(features: F64, source: Floats, target: Floats, p: F64, q: F64, *, alpha: float) -> Problem:
    """The problem with its three matrices scaled to a mean of 1, so that alpha weighs like with like.

    Raises UsageError for alpha outside 0..1, for shapes that do not fit, for what is not finite, and for a matrix of
    zeros.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha {alpha} must be from 0 (features alone) to 1 (structure alone)")
    if features.shape != (len(p), len(q)) or source.shape != (len(p),) * 2 or target.shape != (len(q),) * 2:
        raise UsageError(f"costs {features.shape}, {source.shape}, {target.shape} do not fit {len(p)} x {len(q)} cells")
    return Problem(
        _scaled("feature", features).astype(np.float64),
        _scaled("reference graph's", source).astype(np.float32),
        _scaled("target graph's", target).astype(np.float32),
        p,
        q,
        alpha,
    )


def fused_plan(given: Problem, *, iterations: int = ITERATIONS) -> Plan:
    """The best coupling found. Raises UsageError where POT is not installed."""
    by_features, duals = emd(given.p, given.q, given.features)
    if given.alpha == 0:
        return Plan(by_features, float((given.features * by_features).sum()), 1, "features")
    fixed = linear(given, given.p)
    there = crossed(given, by_features)
    vertex = _Vertex(_thin(given, entries_of(by_features)), there, duals)
    starts = (
        _begun(given, fixed, np.outer(given.p, given.q), crossed_product(given), vertex, start="product"),
        _begun(given, fixed, by_features, there, vertex, start="features"),
    )
    if given.features.size <= SMALL:  # so quick that both go to their end, by far and by near sight
        found = [_descended(given, fixed, start, iterations, ahead) for start in starts for ahead in (_AHEAD, 0.0)]
        state = min(found, key=lambda state: state.value)
    else:
        raced = [_descended(given, fixed, start, min(_RACE, iterations), _AHEAD) for start in starts]
        state = _descended(given, fixed, min(raced, key=lambda state: state.value), iterations - _RACE, _AHEAD)
    return Plan(state.plan, cost(given, state.plan), state.steps, state.start)


def cost(given: Problem, coupling: F64) -> float:
    """Equation 2 of any coupling (N, M), with its own masses."""
    bent = float(np.vdot(crossed(given, coupling), coupling))
    return float(np.vdot(linear(given, coupling.sum(axis=1)), coupling)) - 2 * given.alpha * bent


def linear(given: Problem, p: F64) -> F64:
    """The part (N, M) that does not bend where row masses are `p`: cost = <linear, T> - 2 alpha <A T B, T>."""
    own = np.square(given.source, dtype=np.float64) @ p
    theirs = np.square(given.target, dtype=np.float64) @ given.q
    return (1 - given.alpha) * given.features + given.alpha * (own[:, None] + theirs)


def crossed(given: Problem, coupling: F64) -> F32:
    """A T B (N, M) f32, where T has few entries that are not 0, as a plan of the network simplex has."""
    return _crossed(given, _thin(given, entries_of(coupling)))


def line_step(slope: float, curve: float) -> float:
    """Where slope t + curve t^2 is least for t in 0..1."""
    if curve > 0:
        return float(np.clip(-slope / (2 * curve), 0.0, 1.0))
    return 1.0 if slope + curve < 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Vertex:
    """A plan of the network simplex."""

    thin: Any  # (N, M) f32, sparse
    crossed: F32  # A thin B
    duals: Duals


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Where a descent stands."""

    plan: F64
    crossed: F32  # A plan B
    before: F32  # the same, a step earlier
    vertex: _Vertex  # the one stepped towards last
    value: float
    start: str
    steps: int
    done: bool = False


def _begun(given: Problem, fixed: F64, plan: F64, there: F32, vertex: _Vertex, *, start: str) -> _State:
    value = float(np.vdot(fixed, plan)) - 2 * given.alpha * float(np.vdot(there, plan))
    return _State(plan, there, there, vertex, value, start, 0)


def _descended(given: Problem, fixed: F64, state: _State, steps: int, ahead: float) -> _State:
    """At most so many steps of conditional gradient further; one that overshoots for nothing is taken again plain."""
    for _ in range(steps):
        if state.done:
            break
        far = ahead > 0 and state.before is not state.crossed
        tried = _stepped(given, fixed, state, ahead if far else 0.0)
        state = replace(tried, done=False) if tried.done and far else tried
    return state


def _stepped(given: Problem, fixed: F64, state: _State, ahead: float) -> _State:
    """One step along a plan that is best for the gradient as it will be `ahead` such steps as the last further on.

    One that gains next to nothing leaves the plan, forgets the last step and is `done`.
    """
    gradient = fixed - 4 * given.alpha * state.crossed
    aim = gradient - 4 * given.alpha * ahead * (state.crossed - state.before) if ahead else gradient
    towards, duals = cheapest(given.p, given.q, aim, state.vertex.duals)
    vertex = _followed(given, state.vertex, towards, duals)
    bend = vertex.crossed - state.crossed
    slope = _along(gradient, towards) - float(np.vdot(gradient, state.plan))
    curve = -2 * given.alpha * (_along(bend, towards) - float(np.vdot(bend, state.plan)))
    length = line_step(slope, curve)
    gain = -(slope * length + curve * length**2)
    if gain <= SETTLED * abs(state.value):
        return replace(state, before=state.crossed, vertex=vertex, steps=state.steps + 1, done=True)
    return replace(
        state,
        plan=_between(state.plan, towards, length),
        crossed=state.crossed + np.float32(length) * bend,
        before=state.crossed,
        vertex=vertex,
        value=state.value - gain,
        steps=state.steps + 1,
    )


def _thin(given: Problem, plan: Coordinates) -> Any:
    from scipy.sparse import csr_array  # noqa: PLC0415 - slow to import

    rows, columns, masses = plan
    return csr_array((masses.astype(np.float32), (rows, columns)), shape=given.features.shape)


def _crossed(given: Problem, thin: Any) -> F32:
    return np.asarray(given.source @ (thin @ given.target))


def _followed(given: Problem, last: _Vertex, plan: Coordinates, duals: Duals) -> _Vertex:
    """The vertex of these entries. Where few cells go elsewhere than in the last, only these are multiplied."""
    thin = _thin(given, plan)
    change = thin - last.thin
    change.data[np.abs(change.data) < _SAME / len(given.p)] = 0.0
    change.eliminate_zeros()
    rows = np.flatnonzero(np.diff(change.indptr))
    if len(rows) > _MANY * len(given.p):
        return _Vertex(thin, _crossed(given, thin), duals)
    there = given.source[rows].T @ (change[rows] @ given.target)  # A is symmetric
    return _Vertex(thin, last.crossed + there, duals)


def _along(matrix: Floats, plan: Coordinates) -> float:
    """<matrix, plan>."""
    rows, columns, masses = plan
    return float(matrix[rows, columns].astype(np.float64) @ masses)


def _between(plan: F64, towards: Coordinates, length: float) -> F64:
    """So far along the way from `plan` to `towards`, 0..1."""
    rows, columns, masses = towards
    out = (1.0 - length) * plan
    out[rows, columns] += length * masses
    return out


def crossed_product(given: Problem) -> F32:
    """A (p q') B, which is of rank one."""
    return np.outer(given.source @ given.p, given.target @ given.q).astype(np.float32)


def _scaled(name: str, matrix: Floats) -> Floats:
    if not np.isfinite(matrix).all():
        raise UsageError(
            f"the {name} costs are not finite", hint="join the graph's parts first, and look for broken vectors"
        )
    mean = float(matrix.mean())
    if not mean > 0:
        raise UsageError(f"the {name} costs are all 0: the cells are the same", hint="--align none")
    return matrix / mean
