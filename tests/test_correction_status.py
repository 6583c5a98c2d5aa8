"""When a plate's shares are corrected for an index's confusion, and when that is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellvigil.response.correction import LEAST_TYPICAL, MOST_NOVEL, Confusion, corrected, take_apart
from cellvigil.response.correlation import NOTHING_KNOWN, Correlation, intraclass
from counted_cells import CLASSES, HOME, STATES, called_cells, clustered_cells, mixture, plate_counts

SOME = Correlation(0.05, "fields", 20)
KNOWN = Confusion(CLASSES, HOME * 1e6)
MEASURED = Confusion(CLASSES, HOME * 300)


def status_of(
    confusion: Confusion | None, *, novel: float = np.nan, typical: float = np.nan, cells: np.ndarray | None = None
) -> str:
    found, status = corrected(
        plate_counts(mixture(0.6, 0.1, 0.2, 0.1) if cells is None else cells),
        confusion,
        SOME,
        novel=novel,
        typical=typical,
    )
    assert (status == "ok") == (~np.isnan(found.value)).any()
    return status


@pytest.mark.parametrize(
    ("confusion", "status"),
    [
        (None, "no_confusion"),
        (Confusion(("live", "apoptotic", "necrotic"), HOME[:3, :4] * 300), "no_confusion"),
        (Confusion((*CLASSES, "other"), np.eye(5, 6) * 300), "no_confusion"),
        (Confusion(("live", "apoptotic", "necrotic", "dust"), HOME * 300), "no_confusion"),
        (Confusion(CLASSES, HOME * [[300], [300], [0], [300]]), "no_confusion"),
        (replace(MEASURED, overridden=True), "overridden"),
        (Confusion(CLASSES, np.vstack([HOME[0], 0.95 * HOME[0] + 0.05 * HOME[1], HOME[2:]]) * 300), "ill_conditioned"),
        (Confusion(CLASSES, np.tile(HOME[0], (4, 1)) * 300), "ill_conditioned"),
        (MEASURED, "ok"),
    ],
    ids=["none", "fewer", "more", "another", "no cells", "overridden", "nearly alike", "alike", "ok"],
)
def test_a_confusion_that_does_not_fit_the_plate_is_not_used(confusion: Confusion | None, status: str) -> None:
    assert status_of(confusion) == status


@pytest.mark.parametrize(("typical", "status"), [(np.nan, "ok"), (0.5, "ok"), (LEAST_TYPICAL, "ok"), (0.15, "shifted")])
def test_control_cells_of_which_few_are_typical_forbid_it(typical: float, status: str) -> None:
    assert status_of(MEASURED, novel=0.1, typical=typical) == status


@pytest.mark.parametrize(("novel", "status"), [(np.nan, "ok"), (0.1, "ok"), (MOST_NOVEL, "ok"), (0.5, "shifted")])
def test_control_cells_that_look_like_none_of_the_references_forbid_it(novel: float, status: str) -> None:
    assert status_of(MEASURED, novel=novel) == status


TOWARDS = np.vstack([[0.55, 0.39, 0.03, 0.01, 0.02], HOME[1:]])  # live cells are called apoptotic, and none is novel


@pytest.mark.parametrize(
    ("begins", "ends", "rates", "status"),
    [
        ((0.95, 0.03, 0.02, 0.0), (0.95, 0.03, 0.02, 0.0), HOME, "ok"),
        ((0.95, 0.03, 0.02, 0.0), (0.5, 0.2, 0.3, 0.0), HOME, "ok"),
        ((0.95, 0.03, 0.02, 0.0), (0.95, 0.03, 0.02, 0.0), TOWARDS, "shifted"),
        ((0.6, 0.2, 0.2, 0.0), (0.6, 0.2, 0.2, 0.0), HOME, "shifted"),
    ],
    ids=["alive", "dying later", "alive, called apoptotic", "dying at once"],
)
def test_control_wells_that_begin_with_dying_cells_forbid_it(
    begins: tuple[float, ...], ends: tuple[float, ...], rates: np.ndarray, status: str
) -> None:
    """No fit tells cells that die from cells that are called so; a fresh plate's controls do."""
    course = np.concatenate([mixture(*begins, rates=rates)] * 2 + [mixture(*ends, rates=rates)] * 3, axis=1)
    counts, controls = plate_counts(course), np.arange(6) < 3
    assert corrected(counts, MEASURED, SOME, controls=controls)[1] == status
    assert take_apart(counts.at(np.full(6, 9)), MEASURED, SOME, controls=controls, course=counts)[1] == status
    assert corrected(counts, MEASURED, SOME)[1] == "ok"


