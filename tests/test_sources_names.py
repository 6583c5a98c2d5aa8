"""What names say: every real example, wrong ones, folders, configured patterns, and round trips."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases_names import (
    FOLDERS,
    GEN5_NAMES,
    GEN5_WRONG,
    NO_IMAGES,
    PATTERN_NAMES,
    PATTERN_WRONG,
    Folder,
    Gen5Name,
    PatternName,
)
from cellvigil.errors import BadFile
from cellvigil.sources.folders import well_name
from cellvigil.sources.gen5 import Gen5, unwrap
from cellvigil.sources.natural import natural_key
from cellvigil.sources.registry import format_of
from source_files import LIMITS, make_source

GEN5 = Gen5(make_source(Path("scans")), LIMITS)


@pytest.mark.parametrize("case", GEN5_NAMES, ids=lambda case: case.name)
@pytest.mark.parametrize("folder", ["", "250201_164233_X/250201_164712_Plate 1/"])
def test_gen5_name(case: Gen5Name, folder: str) -> None:
    seen = GEN5.sight(folder + case.name)
    assert seen is not None
    parts = (seen.well, seen.field, seen.number, seen.channel, seen.z, seen.derived)
    assert parts == (case.well, case.field, case.number, case.channel, case.z, case.derived)


@pytest.mark.parametrize("name", GEN5_WRONG)
def test_a_wrong_gen5_name_is_refused(name: str) -> None:
    with pytest.raises(BadFile) as caught:
        GEN5.sight(name)
    assert caught.value.reason == "bad_name"
    assert caught.value.where == name


@pytest.mark.parametrize("name", NO_IMAGES)
@pytest.mark.parametrize("kind", ["gen5", "nanolive", "ometiff", "plain"])
def test_what_is_no_image_is_passed_over(kind: str, name: str) -> None:
    assert format_of(make_source(Path("scans"), kind), LIMITS).sight(name) is None


@pytest.mark.parametrize("case", FOLDERS, ids=lambda case: f"{case.rule}-{case.series}-{case.path}")
def test_folders_name_experiment_and_plate(case: Folder) -> None:
    source = make_source(Path("scans"), experiment_rule=case.rule, series=case.series)
    seen = Gen5(source, LIMITS).sight(case.path)
    assert seen is not None
    assert (seen.experiment, seen.plate, seen.folder) == (case.experiment, case.plate, case.folder)


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        *(("plain", case) for case in PATTERN_NAMES),
        *((kind, case) for kind in ("nanolive", "ometiff") for case in PATTERN_NAMES if case.path.endswith(".tif")),
    ],
)
def test_pattern(kind: str, case: PatternName) -> None:
    seen = format_of(make_source(Path("scans"), kind, pattern=case.pattern), LIMITS).sight(case.path)
    assert seen is not None
    parts = (seen.well, seen.field, seen.number, seen.folder, seen.channel, seen.z)
    assert parts == (case.well, case.field, case.number, case.folder, case.channel, case.z)


@pytest.mark.parametrize(("pattern", "path"), PATTERN_WRONG)
def test_a_name_that_does_not_fit_its_pattern_is_refused(pattern: str, path: str) -> None:
    with pytest.raises(BadFile) as caught:
        format_of(make_source(Path("scans"), "plain", pattern=pattern), LIMITS).sight(path)
    assert caught.value.reason == "bad_name"


def test_a_pattern_may_name_experiment_and_plate() -> None:
    source = make_source(Path("scans"), "plain", pattern=r"(?P<experiment>\w+)-(?P<plate>\w+)-(?P<time>\d+)")
    seen = format_of(source, LIMITS).sight("folder/dose-p2-007.png")
    assert seen is not None
    assert (seen.experiment, seen.plate, seen.number) == ("dose", "p2", 7)


def test_without_a_pattern_every_file_is_a_time_point() -> None:
    fmt = format_of(make_source(Path("scans"), "nanolive"), LIMITS)
    seen = [fmt.sight(name) for name in ("MIP_7_60x.tif", "MIP_8_60x.tif")]
    assert [item and (item.well, item.field, item.number, item.folder) for item in seen] == [
        ("A1", "1", -1, "MIP_7_60x.tif"),
        ("A1", "1", -1, "MIP_8_60x.tif"),
    ]


# --- properties -------------------------------------------------------------------------------------------------

_word = st.text(st.sampled_from("ABCxyz 0459,-+()µ"), min_size=1, max_size=12).filter(
    lambda text: any(c.isalpha() for c in text)
)
_wells = st.tuples(st.sampled_from(["A", "H", "P", "AF"]), st.integers(1, 48)).map(lambda w: f"{w[0]}{w[1]}")
_kinds = st.lists(st.sampled_from(["Tsf", "Stitched", "Z Proj"]), max_size=3)


def _wrapped(channel: str, kinds: list[str]) -> str:
    for kind in reversed(kinds):
        channel = f"{kind}[{channel}]"
    return channel


@given(
    form=st.sampled_from("ABC"),
    well=_wells,
    roi=st.none() | st.integers(0, 99),
    field=st.integers(1, 500),
    z=st.none() | st.integers(0, 99),
    channel=_word,
    kinds=_kinds,
    number=st.integers(0, 9999),
    step=st.integers(-9, 20),
    suffix=st.sampled_from([".tif", ".tiff", ".TIF"]),
)
def test_gen5_names_survive_a_round_trip(
    form: str,
    well: str,
    roi: int | None,
    field: int,
    z: int | None,
    channel: str,
    kinds: list[str],
    number: int,
    step: int,
    suffix: str,
) -> None:
    token = _wrapped(channel, kinds)
    head = well if roi is None else f"{well}ROI{roi}"
    place = f"{field}" if z is None else f"{field}Z{z}"
    name = {
        "A": f"{head}_{step:02d}_1_{place}_{token}_{number:03d}",
        "B": f"{head}_{place}_{token}_1_{number:03d}_{step:02d}",
        "C": f"{head}_{step:02d}_SP{place}_C1_{token}_T{number:03d}",
    }[form]
    seen = GEN5.sight(name + suffix)
    assert seen is not None
    regions = f"{field}" if roi is None else f"ROI{roi}" if field == 1 else f"ROI{roi}-{field}"
    assert (seen.well, seen.field, seen.z, seen.channel, seen.number) == (well, regions, z, channel, number)
    assert seen.derived == (_wrapped(kinds[-1], kinds[:-1]) if kinds else "")


@given(channel=_word, kinds=_kinds)
def test_unwrapping_undoes_wrapping(channel: str, kinds: list[str]) -> None:
    assert unwrap(_wrapped(channel, kinds))[0] == channel


@given(st.text(max_size=30))
def test_any_name_is_judged_without_a_crash(name: str) -> None:
    for suffix in ("", ".tif"):
        with contextlib.suppress(BadFile):
            GEN5.sight(name + suffix)


@given(row=st.sampled_from([*"ABP", "AA", "AF"]), column=st.integers(1, 48), zeros=st.integers(0, 3))
def test_wells_lose_their_zeros_only(row: str, column: int, zeros: int) -> None:
    assert well_name(row.lower() + "0" * zeros + str(column)) == f"{row}{column}"


@given(st.lists(st.integers(0, 10**6), max_size=20))
def test_natural_order_is_the_order_of_numbers(numbers: list[int]) -> None:
    assert sorted((f"t{n}.tif" for n in numbers), key=natural_key) == [f"t{n}.tif" for n in sorted(numbers)]
