"""Options that name cells nobody needs to have labelled: the target of an alignment. Runs nothing.

Labels that the cells happen to have (folders, annotations) are carried along for whoever scores; no fit looks at them.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.errors import UsageError
from cellvigil.store.recover import plate_folders
from cellvigil_indexes.inputs.choosing import choose
from cellvigil_indexes.inputs.coco import read_coco
from cellvigil_indexes.inputs.folders import read_folders, read_frames
from cellvigil_indexes.inputs.labelled import LabelledSet
from cellvigil_indexes.inputs.stored_rows import write_rows
from cellvigil_indexes.inputs.stored_vectors import read_stored_vectors
from cellvigil_indexes.options import add_reading, gathering_of, labelled_set
from cellvigil_indexes.unlabelled import Unlabelled

_NAMED = ("target", "images", "coco", "frames", "store")
_OF_IMAGES = ("image_root", "only", "exclude", "pixel_size", "drop_duplicates")


def add_target(command: argparse.ArgumentParser) -> None:
    """Where the target's cells come from, and which of them are taken."""
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--target", type=Path, metavar="PATH", help="single-cell images, COCO file or its folder, or store: as found"
    )
    source.add_argument("--images", type=Path, metavar="DIR", help="single-cell images, in folders or not")
    source.add_argument("--coco", type=Path, metavar="FILE", help="boxes or masks beside their images; any category")
    source.add_argument("--frames", type=Path, metavar="DIR", help="whole frames, outlined as the daemon will")
    source.add_argument("--store", type=Path, metavar="DIR", help="the vectors that the daemon has kept of its cells")
    add = command.add_argument
    add("--rows", type=Path, metavar="FILE", help="of --store: CSV of frames, as `cellvigil table --frames` names them")
    add("--wells", type=names, default=(), metavar="WELL,...", help="of --store: the frames of these wells alone")
    add("--limit", type=int, metavar="N", help="so many of these cells at most")
    add("--seed", type=int, default=0, help="of every choice by chance (default: 0)")
    add_reading(command)
    command.set_defaults(labels=None, balance=False, channel="")


def target_path(args: argparse.Namespace) -> Path:
    """What was named, whichever option named it."""
    path = next(getattr(args, name) for name in _NAMED if getattr(args, name) is not None)
    return Path(path)


def target_name(args: argparse.Namespace) -> str:
    """What the target is called: its folder, or the folder that a file lies in."""
    path = target_path(args).resolve()
    return path.parent.name if path.is_file() else path.name


def store_of(args: argparse.Namespace) -> Path | None:
    """The store, where the target is one."""
    if args.store is not None:
        return Path(args.store)
    return args.target if args.target is not None and args.target.is_dir() and plate_folders(args.target) else None


def stored(args: argparse.Namespace, index: ReferenceIndex, store: Path) -> Unlabelled:
    """The vectors of a store's cells. Raises UsageError and StoreError as `read_stored_vectors` does."""
    if idle := [f"--{name.replace('_', '-')}" for name in _OF_IMAGES if getattr(args, name)]:
        raise UsageError(f"{', '.join(idle)} is for images, and a store has vectors already", where=store)
    if args.rows is not None and args.wells:
        raise UsageError("--rows and --wells both say which frames", hint="give one of them")
    with tempfile.TemporaryDirectory() as folder:
        rows = args.rows
        if rows is None:
            rows = Path(folder) / "frames.csv"
            write_rows(rows, store, args.wells)
        found = read_stored_vectors(store, rows, index.encoders)
    limit = gathering_of(args).limit
    frames = [str(frame) for frame in found.frames]
    chosen = choose([""] * len(found), frames, limit=limit, balance=False, seed=args.seed)
    return Unlabelled(
        embeddings={name: block[chosen] for name, block in found.embeddings.items()},
        groups=found.frames[chosen],
        names=[""] * len(chosen),
        provenance=found.provenance,
    )


def target_set(args: argparse.Namespace) -> LabelledSet:
    """The target's images. Raises UsageError as the readers do, and for options of a store."""
    if idle := [f"--{name}" for name in ("rows", "wells") if getattr(args, name)]:
        raise UsageError(f"{', '.join(idle)} is for cells of a --store")
    return _unlabelled(args, target_path(args))


def further_sets(args: argparse.Namespace) -> list[LabelledSet]:
    """The images of every --further. Raises UsageError as the readers do."""
    return [_unlabelled(args, path) for path in args.further]


def names(text: str) -> tuple[str, ...]:
    """A,B,... as argparse wants a type."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _unlabelled(args: argparse.Namespace, path: Path) -> LabelledSet:
    found = labelled_set(args, split_by=None, read=partial(_read, path=path))
    return replace(found, gathering=replace(found.gathering, by_class=False))


def _read(args: argparse.Namespace, *, path: Path) -> LabelledSet:
    if not path.exists():
        raise UsageError("there is no such target", where=path, hint="a folder of images, a COCO file or a store")
    if args.frames is not None:
        return read_frames(path, args.pixel_size, skip_bad=args.skip_bad, flat=True)
    if args.coco is not None or path.suffix.lower() == ".json":
        return read_coco(path, args.image_root, skip_bad=args.skip_bad)
    if args.target is not None and path.is_dir() and (found := sorted(path.glob("*.coco.json"))):
        if len(found) > 1:
            raise UsageError(f"there are {len(found)} COCO files here", where=path, hint="name one of them with --coco")
        return read_coco(found[0], args.image_root, skip_bad=args.skip_bad)
    if args.image_root is not None:
        raise UsageError("--image-root is for the images of a --coco file")
    if path.is_file():
        raise UsageError("this file is no COCO file", where=path, hint="give a folder of images, or a .json file")
    return read_folders(path, skip_bad=args.skip_bad, flat=True)
