"""The command line of `cellvigil-index`: what can be asked, and what the answers mean as values. Runs nothing."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from cellvigil.data import ClaheRule, ImageRule, IntensityRule
from cellvigil.errors import UsageError
from cellvigil_indexes.coco import read_coco
from cellvigil_indexes.folders import read_folders
from cellvigil_indexes.labelled import LabelledSet, grouped, selected
from cellvigil_indexes.writing import IndexSettings

_BUILD_EXAMPLE = """examples:
  cellvigil-index build blood --images cells/ --encoder efficientnet-lite0
  cellvigil-index build assay --coco annotations.coco.json --pixel-size 0.322 --encoder efficientnet-lite0 \\
      --states live=alive,apoptotic=dying,necrotic=dead,debris=artefact"""
_EVALUATE_EXAMPLE = """examples:
  cellvigil-index evaluate assay --coco held_out.coco.json --pixel-size 0.322
  cellvigil-index evaluate blood --split 0.2 --seeds 5"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = _Parser(
        prog="cellvigil-index", description="Reference indexes: labelled cells that live cells are called by."
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str, examples: str) -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        return commands.add_parser(name, help=about, description=about, epilog=examples, formatter_class=raw)

    _add_build(command("build", "make an index of labelled cells", _BUILD_EXAMPLE))
    _add_evaluate(command("evaluate", "score an index on labelled cells", _EVALUATE_EXAMPLE))
    _add_common(command("show", "say what is in an index", "example:\n  cellvigil-index show assay"))
    return whole


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="a name under --out, or a path to an index")
    command.add_argument("--out", type=Path, default=Path("indexes"), help="folder of the indexes (default: indexes)")
    command.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_input(command: argparse.ArgumentParser, *, required: bool) -> None:
    source = command.add_mutually_exclusive_group(required=required)
    source.add_argument("--images", type=Path, metavar="DIR", help="one folder a class, of single-cell images")
    source.add_argument("--coco", type=Path, metavar="FILE", help="annotation file of boxes or masks beside its images")
    command.add_argument("--image-root", type=Path, metavar="DIR", help="where --coco's images are, if not beside it")
    command.add_argument("--only", action="append", default=[], metavar="GLOB", help="only such paths or file names")
    command.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="leave such paths or names out")
    command.add_argument("--pixel-size", type=_positive, metavar="UM", help="micrometres a pixel of these images")
    command.add_argument("--encoders", type=Path, default=Path("encoders"), help="folder of the encoder bundles")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "tensorrt"])


def _add_build(command: argparse.ArgumentParser) -> None:
    _add_common(command)
    _add_input(command, required=True)
    add = command.add_argument
    add("--encoder", action="append", required=True, metavar="E", help="an encoder bundle; again for a combination")
    add(
        "--states",
        type=_states,
        default={},
        metavar="CLASS=GROUP,...",
        help="alive, dying, dead, artefact or none",
    )
    add("--split-by", default="image", metavar="RULE", help="image, folder or an expression: cells left out together")
    add("--analysis-pixel-size", type=_positive, metavar="UM", help="scale to this first (default: --pixel-size)")
    add("--crop-um", type=_positive, metavar="UM", help="side of the square crop (default: 72, as in the papers)")
    add("--intensity", default="auto", metavar="RULE", help="full, range:LO:HI, percentiles:LO:HI, or auto")
    add("--clahe", type=_positive, metavar="CLIP", help="local contrast equalisation with this clip limit")
    add("--colour", default="auto", choices=["auto", "grey", "rgb"])
    add("--mask", action="store_true", help="blank everything outside the cell's own mask")
    add(
        "--cell-diameter",
        type=_positive,
        metavar="UM",
        help="outline each labelled cell as the daemon will, for cells of this diameter (segment.cell_diameter_um)",
    )
    add("--k-min", type=int, default=3)
    add("--k-max", type=int, default=100)
    add("--threshold", type=float, default=0.3, help="normalised entropy at which the search stops")
    add("--no-reweight", action="store_true", help="do not weight votes by class frequency")
    add("--scale", default="none", choices=["none", "unit"], help="unit: every encoder weighs the same")
    add("--force", action="store_true", help="replace an index of this name")


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    _add_common(command)
    _add_input(command, required=False)
    add = command.add_argument
    add("--abstain", action="store_true", help="leave cells called unknown out, instead of counting them as wrong")
    add("--split", type=_share, metavar="SHARE", help="hold out this share of the index's own cells instead")
    add("--seeds", type=int, default=5, help="random splits for --split")
    add("--split-by", default="cell", choices=["cell", "group"], help="hold out single cells, or whole groups")


def labelled_set(args: argparse.Namespace, *, split_by: str) -> LabelledSet:
    """What --images or --coco names, chosen by --only and --exclude, grouped; pixel size from --pixel-size or the file.

    Raises UsageError as the readers do.
    """
    found = read_coco(args.coco, args.image_root) if args.coco else read_folders(args.images)
    images = grouped(selected(found.images, args.only, args.exclude), split_by)
    chosen = {"only": args.only, "exclude": args.exclude, "split_by": split_by, "image_count": len(images)}
    size = args.pixel_size or found.pixel_size_um
    return LabelledSet(images, found.classes, size, {**found.provenance, **chosen})


def image_rule(args: argparse.Namespace, pixel_size_um: float | None) -> ImageRule:
    """The image rule that `build`'s options describe. Raises UsageError for options that contradict each other."""
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
        colour="grey" if args.colour == "auto" else args.colour,
        mask=args.mask,
    )


def index_settings(args: argparse.Namespace) -> IndexSettings:
    """How the index is to be searched. Raises UsageError for values that contradict each other."""
    if not 2 <= args.k_min <= args.k_max:
        raise UsageError(f"--k-min {args.k_min} and --k-max {args.k_max} must satisfy 2 <= k-min <= k-max")
    if not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold {args.threshold} must lie between 0 and 1")
    return IndexSettings(args.k_min, args.k_max, args.threshold, not args.no_reweight, args.scale)


def _intensity(text: str) -> IntensityRule:
    if text == "full":
        return IntensityRule("full")
    kind, *limits = text.split(":")
    try:
        low, high = (float(limit) for limit in limits)
    except ValueError:
        low, high = 1.0, 0.0
    top = 100.0 if kind == "percentiles" else float("inf")
    if kind not in ("range", "percentiles") or not low < high or high > top or (kind == "percentiles" and low < 0):
        hint = "write full, range:0:255, range:1.33:1.40 or percentiles:0.1:99.9"
        raise UsageError(f"--intensity {text!r} is no intensity rule", hint=hint)
    return IntensityRule(kind, low, high)


def _states(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(name.strip() and group.strip() for name, _, group in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form live=alive,dead=dead")
    return {name.strip(): group.strip() for name, _, group in pairs}


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value


def _share(text: str) -> float:
    value = _positive(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and 1")
    return value
