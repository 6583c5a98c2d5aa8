"""How a number of pictures is cut into batches of fixed sizes, against trying every way."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.batches import BUCKETS, RUN_COST, batch_plan

BUCKET_SETS = st.lists(st.integers(2, 12), max_size=3, unique=True).map(lambda sizes: (1, *sorted(sizes)))


def cheapest(count: int, buckets: tuple[int, ...], run_cost: float) -> float:
    """The least cost of holding `count` pictures, by trying every batch first."""

    @functools.cache
    def cost(left: int) -> float:
        return 0.0 if left <= 0 else min(size + run_cost + cost(left - size) for size in buckets)

    return cost(count)


@given(st.integers(0, 60), BUCKET_SETS, st.sampled_from([0.0, 1.0, 8.0]))
def test_a_plan_holds_all_and_wastes_no_batch(count: int, buckets: tuple[int, ...], run_cost: float) -> None:
    plan = batch_plan(count, buckets, run_cost)
    assert set(plan) <= set(buckets)
    assert sum(plan) >= count
    assert sum(plan[:-1]) < max(count, 1)  # only the last is padded


@given(st.integers(0, 11), st.sampled_from([(1, 2, 4, 8), (1, 8, 32)]), st.sampled_from([0.0, 1.0, 8.0]))
def test_a_plan_below_the_largest_batch_is_the_cheapest(count: int, buckets: tuple[int, ...], run_cost: float) -> None:
    count = min(count, buckets[-1] - 1)
    assert sum(size + run_cost for size in batch_plan(count, buckets, run_cost)) == cheapest(count, buckets, run_cost)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 31, 33, 65, 300])
def test_the_cpu_pads_nothing(count: int) -> None:
    assert sum(batch_plan(count, BUCKETS["cpu"], RUN_COST["cpu"])) == count


@pytest.mark.parametrize(
    ("count", "plan"),
    [(0, ()), (1, (1,)), (5, (8,)), (8, (8,)), (9, (8, 1)), (24, (32,)), (33, (32, 1)), (65, (64, 1))],
)
def test_a_gpu_pads_rather_than_starts_often(count: int, plan: tuple[int, ...]) -> None:
    assert batch_plan(count, BUCKETS["cuda"], RUN_COST["cuda"]) == plan
