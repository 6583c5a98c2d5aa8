"""Shares corrected for an index's confusion, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellvigil.response.correction import Confusion, corrected
from cellvigil.response.correlation import Correlation, intraclass
from cellvigil.response.shares import plain
from counted_cells import CLASSES, HOME, called_cells, clustered_cells, mixture, plate_counts

SOME = Correlation(0.05, "fields", 20)
KNOWN = Confusion(CLASSES, HOME * 1e6)
MEASURED = Confusion(CLASSES, HOME * 300)


@pytest.mark.parametrize("dead", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_corrected_share_is_within_2_points_where_the_plain_one_is_far_off(dead: float) -> None:
    counts = plate_counts(mixture(0.9 * (1 - dead), 0, 0.9 * dead, 0.1, cells=20_000))
    found, status = corrected(counts, KNOWN, SOME)
    assert status == "ok"
    assert found.value[..., 2] == pytest.approx(dead, abs=0.02)
    assert found.value[..., 0] == pytest.approx(1 - dead, abs=0.02)
    first = plain(counts, SOME).value
    assert np.abs(first[..., [0, 2]] - [1 - dead, dead]).max() > 0.05


def test_artefact_is_unmixed_and_left_out_of_the_denominator() -> None:
    counts = plate_counts(mixture(0.3, 0, 0, 0.7, cells=20_000))
    found, status = corrected(counts, KNOWN, SOME)
    assert status == "ok"
    assert found.value[..., 0] == pytest.approx(1, abs=0.03)  # debris is called necrotic: 14 points, uncorrected
    assert np.isnan(found.value[..., 3:]).all()
    assert (plain(counts, SOME).value[..., 2] > 0.1).all()


def test_without_confusion_corrected_is_plain() -> None:
    counts = plate_counts(mixture(0.6, 0.1, 0.2, 0.1, rates=np.eye(4, 5), cells=100))
    found, status = corrected(counts, Confusion(CLASSES, np.eye(4, 5) * 1e9), SOME)
    first = plain(counts, SOME)
    assert status == "ok"
    assert found.value == pytest.approx(first.value, abs=1e-6, nan_ok=True)
    # debris counts as a cell that was looked at, so the cells behind a share are a few more, or less, than its own
    assert found.low == pytest.approx(first.low, abs=0.02, nan_ok=True)
    assert found.high == pytest.approx(first.high, abs=0.02, nan_ok=True)


counts_of_wells = arrays(np.int32, (3, 2, 2, 5), elements=st.integers(0, 60))


@settings(deadline=None, max_examples=40)
@given(counts_of_wells, st.floats(1, 1000))
def test_an_interval_holds_its_share_within_0_and_1(cells: np.ndarray, weight: float) -> None:
    found, status = corrected(plate_counts(cells), Confusion(CLASSES, HOME * weight), SOME)
    there = ~np.isnan(found.value)
    assert (there == ~np.isnan(found.low)).all()
    assert (there == ~np.isnan(found.high)).all()
    assert (found.low[there] >= 0).all()
    assert (found.high[there] <= 1).all()
    assert (found.low[there] <= found.value[there] + 1e-9).all()
    assert (found.value[there] <= found.high[there] + 1e-9).all()
    assert there.any() <= (status == "ok")


def test_wells_without_cells_have_no_share_and_do_not_disturb_the_others() -> None:
    cells = mixture(0.6, 0.1, 0.2, 0.1)
    cells[2] = 0
    found, status = corrected(plate_counts(cells), MEASURED, SOME)
    assert status == "ok"
    assert np.isnan(found.value[2]).all()
    assert (~np.isnan(found.value[[0, 1, 3, 4, 5], :, :3])).all()


@pytest.mark.parametrize(
    "changes", [{"counted": np.zeros((6, 2, 2), dtype=bool)}, {"settled": np.zeros((6, 2), dtype=bool)}]
)
def test_what_does_not_count_gives_no_share(changes: dict[str, np.ndarray]) -> None:
    found, status = corrected(plate_counts(mixture(0.6, 0.1, 0.2, 0.1), **changes), MEASURED, SOME)
    assert status == "ok"
    assert np.isnan(found.value).all()


def test_a_plate_without_wells_is_no_error() -> None:
    found, _ = corrected(plate_counts(np.zeros((0, 0, 0, 5))), MEASURED, SOME)
    assert found.value.shape == (0, 0, 5)


def test_the_order_of_the_classes_does_not_matter() -> None:
    counts, order = plate_counts(mixture(0.6, 0.1, 0.2, 0.1)), [3, 1, 0, 2]
    names = tuple(CLASSES[place] for place in order)
    other = Confusion(names, (HOME * 1e6)[np.ix_(order, [*order, 4])])
    assert corrected(counts, other, SOME)[0].value == pytest.approx(
        corrected(counts, KNOWN, SOME)[0].value, abs=1e-4, nan_ok=True
    )


def test_the_same_counts_give_the_same_answer() -> None:
    counts = plate_counts(mixture(0.6, 0.1, 0.2, 0.1))
    first, second = (corrected(counts, MEASURED, SOME)[0] for _ in range(2))
    assert np.array_equal(first.low, second.low, equal_nan=True)
    assert np.array_equal(first.high, second.high, equal_nan=True)


def test_fewer_cells_in_the_confusion_widen_the_interval() -> None:
    counts = plate_counts(mixture(0.6, 0.1, 0.2, 0.1))
    widths = []
    for weight in (1e6, 300, 60, 20):
        found, status = corrected(counts, Confusion(CLASSES, HOME * weight), Correlation(0.002, "fields", 20))
        assert status == "ok"
        widths.append(np.nanmean(found.high - found.low))
    assert widths == sorted(widths)
    assert widths[-1] > 1.2 * widths[0]


def test_a_stronger_correlation_widens_the_interval() -> None:
    counts = plate_counts(mixture(0.6, 0.1, 0.2, 0.1))
    narrow, wide = (corrected(counts, MEASURED, Correlation(value, "fields", 20))[0] for value in (0.01, 0.1))
    assert (wide.high - wide.low)[0, 0, 2] > 1.3 * (narrow.high - narrow.low)[0, 0, 2]


def test_the_interval_covers_the_truth() -> None:
    """2,000 intervals; the whole measurement is benchmarks/correction.py."""
    inside = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        mean = random.dirichlet((4, 1, 2, 0.5), size=(40, 1))
        cells = called_cells(clustered_cells(mean, 3, 60, 0.06, seed), HOME, seed)
        counts = plate_counts(cells)
        matrix = Confusion(CLASSES, np.array([random.multinomial(150, row) for row in HOME]))
        found, status = corrected(counts, matrix, intraclass(counts, np.arange(40) < 20))
        assert status == "ok"
        true = mean[..., :3] / mean[..., :3].sum(axis=-1, keepdims=True)
        inside.append(((found.low[..., :3] <= true) & (true <= found.high[..., :3])).mean())
    assert 0.93 < np.mean(inside) < 0.995
