"""Options that several commands of `cellvigil-index` share, and what they mean as values. Runs nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cellvigil.errors import UsageError
from cellvigil_indexes.inputs.coco import read_coco
from cellvigil_indexes.inputs.folders import read_folders, read_frames
from cellvigil_indexes.inputs.gathering import Gathering
from cellvigil_indexes.inputs.labelled import LabelledSet, grouped, selected
from cellvigil_indexes.inputs.stored import read_store

SPLIT_BY = "cells left out together: image, folder, an expression, and of a --store well (default), plate, experiment"
_SOURCES = ("images", "coco", "frames", "store")
_OF_INPUT = (
    *("labels", "channel", "image_root", "only", "exclude", "pixel_size", "limit", "balance", "drop_duplicates"),
    "skip_bad",
)  # options that say nothing without a source; what embeds is left out, as scripts set it for every command
_CACHE = ".cache"  # below the folder of the indexes


def add_common(command: argparse.ArgumentParser) -> None:
    """Which index, and how the result is printed."""
    command.add_argument("name", metavar="NAME", help="a name under --out, or a path to an index")
    command.add_argument("--out", type=Path, default=Path("indexes"), help="folder of the indexes (default: indexes)")
    command.add_argument("--json", action="store_true", help="print the result as JSON")


def add_input(command: argparse.ArgumentParser, *, required: bool) -> None:
    """Where labelled cells come from, which of them are taken, and what embeds them."""
    source = command.add_mutually_exclusive_group(required=required)
    source.add_argument("--images", type=Path, metavar="DIR", help="one folder a class, of single-cell images")
    source.add_argument("--coco", type=Path, metavar="FILE", help="annotation file of boxes or masks beside its images")
    source.add_argument(
        "--frames", type=Path, metavar="DIR", help="one folder a class, of frames that show only its cells"
    )
    source.add_argument("--store", type=Path, metavar="DIR", help="cells that the daemon has seen, with --labels")
    add = command.add_argument
    add("--labels", type=Path, metavar="FILE", help="--store's cells: `cellvigil table`'s CSV or Parquet, and `class`")
    add("--channel", default="", metavar="NAME", help="that shows the cells, as the daemon's channels.segment")
    add("--limit", type=int, metavar="N", help="cells a class at most, drawn from as many groups as there are")
    add("--balance", action="store_true", help="as many cells of every class as the smallest has")
    add("--seed", type=int, default=0, help="of that choice (default: 0)")
    add_reading(command)


def add_reading(command: argparse.ArgumentParser) -> None:
    """How images are read, whatever they show, and what embeds them."""
    add = command.add_argument
    add("--image-root", type=Path, metavar="DIR", help="where --coco's images are, if not beside it")
    add("--only", action="append", default=[], metavar="GLOB", help="only such paths or file names")
    add("--exclude", action="append", default=[], metavar="GLOB", help="leave such paths or names out")
    add("--pixel-size", type=positive, metavar="UM", help="micrometres a pixel of these images")
    add("--drop-duplicates", action="store_true", help="of near-copies in a class take only the first")
    add("--skip-bad", action="store_true", help="leave out and name what is wrong with the input, instead of refusing")
    add("--encoders", type=Path, default=Path("encoders"), help="folder of the encoder bundles")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "tensorrt"])
    add("--cache", type=Path, metavar="DIR", help="where vectors are kept, made once (default: .cache in --out)")
    add("--no-cache", action="store_true", help="embed every cell anew, and keep nothing")


def has_input(args: argparse.Namespace) -> bool:
    """Whether labelled cells were given. Raises UsageError where only options that choose among them were."""
    if any(getattr(args, source) is not None for source in _SOURCES):
        return True
    if idle := [f"--{name.replace('_', '-')}" for name in _OF_INPUT if getattr(args, name)]:
        what = f"{', '.join(idle)} would change nothing: no labelled cells were given"
        raise UsageError(what, hint="these go with --images, --coco, --frames or --store")
    return False


def labelled_set(
    args: argparse.Namespace, *, split_by: str | None, read: Callable[[argparse.Namespace], LabelledSet] | None = None
) -> LabelledSet:
    """What --images, --coco, --frames or --store names, chosen by --only and --exclude, and grouped.

    The pixel size is --pixel-size, else the input's own. `split_by` None: see `labelled.grouped`. What was left out by
    --skip-bad is told in the provenance's "warnings". `read` reads what is named (default: with its labels). Raises
    UsageError as the readers do.
    """
    gathering = gathering_of(args)
    found = (read or _read)(args)
    images = grouped(selected(found.images, args.only, args.exclude), split_by)
    size = args.pixel_size or found.pixel_size_um
    if args.pixel_size:
        images = [replace(image, pixel_size_um=None) for image in images]
    if args.channel:
        images = [replace(image, channel=args.channel) for image in images]
    chosen = {
        "only": args.only,
        "exclude": args.exclude,
        "split_by": split_by or ("well" if args.store else "image"),
        "image_count": len(images),
        **gathering.about,
        "warnings": list(found.warnings),
        **({"channel": args.channel} if args.channel else {}),
    }
    about = {**{name: value for name, value in found.provenance.items() if value}, **chosen}
    return replace(found, images=images, pixel_size_um=size, provenance=about, gathering=gathering)


def gathering_of(args: argparse.Namespace) -> Gathering:
    """How the cells are chosen, and where their vectors are kept. Raises UsageError for a limit below 1."""
    return Gathering(
        limit=args.limit,
        balance=args.balance,
        seed=args.seed,
        drop_duplicates=args.drop_duplicates,
        skip_bad=args.skip_bad,
        cache=None if args.no_cache else args.cache or args.out / _CACHE,
    )


def _read(args: argparse.Namespace) -> LabelledSet:
    if (args.store is None) != (args.labels is None):
        raise UsageError("--store and --labels go together", hint="--labels says what the store's cells are")
    if args.store and getattr(args, "cell_diameter", None):
        raise UsageError("cells of a --store have their outlines", hint="omit --cell-diameter")
    if args.store and getattr(args, "segmenter", ""):
        raise UsageError("cells of a --store have their outlines", hint="omit --segmenter")
    if args.image_root and args.coco is None:
        raise UsageError("--image-root is for the images of a --coco file")
    if args.channel and args.store is None and not getattr(args, "channels", True):  # others ask the index's own rule
        raise UsageError("--channel is for frames of a --store, and for --channels")
    if args.store:
        return read_store(args.store, args.labels, channel=args.channel, skip_bad=args.skip_bad)
    if args.frames:
        return read_frames(args.frames, args.pixel_size, skip_bad=args.skip_bad)
    if args.coco:
        return read_coco(args.coco, args.image_root, skip_bad=args.skip_bad)
    return read_folders(args.images, skip_bad=args.skip_bad)


def positive(text: str) -> float:
    """A number above 0, as argparse wants a type."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value


def share(text: str) -> float:
    """A number between 0 and 1, neither included, as argparse wants a type."""
    value = positive(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and 1")
    return value


def states(text: str) -> dict[str, str]:
    """CLASS=GROUP,... as argparse wants a type."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(name.strip() and group.strip() for name, _, group in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form live=alive,dead=dead")
    return {name.strip(): group.strip() for name, _, group in pairs}