@pytest.mark.parametrize("number", [0, 1])
def test_one_control_well_does_not_judge_the_plate(number: int) -> None:
    counts = plate_counts(mixture(0.95, 0.03, 0.02, 0.0, rates=TOWARDS))
    assert corrected(counts, MEASURED, SOME, controls=np.arange(6) < number)[1] == "ok"


SHIFTED = {
    "live cells become unknown": [0.60, 0.09, 0.03, 0.01, 0.27],
    "live cells are never confused": [1.0, 0.0, 0.0, 0.0, 0.0],
}


@pytest.mark.parametrize("row", list(SHIFTED.values()), ids=list(SHIFTED))
def test_calls_that_no_mixture_explains_forbid_it(row: list[float]) -> None:
    rates = np.vstack([row, HOME[1:]])
    assert status_of(MEASURED, cells=mixture(0.97, 0.01, 0.01, 0.01, wells=12, cells=400, rates=rates)) == "residual"


def test_wells_that_are_off_in_opposite_ways_forbid_it() -> None:
    """Their mean is what was measured: only well by well it is seen that no mixture explains them."""
    usual = np.hstack([0.9 * np.eye(4), np.full((4, 1), 0.1)])
    cells = np.concatenate(
        [mixture(0.6, 0.1, 0.2, 0.1, cells=500, rates=rates) for rates in (np.eye(4, 5), 2 * usual - np.eye(4, 5))]
    )
    assert status_of(Confusion(CLASSES, usual * 300), cells=cells) == "residual"


def test_a_plate_that_is_as_measured_is_hardly_ever_flagged() -> None:
    statuses = []
    for seed in range(30):
        mean = np.random.default_rng(seed).dirichlet((6, 1, 1, 0.5), size=(12, 2))
        cells = called_cells(clustered_cells(mean, 2, 80, 0.05, seed), HOME, seed)
        matrix = Confusion(CLASSES, np.array([np.random.default_rng((seed, 1)).multinomial(200, row) for row in HOME]))
        counts = plate_counts(cells)
        statuses.append(corrected(counts, matrix, intraclass(counts, np.arange(12) < 6))[1])
    assert statuses.count("ok") >= 28


def test_a_part_of_the_course_is_judged_on_the_whole() -> None:
    rates = np.vstack([SHIFTED["live cells become unknown"], HOME[1:]])
    counts = plate_counts(
        np.concatenate([mixture(0.97, 0.01, 0.01, 0.01, rates=rates), mixture(0.97, 0.01, 0.01, 0.01)], 1)
    )
    now = counts.at(np.full(6, 3))
    assert take_apart(now, MEASURED, SOME)[1] == "ok"
    assert take_apart(now, MEASURED, SOME, course=counts)[1] == "residual"


def test_what_an_earlier_index_called_is_left_out() -> None:
    """Its confusion was another: neither a share of that time, nor its part in the judgement."""
    other = mixture(0.2, 0.1, 0.6, 0.1, rates=np.eye(4, 5))
    counts = plate_counts(np.concatenate([other, mixture(0.6, 0.1, 0.2, 0.1)], axis=1), version=[[0, 0, 1, 1]] * 6)
    found, status = corrected(counts, MEASURED, SOME)
    assert status == "ok"
    assert np.isnan(found.value[:, :2]).all()
    assert found.value[:, 2:, 2] == pytest.approx(0.2 / 0.9, abs=0.05)


def test_nothing_is_corrected_without_a_class_that_a_share_divides_by() -> None:
    counts = plate_counts([[[[30, 5]]]], states=("debris", "unknown"))
    found, status = corrected(counts, Confusion(("debris",), np.array([[90, 10]])), NOTHING_KNOWN)
    assert status in ("ok", "residual")
    assert np.isnan(found.value).all()


def test_one_class_alone_is_all_there_is() -> None:
    counts = plate_counts([[[[90, 10]]]], states=("live", "unknown"))
    found, status = corrected(counts, Confusion(("live",), np.array([[90, 10]])), NOTHING_KNOWN)
    assert status == "ok"
    assert found.value[0, 0, 0] == pytest.approx(1)


def test_states_are_matched_by_name_not_by_place() -> None:
    order = [2, 4, 0, 3, 1]
    cells = mixture(0.6, 0.1, 0.2, 0.1)
    other = corrected(plate_counts(cells[..., order], states=[STATES[place] for place in order]), KNOWN, SOME)[0]
    usual = corrected(plate_counts(cells), KNOWN, SOME)[0]
    assert other.value == pytest.approx(usual.value[..., order], nan_ok=True)
