"""`cellvigil-index profile`: what each well of a store looks like, and which treatments look alike."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellvigil.errors import UsageError
from cellvigil_indexes.profiles.comparing import Treatment, encoders_of, plain, sphered, treatments
from cellvigil_indexes.profiles.reading import PlanOf, read_profiles, recorded_plan
from cellvigil_indexes.profiles.sphering import REGULARISATION
from cellvigil_indexes.profiles.values import Missing, WellProfile
from cellvigil_indexes.profiles.writing import check_suffix, write_profiles

ABOUT = "write well profiles of a store, and say which treatments look alike"
EXAMPLES = "example:\n  cellvigil-index profile --store store --out profiles.parquet"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Say what `profile` can be asked."""
    add = command.add_argument
    add("--store", type=Path, required=True, metavar="DIR", help="the daemon's store, with embeddings kept")
    add("--out", type=Path, required=True, metavar="FILE", help="profiles.parquet or profiles.csv")
    add("--plate-map", type=Path, metavar="FILE", help="plate.csv, if not the one that the record holds")
    add("--timepoint", type=int, metavar="N", help="that treatments are compared at (default: the last)")
    add("--nearest", type=int, default=3, metavar="N", help="treatments to name beside each (default: 3)")
    add("--regularisation", type=float, default=REGULARISATION, metavar="A", help="of the sphering (default: 0.1)")
    add("--plain", action="store_true", help="write the means as they are; nothing is compared, no controls are needed")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Write the table, and compare treatments. Raises UsageError, StoreError."""
    check_suffix(args.out)
    profiles, missing = read_profiles(args.store, _plans(args.plate_map))
    if not profiles:
        what = f"no frame of this store has embeddings ({missing.count} have lost them or never had any)"
        raise UsageError(what, where=args.store, hint="keep them with store.embeddings: true and store.retention")
    told: dict[str, Any] = {"out": str(args.out), **_counts(missing)}
    if args.plain:
        write_profiles(args.out, profiles, plain(profiles, encoders_of(profiles)))
        told |= {"profiles": len(profiles), "sphered": False}
        return told, "\n".join(_about(told))
    found = sphered(profiles, regularisation=args.regularisation)
    write_profiles(args.out, found.profiles, found.vectors)
    at = _timepoint(args.timepoint, found.profiles)
    compared = treatments(found, at, count=args.nearest)
    told |= {
        "profiles": len(found.profiles),
        "sphered": True,
        "encoders": list(found.encoders),
        "not_in_plate_map": found.unplanned,
        "without_control": found.without_control,
        "timepoint": at,
        "treatments": [_values(each) for each in compared],
    }
    return told, "\n".join([*_about(told), "", *_lines(compared, at)])


def _plans(path: Path | None) -> PlanOf:
    if path is None:
        return recorded_plan
    from cellvigil.assays.plate_map import read_plate_map  # noqa: PLC0415
    from cellvigil.platemap import plan_of  # noqa: PLC0415

    rows = read_plate_map(path)
    return lambda series, _recorded: plan_of(rows, series[1], series[2])


def _timepoint(asked: int | None, profiles: Sequence[WellProfile]) -> int:
    there = sorted({each.timepoint for each in profiles})
    if asked is not None and asked not in there:
        raise UsageError(f"no well has a profile at time point {asked}", hint=f"there are {there[0]} to {there[-1]}")
    return there[-1] if asked is None else asked


def _counts(missing: Missing) -> dict[str, int]:
    return {
        "frames_dropped": missing.dropped,
        "frames_without_embeddings": missing.never_kept,
        "frames_damaged": missing.damaged,
    }


def _values(one: Treatment) -> dict[str, Any]:
    near = [{"arm": each.name, "cosine": round(each.cosine, 4)} for each in one.nearest]
    return {"arm": one.arm, "wells": one.wells, "effect": round(one.effect, 3), "nearest": near}


def _about(told: dict[str, Any]) -> list[str]:
    lines = [f"{told['profiles']} profiles in {told['out']}, {'sphered' if told['sphered'] else 'as they are'}"]
    for key, text in (
        ("frames_dropped", "frames, whose rows retention deleted"),
        ("frames_without_embeddings", "frames, whose embeddings were never kept (store.embeddings: true keeps them)"),
        ("frames_damaged", "frames, whose rows are damaged; see `cellvigil repair`"),
        ("not_in_plate_map", "profiles of wells that are blank, or not in the plate map"),
        ("without_control", "profiles without a control well of their cell line at the same time"),
    ):
        if told.get(key):
            lines.append(f"without {told[key]} {text}")
    return lines


def _lines(compared: Sequence[Treatment], timepoint: int) -> list[str]:
    if not compared:
        return [f"no treated well has a profile at time point {timepoint}"]
    width = max(len("treatment"), *(len(each.arm) for each in compared))
    lines = [
        f"time point {timepoint}; effect: distance from the controls; one control well's from the others is about 1",
        f"{'treatment':{width}}  wells  effect  nearest by cosine",
    ]
    for each in compared:
        near = ", ".join(f"{one.name} {one.cosine:.2f}" for one in each.nearest) or "-"
        lines.append(f"{each.arm:{width}}  {each.wells:5}  {each.effect:6.2f}  {near}")
    return lines
