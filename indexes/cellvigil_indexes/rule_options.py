"""The image rule that `build`'s options describe. Runs nothing."""

from __future__ import annotations

import argparse
from dataclasses import replace
from math import isfinite

from cellvigil.data import TURNS, ClaheRule, ImageRule, IntensityRule
from cellvigil.errors import UsageError


def add_channels(command: argparse.ArgumentParser) -> None:
    """Which channels of its frames the index looks at."""
    add = command.add_argument
    add(
        "--channels",
        type=_names,
        default=(),
        metavar="A,B,...",
        help="look at these channels of a frame, in this order, each with an intensity range of its own",
    )
    add(
        "--per-channel",
        action="store_true",
        help="each of --channels by itself, and the vectors together: for encoders of grey or colour pictures",
    )


def add_turns(command: argparse.ArgumentParser) -> None:
    """In how many orientations a cell's picture is seen."""
    what = "4: see each cell upright and turned by quarters, and keep the mean: often steadier, in four times the time"
    command.add_argument("--turns", type=int, choices=TURNS, default=1, help=f"{what} (default: 1)")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form DAPI,GFP: names that differ")
    return names


def image_rule(args: argparse.Namespace, pixel_size_um: float | None) -> ImageRule:
    """The image rule that `build`'s options describe. Raises UsageError for options that contradict each other."""
    if args.per_channel and not args.channels:
        raise UsageError("--per-channel needs --channels", hint="name the channels that are embedded by themselves")
    if args.channels and args.colour != "auto":
        raise UsageError("--channels and --colour both say what is looked at", hint="give one of them")
    scale = args.analysis_pixel_size or pixel_size_um
    if scale is None and args.coco:
        raise UsageError("how large is a pixel of these images?", hint="say so with --pixel-size, in micrometres")
    if scale is None:
        if args.crop_um or args.mask or args.cell_diameter:
            what = "--crop-um, --mask and --cell-diameter need a scale"
            raise UsageError(what, hint="say how large a pixel is with --pixel-size")
        rule = replace(ImageRule(), frame_normalised=False)
    else:
        if pixel_size_um is None:
            raise UsageError("--analysis-pixel-size needs --pixel-size", hint="give the images' own pixel size too")
        rule = ImageRule(pixel_size_um=scale, crop_um=args.crop_um or ImageRule().crop_um)
    return replace(
        rule,
        intensity=_intensity(args.intensity) if args.intensity != "auto" else IntensityRule(),
        clahe=ClaheRule(clip=args.clahe) if args.clahe else None,
        colour=colour_of(args) or "grey",
        mask=args.mask,
        channels=args.channels,
        per_channel=args.per_channel,
        turns=args.turns,
    )


def colour_of(args: argparse.Namespace) -> str:
    """What the options say of the colour; "" where the images are to be asked."""
    if args.channels:
        return "channels"
    return "" if args.colour == "auto" else str(args.colour)


def _intensity(text: str) -> IntensityRule:
    if text == "full":
        return IntensityRule("full")
    kind, *limits = text.split(":")
    try:
        low, high = (float(limit) for limit in limits)
    except ValueError:
        low, high = 1.0, 0.0
    top = 100.0 if kind == "percentiles" else float("inf")
    wrong = not low < high or not isfinite(high - low) or high > top or (kind == "percentiles" and low < 0)
    if kind not in ("range", "percentiles") or wrong:
        hint = "write full, range:0:255, range:1.33:1.40 or percentiles:0.1:99.9"
        raise UsageError(f"--intensity {text!r} is no intensity rule", hint=hint)
    return IntensityRule(kind, low, high)
