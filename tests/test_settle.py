"""Files come to rest: the settler against a slow, obvious twin, and what it must never do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.data import FileStat
from cellvigil.settle import Settler


def _stat(path: str = "a", size: int = 1, mtime: int = 1) -> FileStat:
    return FileStat(path, size, mtime)


def _listing(*stats: FileStat) -> dict[str, FileStat]:
    return {stat.path: stat for stat in stats}


def _paths(settled: tuple[FileStat, ...]) -> list[str]:
    return [stat.path for stat in settled]


def test_a_file_settles_at_the_third_equal_scan_and_is_told_of_once() -> None:
    settler = Settler(3)
    told = [settler.update(_listing(_stat()), now) for now in (0.0, 1.0, 2.0, 3.0, 4.0)]
    assert told == [(), (), (_stat(),), (), ()]
    assert settler.unsettled == 0


@pytest.mark.parametrize("second", [_stat(size=2), _stat(mtime=2), _stat(mtime=0)])
def test_any_change_starts_anew(second: FileStat) -> None:
    settler = Settler(2)
    listed = [_stat(), second, second, second, _stat(), _stat()]
    told = [settler.update(_listing(stat), float(i)) for i, stat in enumerate(listed)]
    assert told == [(), (), (second,), (), (), (_stat(),)]


def test_a_file_that_vanished_is_forgotten() -> None:
    settler = Settler(2)
    listings = [[_stat()], [], [_stat()], [_stat()]]
    told = [settler.update(_listing(*listing), float(i)) for i, listing in enumerate(listings)]
    assert told == [(), (), (), (_stat(),)]
    settler.update({}, 9.0)
    assert len(settler) == 0


def test_scans_in_one_instant_settle_nothing() -> None:
    settler = Settler(2)
    assert all(settler.update(_listing(_stat()), 5.0) == () for _ in range(10))
    assert settler.update(_listing(_stat()), 5.001) == (_stat(),)


def test_the_scans_must_span_the_time_asked_for() -> None:
    settler = Settler(2, span_s=1.0)
    assert [_paths(settler.update(_listing(_stat()), now)) for now in (0.0, 0.5, 1.0, 1.1)] == [[], [], [], ["a"]]


def test_one_scan_compares_nothing() -> None:
    with pytest.raises(ValueError, match="2 scans"):
        Settler(1)


def _twin(history: list[tuple[float, list[FileStat]]], scans: int, span_s: float) -> list[set[FileStat]]:
    """The rule said plainly, over the whole history: quadratic, and keeps everything."""
    told: list[set[FileStat]] = []
    for i in range(len(history)):
        settled = set()
        for stat in history[i][1]:
            first = i
            while first > 0 and stat in history[first - 1][1]:
                first -= 1
            run = history[first : i + 1]
            if len(run) < scans or not run[-1][0] - run[0][0] > span_s:
                continue
            earlier = any(stat in told[j] for j in range(first, i))
            if not earlier:
                settled.add(stat)
        told.append(settled)
    return told


_listings = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(1, 2), st.integers(1, 2)), max_size=3), max_size=12
)


@given(listings=_listings, steps=st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=12), scans=st.integers(2, 4))
@settings(max_examples=150, deadline=None)
def test_the_settler_is_its_twin(listings: list[dict[str, tuple[int, int]]], steps: list[float], scans: int) -> None:
    now, history = 0.0, []
    for step, listing in zip(steps, listings, strict=False):
        now += step
        history.append((now, [FileStat(path, *version) for path, version in sorted(listing.items())]))
    settler = Settler(scans, span_s=0.5)
    assert [set(settler.update(_listing(*listing), when)) for when, listing in history] == _twin(history, scans, 0.5)
    assert len(settler) == (len(history[-1][1]) if history else 0)


def test_the_first_sight_of_a_file_is_kept_while_it_grows():
    settler = Settler(2)
    for now, size in ((1.0, 10), (2.0, 20), (3.0, 20)):
        settler.update(_listing(FileStat("a.tif", size, 0)), now)
    assert settler.unsettled == 0
    assert settler.first_sight("a.tif") == 1.0
    settler.update({}, 5.0)
    assert settler.first_sight("a.tif") is None


def test_time_out_of_sight_counts_for_no_file() -> None:
    settler = Settler(2, span_s=1.0)
    settler.update(_listing(_stat()), 0.0)
    settler.out_of_sight(100.0)
    assert settler.update(_listing(_stat()), 100.5) == ()  # half a second apart, as far as one could see
    assert settler.first_sight("a") == 100.0
    assert settler.update(_listing(_stat()), 101.5) == (_stat(),)


def test_several_that_settle_at_once_are_told_in_order_of_path() -> None:
    settler = Settler(2)
    names = ["b", "c", "a"]
    settler.update(_listing(*(_stat(name) for name in names)), 0.0)
    assert settler.is_moving("b")
    assert _paths(settler.update(_listing(*(_stat(name) for name in names)), 1.0)) == ["a", "b", "c"]
    assert not settler.is_moving("b")
