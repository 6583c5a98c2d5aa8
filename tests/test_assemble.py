"""Files become frames: channels, slices, derived images, doubles, time points, timeouts, and what comes late."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.assemble import Assembler, Outcome
from cellvigil.data import FileStat, FrameFiles, FrameKey
from cellvigil.sources.gen5 import Gen5
from cellvigil.sources.registry import format_of
from source_files import LIMITS, make_source, sighting

TIMEOUT = 100.0
BOTH: dict[str, Any] = {"channels": {"segment": "BF", "required": ["GFP"]}}
OPTIONAL: dict[str, Any] = {"channels": {"segment": "BF", "optional": ["GFP"]}}


class Bench:
    """An assembler that is fed names, as Gen5 writes them."""

    def __init__(self, known: dict[Any, int] | None = None, **rules: Any) -> None:
        self.source = make_source(Path("scans"), frame_timeout_s=TIMEOUT, **rules)
        self.fmt = Gen5(self.source, LIMITS)
        self.assembler = Assembler(self.source, first_number=self.fmt.first_number, known=known)

    def add(self, *paths: str, now: float = 0.0, size: int = 1) -> None:
        for path in paths:
            seen = self.fmt.sight(path)
            assert seen is not None
            self.assembler.add(FileStat(path, size, 1), seen, now)

    def collect(self, now: float = 1.0) -> Outcome:
        return self.assembler.collect(now)

    def resume(self, key: FrameKey, *paths: str) -> None:
        self.assembler.resume(key, [(FileStat(path, 1, 1), self.fmt.sight(path)) for path in paths])  # type: ignore[misc]


def name(channel: str = "BF", well: str = "A1", number: int = 1, field: str = "1", step: int = 1) -> str:
    return f"{well}_{step:02d}_1_{field}_{channel}_{number:03d}.tif"


def paths(files: FrameFiles) -> list[str]:
    return [item.stat.path for item in files.slices]


def keys(frames: Iterable[FrameFiles]) -> list[tuple[str, str, int]]:
    return [(files.key.well, files.key.field, files.key.timepoint) for files in frames]


# --- channels ---------------------------------------------------------------------------------------------------


def test_a_frame_waits_for_its_required_channels() -> None:
    bench = Bench(**BOTH)
    bench.add(name("BF"), now=5)
    assert bench.collect(6) == Outcome((), (), ())
    assert bench.assembler.waiting == 1
    bench.add(name("GFP"), now=7)
    (files,) = bench.collect(8).frames
    assert paths(files) == [name("BF"), name("GFP")]
    assert (files.missing, files.first_seen, files.change, files.number) == ((), 5, "new", 1)
    assert files.key == FrameKey("scope", "scope", "Plate 1", "A1", "1", 0)
    assert bench.collect(9).frames == ()


def test_optional_channels_are_taken_but_not_waited_for() -> None:
    bench = Bench(**OPTIONAL)
    bench.add(name("BF"), name("GFP"), name("BF", number=2))
    assert [files.channels for files in bench.collect().frames] == [("BF", "GFP"), ("BF",)]


def test_channels_that_are_not_configured_are_told_of_once() -> None:
    bench = Bench(**OPTIONAL)
    bench.add(name("BF"), name("DAPI"), name("DAPI", number=2))
    outcome = bench.collect()
    assert [files.channels for files in outcome.frames] == [("BF",)]
    assert len(outcome.notes) == 1
    assert "'DAPI'" in outcome.notes[0]


def test_with_nothing_configured_the_first_channel_of_the_first_frame_is_awaited() -> None:
    bench = Bench()
    bench.add(name("GFP"), name("BF"))
    assert [files.channels for files in bench.collect().frames] == [("BF", "GFP")]
    bench.add(name("GFP", number=2))
    assert bench.collect(2).frames == ()
    bench.add(name("BF", number=2))
    assert [files.channels for files in bench.collect(3).frames] == [("BF", "GFP")]


def test_a_file_whose_name_tells_no_channel_is_the_whole_frame() -> None:
    source = make_source(Path("scans"), "plain", pattern=r"t(?P<time>\d+)", channels={"segment": "green"})
    fmt = format_of(source, LIMITS)
    assembler = Assembler(source, first_number=fmt.first_number)
    seen = fmt.sight("t7.png")
    assert seen is not None
    assembler.add(FileStat("t7.png", 1, 1), seen, 0)
    (files,) = assembler.collect(1).frames
    assert (files.channels, files.missing, files.key.timepoint) == (("",), (), 7)


# --- timeouts ---------------------------------------------------------------------------------------------------


def test_after_the_timeout_a_frame_goes_without_what_is_missing() -> None:
    bench = Bench(**BOTH)
    bench.add(name("BF"))
    assert bench.collect(TIMEOUT - 1).frames == ()
    (files,) = bench.collect(TIMEOUT).frames
    assert (files.channels, files.missing) == (("BF",), ("GFP",))


def test_without_its_segmentation_channel_a_frame_stalls_once_and_may_still_come() -> None:
    bench = Bench(**BOTH)
    bench.add(name("GFP"))
    outcome = bench.collect(TIMEOUT)
    assert outcome.frames == ()
    assert [(files.missing, paths(files)) for files in outcome.stalled] == [(("BF",), [name("GFP")])]
    assert bench.collect(2 * TIMEOUT) == Outcome((), (), ())
    bench.add(name("BF"), now=3 * TIMEOUT)
    (files,) = bench.collect(3 * TIMEOUT).frames
    assert (files.channels, files.missing) == (("BF", "GFP"), ())


# --- slices -----------------------------------------------------------------------------------------------------


def _stack(depth: int, number: int, first: int = 0) -> list[str]:
    return [name(number=number, field=f"1Z{z}") for z in range(first, depth)]


def test_a_first_stack_waits_until_a_second_agrees() -> None:
    bench = Bench()
    bench.add(*_stack(3, 1))
    assert bench.collect().frames == ()
    bench.add(*_stack(2, 2))
    assert bench.collect().frames == ()
    bench.add(*_stack(3, 2, first=2))
    assert [len(files.slices) for files in bench.collect().frames] == [3, 3]
    bench.add(*_stack(2, 3))
    assert bench.collect().frames == ()
    bench.add(*_stack(3, 3, first=2))
    (files,) = bench.collect().frames
    assert [(item.channel, item.z) for item in files.slices] == [("BF", 0), ("BF", 1), ("BF", 2)]


def test_a_lone_stack_is_released_by_the_timeout_and_sets_the_depth() -> None:
    bench = Bench()
    bench.add(*_stack(2, 1))
    assert [len(files.slices) for files in bench.collect(TIMEOUT).frames] == [2]
    bench.add(*_stack(2, 2), now=TIMEOUT)
    assert [len(files.slices) for files in bench.collect(TIMEOUT + 1).frames] == [2]


def test_a_slice_that_comes_after_the_release_is_late() -> None:
    bench = Bench()
    bench.add(*_stack(2, 1), *_stack(2, 2))
    bench.collect()
    bench.add(*_stack(3, 2, first=2), now=50)
    (files,) = bench.collect(51).frames
    assert (len(files.slices), files.change, files.first_seen) == (3, "late", 50)


# --- derived images ---------------------------------------------------------------------------------------------


def test_derived_images_are_left_out_where_the_raw_one_is() -> None:
    bench = Bench()
    bench.add(name("Tsf[BF]", step=-1), name("BF"))
    assert [paths(files) for files in bench.collect().frames] == [[name("BF")]]
    bench.add(name("Stitched[BF]", step=-2), now=2)
    assert bench.collect(TIMEOUT * 2) == Outcome((), (), ())


def test_derived_images_stand_in_where_no_raw_one_came_in_time() -> None:
    bench = Bench(**OPTIONAL)
    bench.add(name("Tsf[BF]", step=-1))
    assert bench.collect(TIMEOUT - 1).frames == ()
    assert [paths(files) for files in bench.collect(TIMEOUT).frames] == [[name("Tsf[BF]", step=-1)]]


def test_a_configured_kind_is_waited_for_and_preferred() -> None:
    bench = Bench(derived=["Tsf"], channels={"segment": "BF", "required": ["GFP"]})
    bench.add(name("BF"), name("GFP"))
    assert bench.collect().frames == ()
    bench.add(name("Tsf[BF]", step=-1))
    assert [paths(files) for files in bench.collect().frames] == [[name("Tsf[BF]", step=-1), name("GFP")]]


def test_a_configured_kind_that_never_comes_leaves_the_raw_image() -> None:
    bench = Bench(derived=["Tsf"], channels={"segment": "BF"})
    bench.add(name("BF"))
    assert [paths(files) for files in bench.collect(TIMEOUT).frames] == [[name("BF")]]


# --- doubles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1])
def test_of_two_files_for_one_image_the_same_is_taken_whatever_the_order(order: int) -> None:
    doubles = [f"P/A1/{name()}", f"P/{name()}"]
    bench = Bench()
    bench.add(*(doubles if order else reversed(doubles)))
    outcome = bench.collect()
    assert [paths(files) for files in outcome.frames] == [[f"P/{name()}"]]
    assert outcome.notes == (f"P/A1/{name()} is left out: P/{name()} is the same image",)


def test_of_two_read_steps_the_first_is_taken() -> None:
    bench = Bench()
    bench.add(name(step=10), name(step=2))
    outcome = bench.collect()
    assert [paths(files) for files in outcome.frames] == [[name(step=2)]]
    assert len(outcome.notes) == 1


def test_a_double_that_comes_later_changes_nothing_but_is_told_of() -> None:
    bench = Bench()
    bench.add(f"P/A1/{name()}")
    assert len(bench.collect().frames) == 1
    bench.add(f"P/{name()}")
    outcome = bench.collect()
    assert outcome.frames == ()
    assert len(outcome.notes) == 1


# --- after the release ------------------------------------------------------------------------------------------


def test_a_late_channel_returns_the_whole_frame() -> None:
    bench = Bench(**OPTIONAL)
    bench.add(name("BF"))
    (first,) = bench.collect().frames
    bench.add(name("GFP"), now=9000)
    (again,) = bench.collect(9001).frames
    assert (again.key, again.channels, again.change, again.first_seen) == (first.key, ("BF", "GFP"), "late", 9000)


def test_a_required_channel_that_comes_after_the_timeout_is_no_longer_missing() -> None:
    bench = Bench(**BOTH)
    bench.add(name("BF"))
    assert bench.collect(TIMEOUT).frames[0].missing == ("GFP",)
    bench.add(name("GFP"), now=TIMEOUT)
    (again,) = bench.collect(TIMEOUT + 1).frames
    assert (again.missing, again.change) == ((), "late")


def test_a_rewritten_file_returns_the_frame_with_its_new_version() -> None:
    bench = Bench(**OPTIONAL)
    bench.add(name("BF"), name("GFP"))
    bench.collect()
    bench.add(name("BF"), name("GFP"))
    assert bench.collect().frames == ()
    bench.add(name("BF"), size=2)
    (again,) = bench.collect().frames
    assert again.change == "rewritten"
    assert [(item.stat.path, item.stat.size) for item in again.slices] == [(name("BF"), 2), (name("GFP"), 1)]


def test_a_rewrite_outweighs_a_late_channel() -> None:
    bench = Bench(**OPTIONAL)
    bench.add(name("BF"))
    bench.collect()
    bench.add(name("BF"), size=2)
    bench.add(name("GFP"))
    assert [files.change for files in bench.collect().frames] == ["rewritten"]


def test_a_file_rewritten_before_the_release_counts_in_its_last_version() -> None:
    bench = Bench(**BOTH)
    bench.add(name("BF"))
    bench.add(name("BF"), size=2)
    bench.add(name("GFP"))
    (files,) = bench.collect().frames
    assert files.slices[0].stat.size == 2
    assert files.change == "new"


# --- time points ------------------------------------------------------------------------------------------------

EARLY, LATE = "250201_090000_Assay", "250202_090000_Assay"
PLATE = "090100_Plate 1"


def _dated(top: str, inner: str, number: int, channel: str = "BF", well: str = "A1") -> str:
    return f"{top}/{inner}/{name(channel, well, number)}"


@pytest.mark.parametrize(("number", "timepoint"), [(1, 0), (14, 13), (0, 0), (-1, 0), (99_999, 99_998), (10**9, 0)])
def test_a_time_point_is_the_names_number_less_one(number: int, timepoint: int) -> None:
    bench = Bench()
    bench.add(name(number=number))
    assert keys(bench.collect().frames) == [("A1", "1", timepoint)]


def test_merged_folders_are_one_series_in_order_of_folder_and_number() -> None:
    bench = Bench(series="merge")
    bench.add(*(_dated(top, f"{top[:7]}{PLATE}", n) for top in (LATE, EARLY) for n in (2, 1)))
    frames = bench.collect().frames
    assert {files.key.experiment for files in frames} == {"Assay"}
    assert [(files.folder[:6], files.number, files.key.timepoint) for files in frames] == [
        ("250201", 1, 0),
        ("250201", 2, 1),
        ("250202", 1, 2),
        ("250202", 2, 3),
    ]


def test_wells_of_one_round_share_their_time_point() -> None:
    bench = Bench(series="merge")
    bench.add(*(_dated(EARLY, f"250201_{PLATE}", n, well=w) for n in (1, 2) for w in ("B1", "A1")))
    assert keys(bench.collect().frames) == [("A1", "1", 0), ("B1", "1", 0), ("A1", "1", 1), ("B1", "1", 1)]


def test_a_time_point_once_given_never_changes() -> None:
    bench = Bench(series="merge")
    bench.add(_dated(LATE, f"250202_{PLATE}", 1))
    bench.add(_dated(EARLY, f"250201_{PLATE}", 1), now=2)
    first = bench.collect(1).frames
    bench.add(_dated(EARLY, f"250201_{PLATE}", 3), now=3)
    bench.add(_dated(EARLY, f"250201_{PLATE}", 2), now=3)
    second = bench.collect(4).frames
    assert [files.key.timepoint for files in (*first, *second)] == [0, 1, 2, 3]
    assert [(files.folder[:6], files.number) for files in second] == [("250201", 2), ("250201", 3)]


def test_unmerged_folders_are_series_of_their_own() -> None:
    bench = Bench()
    bench.add(*(_dated(top, f"{top[:7]}{PLATE}", 1) for top in (EARLY, LATE)))
    assert [(f.key.experiment, f.key.timepoint) for f in bench.collect().frames] == [(EARLY, 0), (LATE, 0)]


def test_a_plate_read_again_inside_one_experiment_goes_on_and_nothing_is_lost() -> None:
    bench = Bench()
    bench.add(
        *(_dated(EARLY, inner, n) for inner in ("250201_090100_Plate 1", "250201_180100_Plate 1") for n in (1, 2))
    )
    outcome = bench.collect()
    assert [(files.folder[-14:-8], files.key.timepoint) for files in outcome.frames] == [
        ("090100", 0),
        ("090100", 1),
        ("180100", 2),
        ("180100", 3),
    ]
    assert len(outcome.notes) == 2


def test_files_without_a_time_are_time_points_in_natural_order_then_as_they_come() -> None:
    source = make_source(Path("scans"), "plain", pattern=r"(?P<channel>bf|gfp)_")
    fmt = format_of(source, LIMITS)
    assembler = Assembler(source, first_number=fmt.first_number)

    def add(*names: str) -> list[tuple[int, list[str]]]:
        for path in names:
            seen = fmt.sight(path)
            assert seen is not None
            assembler.add(FileStat(path, 1, 1), seen, 0)
        return [(files.key.timepoint, paths(files)) for files in assembler.collect(1).frames]

    assert add("bf_10.png", "bf_9.png", "gfp_9.png") == [(0, ["bf_9.png", "gfp_9.png"]), (1, ["bf_10.png"])]
    assert add("bf_1.png") == [(2, ["bf_1.png"])]


def test_a_number_that_is_a_date_orders_but_is_no_time_point() -> None:
    source = make_source(Path("scans"), "plain", pattern=r"(?P<time>\d+)")
    assembler = Assembler(source, first_number=0)
    for number in (20250202120000, 20250201120000):
        assembler.add(FileStat(f"{number}.png", 1, 1), sighting(number=number, channel=""), 0)
    assert [(files.number, files.key.timepoint) for files in assembler.collect(1).frames] == [
        (20250201120000, 0),
        (20250202120000, 1),
    ]


# --- restarts ---------------------------------------------------------------------------------------------------


def test_known_time_points_hold_after_a_restart() -> None:
    series = ("scope", "Assay", "Plate 1")
    early, late = f"{EARLY}/250201_{PLATE}", f"{LATE}/250202_{PLATE}"
    bench = Bench(known={(series, late, 1): 0, (series, early, 1): 5}, series="merge")
    bench.add(f"{early}/{name(number=1)}", f"{early}/{name(number=2)}", f"{late}/{name(number=1)}")
    assert sorted((f.folder, f.number, f.key.timepoint) for f in bench.collect().frames) == [
        (early, 1, 5),
        (early, 2, 6),
        (late, 1, 0),
    ]


def test_a_restart_redoes_nothing_and_still_takes_what_is_late() -> None:
    bench = Bench(**OPTIONAL)
    bench.add(name("BF"), name("BF", number=2))
    committed = bench.collect().frames
    after = Bench(**OPTIONAL)
    for files in committed:
        after.resume(files.key, *paths(files))
    after.add(name("BF"), name("BF", number=2), name("GFP", number=2), name("BF", number=3))
    outcome = after.collect()
    assert [(files.key.timepoint, files.channels, files.change) for files in outcome.frames] == [
        (1, ("BF", "GFP"), "late"),
        (2, ("BF",), "new"),
    ]


def test_a_frame_committed_in_parts_is_resumed_whole() -> None:
    bench = Bench(**OPTIONAL)
    key = FrameKey("scope", "scope", "Plate 1", "A1", "1", 0)
    bench.resume(key, name("BF"))
    bench.resume(key, name("GFP"))
    bench.resume(key)
    bench.add(name("BF"), name("GFP"))
    assert bench.collect() == Outcome((), (), ())
    bench.add(name("GFP"), size=2)
    (files,) = bench.collect().frames
    assert (files.key, files.channels, files.change) == (key, ("BF", "GFP"), "rewritten")


def test_what_is_no_longer_listed_is_forgotten() -> None:
    bench = Bench(**OPTIONAL)
    bench.add(name("BF"), name("BF", number=2), name("GFP", number=3))
    assert len(bench.collect().frames) == 2
    bench.assembler.prune({name("BF", number=2)})
    assert bench.assembler.waiting == 0
    bench.add(name("BF"), name("BF", number=2))
    assert keys(bench.collect().frames) == [("A1", "1", 0)]  # the one that was forgotten is new again


def test_parts_of_a_container_live_as_long_as_it_is_listed() -> None:
    source = make_source(Path("scans"), "nanolive")
    fmt = format_of(source, LIMITS)
    assembler = Assembler(source, first_number=fmt.first_number)
    seen = fmt.sight("e.vol!@000000!f.tif")
    assert seen is not None
    for listed, frames in ((["e.vol"], 1), (["e.vol"], 0), ([], 1)):
        assembler.prune(listed)
        assembler.add(FileStat("e.vol!@000000!f.tif", 1, 1), seen, 0)
        assert len(assembler.collect(1).frames) == frames


# --- committed and forgotten ------------------------------------------------------------------------------------


class Recalling(Bench):
    """An assembler that forgets what is committed, and asks for it again."""

    def __init__(self, **rules: Any) -> None:
        super().__init__(**rules)
        self.committed: dict[FrameKey, FrameFiles] = {}
        self.asked: list[FrameKey] = []
        recall = self._recall
        self.assembler = Assembler(self.source, first_number=self.fmt.first_number, recall=recall)

    def _recall(self, key: FrameKey) -> list[tuple[FileStat, Any]]:
        self.asked.append(key)
        files = self.committed.get(key)
        return [(item.stat, self.fmt.sight(item.stat.path)) for item in files.slices] if files else []

    def commit(self) -> list[FrameFiles]:
        frames = list(self.collect().frames)
        for files in frames:
            self.committed[files.key] = files
            self.assembler.forget(files)
        return frames


def test_a_committed_frame_is_asked_for_when_another_file_of_it_comes() -> None:
    bench = Recalling(**OPTIONAL)
    bench.add(name("BF"), name("BF", number=2))
    assert [files.change for files in bench.commit()] == ["new", "new"]
    bench.asked.clear()
    bench.add(name("BF"), name("GFP", number=2))  # the one is known, the other late
    (late,) = bench.commit()
    assert (late.change, late.channels, [item.channel for item in late.fresh]) == ("late", ("BF", "GFP"), ["GFP"])
    assert sorted(key.timepoint for key in bench.asked) == [0, 1]
    bench.add(name("GFP", number=2), size=2)
    (rewritten,) = bench.commit()
    assert (rewritten.change, paths(rewritten)) == ("rewritten", [name("BF", number=2), name("GFP", number=2)])
    assert [item.stat.size for item in rewritten.fresh] == [2]


def test_what_came_since_is_told_of_all_files_together() -> None:
    bench = Recalling(channels={"segment": "BF", "optional": ["GFP", "RFP"]})
    bench.add(name("BF"))
    bench.commit()
    bench.add(name("GFP"), name("RFP"))
    (late,) = bench.commit()
    assert (late.change, [item.channel for item in late.fresh]) == ("late", ["GFP", "RFP"])


def test_a_frame_with_more_to_come_is_not_forgotten() -> None:
    bench = Recalling(**OPTIONAL)
    bench.add(name("BF"))
    (files,) = bench.collect().frames
    bench.add(name("GFP"))
    bench.assembler.forget(files)
    (late,) = bench.collect().frames
    assert (late.change, late.channels) == ("late", ("BF", "GFP"))


def test_an_old_frame_says_nothing_of_how_deep_the_stacks_are_now() -> None:
    bench = Recalling(channels={"segment": "BF"})
    for number, depth in ((1, 2), (2, 2), (3, 3)):
        bench.add(*_stack(depth, number))
        bench.commit()
    assert len(bench.committed) == 3
    bench.add(_stack(2, 1)[0], size=2)  # a frame of two slices comes back
    assert [files.change for files in bench.commit()] == ["rewritten"]
    bench.add(*_stack(2, 4))
    assert bench.commit() == []
    bench.add(*_stack(3, 4, first=2))
    assert [len(files.slices) for files in bench.commit()] == [3]


def test_time_out_of_sight_counts_for_no_frame() -> None:
    bench = Bench(**BOTH)
    bench.add(name("BF"), now=0.0)
    bench.assembler.out_of_sight(500.0)
    assert bench.collect(500.0 + TIMEOUT - 1).frames == ()
    assert len(bench.collect(500.0 + TIMEOUT + 1).frames) == 1


def test_a_file_that_is_gone_before_its_frame_is_complete_is_no_part_of_it() -> None:
    bench = Bench(**BOTH)
    bench.add(name("BF"), name("GFP", number=2))
    bench.add(name("GFP", number=2))
    bench.assembler.prune({name("BF")})
    assert bench.assembler.waiting == 1
    assert "gone before its frame was complete" in "".join(bench.collect().notes)


# --- properties -------------------------------------------------------------------------------------------------

_WELLS, _CHANNELS, _NUMBERS = ("A1", "B1"), ("BF", "GFP"), (1, 2)
_ALL = [name(c, w, n) for c in _CHANNELS for w in _WELLS for n in _NUMBERS]


def _twin(present: set[str]) -> dict[tuple[str, int], tuple[str, ...]]:
    """The rule said plainly: a frame is released with BF, and has GFP if that is there."""
    return {
        (well, number - 1): tuple(c for c in _CHANNELS if name(c, well, number) in present)
        for well in _WELLS
        for number in _NUMBERS
        if name("BF", well, number) in present
    }


@given(order=st.permutations(_ALL), count=st.integers(0, len(_ALL)), batches=st.lists(st.integers(1, 4), min_size=8))
@settings(max_examples=100, deadline=None)
def test_in_whatever_order_files_come_the_same_frames_result(order: list[str], count: int, batches: list[int]) -> None:
    bench, rest, last, times_new = Bench(**OPTIONAL), order[:count], {}, {}
    for batch in batches:
        bench.add(*rest[:batch])
        rest = rest[batch:]
        for files in bench.collect().frames:
            place = (files.key.well, files.key.timepoint)
            last[place] = files.channels
            times_new[place] = times_new.get(place, 0) + (files.change == "new")
    assert not rest
    assert last == _twin(set(order[:count]))
    assert set(times_new.values()) <= {1}


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30)), unique=True, max_size=25), st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_round_has_a_time_point_of_its_own(rounds: list[tuple[int, int]], merge: bool) -> None:
    bench = Bench(series="merge" if merge else "folder")
    given_out: dict[tuple[str, int], int] = {}
    for i, (day, number) in enumerate(rounds):
        bench.add(_dated(EARLY, f"25020{day}_{PLATE}", number))
        if i % 3 == 0 or i == len(rounds) - 1:
            for files in bench.collect().frames:
                given_out[files.folder, files.number] = files.key.timepoint
    assert len(given_out) == len(rounds)
    assert len(set(given_out.values())) == len(rounds)
    if merge:
        assert sorted(given_out.values()) == list(range(len(rounds)))
    elif len({day for day, _ in rounds}) == 1:
        assert all(timepoint == number - 1 for (_, number), timepoint in given_out.items())
