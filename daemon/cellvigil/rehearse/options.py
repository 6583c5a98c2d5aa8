"""The options of `cellvigil rehearse`: command line to settings and back. Touches nothing."""

from __future__ import annotations

import argparse
import dataclasses
import re
from datetime import UTC, datetime
from pathlib import Path

from cellvigil.rehearse.assay import KINDS, Assay

_WELL = re.compile(r"[A-Z]{1,2}[1-9][0-9]?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of a rehearsal to `parser`."""
    normal = Assay()
    parser.add_argument("--out", type=Path, required=True, help="new folder: OUT/images to watch, OUT/truth beside it")
    parser.add_argument("--seed", type=int, default=normal.seed, help="same seed, same bytes (%(default)s)")
    parser.add_argument("--kind", choices=KINDS, default=normal.kind, help="whose files to write (%(default)s)")
    parser.add_argument("--wells", type=_wells, default=normal.wells, help="comma-separated (A1,A2,B1,B2)")
    parser.add_argument("--treated", type=_wells, default=None, help="the wells that get the drug (the second half)")
    parser.add_argument("--doses", type=_numbers, default=normal.doses_um, help="micromolar, given in turn (10)")
    parser.add_argument("--fields", type=_count, default=normal.fields, help="fields of view a well (%(default)s)")
    parser.add_argument("--timepoints", type=_count, default=normal.timepoints, help="(%(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=normal.minutes, help="simulated, between time points (%(default)s)"
    )
    parser.add_argument(
        "--dosed-at", type=int, default=normal.dosed_at, help="last time point before the drug (%(default)s)"
    )
    parser.add_argument(
        "--kill", type=float, default=normal.biology.kill_per_h, help="highest hazard, 1/h (%(default)s)"
    )
    parser.add_argument(
        "--lag", type=_positive, default=normal.biology.kill_lag_h, help="hours until it rises (%(default)s)"
    )
    parser.add_argument(
        "--detach", type=float, default=normal.biology.detach_per_h, help="of dead cells, 1/h (%(default)s)"
    )
    parser.add_argument("--shape", type=_shape, default=None, help="pixels, HEIGHTxWIDTH (452x612; nanolive 448x448)")
    parser.add_argument("--pixel-size", type=float, default=None, help="micrometres (0.322; nanolive 0.19)")
    parser.add_argument("--cells", type=float, default=None, help="in one field at the start (40; nanolive 9)")
    parser.add_argument("--defocus-rate", type=float, default=normal.defocus_rate, help="share of frames (%(default)s)")
    parser.add_argument("--bubble-rate", type=float, default=normal.bubble_rate, help="share of frames (%(default)s)")
    parser.add_argument(
        "--stain-every", type=int, default=0, help="gen5: a dead stain (GFP) each N time points (never)"
    )
    parser.add_argument(
        "--start", type=_start, default=normal.started_at, help="local time, or now: this second (%(default)s)"
    )
    parser.add_argument("--pace", type=_seconds, default=0.0, help="real seconds between time points; 0 = full speed")
    parser.add_argument("--pieces", type=_count, default=4, help="writes in which each file grows (%(default)s)")
    parser.add_argument("--pause", type=_seconds, default=0.0, help="real seconds between two of these writes")
    parser.add_argument(
        "--reference",
        type=_count,
        nargs="?",
        const=12,
        default=0,
        metavar="N",
        help="write N annotated reference frames to OUT/reference as well (12)",
    )


def from_arguments(args: argparse.Namespace) -> Assay:
    """The settings that a parsed command line asks for. Raises UsageError where they make no sense."""
    normal = Assay()
    wells = args.wells
    biology = dataclasses.replace(normal.biology, kill_per_h=args.kill, kill_lag_h=args.lag, detach_per_h=args.detach)
    return Assay(
        seed=args.seed,
        kind=args.kind,
        wells=wells,
        treated=wells[(len(wells) + 1) // 2 :] if args.treated is None else args.treated,
        doses_um=args.doses,
        fields=args.fields,
        timepoints=args.timepoints,
        minutes=args.minutes,
        dosed_at=args.dosed_at,
        shape=args.shape,
        pixel_size_um=args.pixel_size,
        cells=args.cells,
        defocus_rate=args.defocus_rate,
        bubble_rate=args.bubble_rate,
        stain_every=args.stain_every,
        started_at=args.start,
        biology=biology,
    )


def _wells(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().upper() for name in text.split(",") if name.strip())
    if wrong := [name for name in names if not _WELL.fullmatch(name)]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no well; write them like A1,A2,B1")
    return names


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give 0 or more")
    return seconds


def _positive(text: str) -> float:
    value = _seconds(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return value


def _start(text: str) -> datetime:
    if text == "now":
        return datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write it like 2024-03-01T18:00, or now") from None


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers; write it like 1,5,10") from None


def _shape(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no image size; write it like 904x1224")
    return int(match[1]), int(match[2])
