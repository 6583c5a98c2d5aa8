"""`cellvigil-index build`: make an index of labelled cells."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

from cellvigil.errors import UsageError
from cellvigil_indexes import telling
from cellvigil_indexes.build import Plan, build
from cellvigil_indexes.options import SPLIT_BY, add_common, add_input, labelled_set, positive, share, states
from cellvigil_indexes.presets import PRESETS
from cellvigil_indexes.progress import counting
from cellvigil_indexes.rule_options import add_channels, add_turns, colour_of, image_rule
from cellvigil_indexes.settings import METRICS, SCALINGS, SEARCHES, STORAGES, IndexSettings

ABOUT = "make an index of labelled cells"
EXAMPLES = """examples:
  cellvigil-index build blood --images cells/ --encoder efficientnet-lite0
  cellvigil-index build assay --coco annotations.coco.json --pixel-size 0.322 --encoder efficientnet-lite0 \\
      --states live=alive,apoptotic=dying,necrotic=dead,debris=artefact
  cellvigil-index build types --frames one_cell_type_a_folder/ --pixel-size 0.322 --cell-diameter 20 \\
      --encoder efficientnet-lite0 --limit 2000 --balance
  cellvigil-index build again --store store/ --labels labelled.csv --encoder efficientnet-lite0
  cellvigil-index build painted --frames ome_tiffs/ --channels DAPI,GFP --per-channel --encoder dinov2-small
  cellvigil-index build death --coco cells.json --pixel-size 0.19 --preset cell-death-nanolive"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Say what `build` can be asked."""
    add_common(command)
    add_input(command, required=True)
    add = command.add_argument
    add("--encoder", action="append", metavar="E", help="an encoder bundle; again for a combination")
    add(
        "--states",
        type=states,
        default={},
        metavar="CLASS=GROUP,...",
        help="alive, dying, dead, artefact or none",
    )
    add("--split-by", metavar="RULE", help=SPLIT_BY)
    add("--analysis-pixel-size", type=positive, metavar="UM", help="scale to this first (default: --pixel-size)")
    add("--crop-um", type=positive, metavar="UM", help="side of the square crop (default: 72, as in the papers)")
    add("--intensity", default="auto", metavar="RULE", help="full, range:LO:HI, percentiles:LO:HI, or auto")
    add("--clahe", type=positive, metavar="CLIP", help="local contrast equalisation with this clip limit")
    add("--colour", default="auto", choices=["auto", "grey", "rgb"])
    add_channels(command)
    add_turns(command)
    add("--mask", action="store_true", help="blank everything outside the cell's own mask")
    add(
        "--cell-diameter",
        type=positive,
        metavar="UM",
        help="outline each labelled cell as the daemon will, for cells of this diameter (segment.cell_diameter_um)",
    )
    add(
        "--segmenter",
        default="",
        metavar="NAME",
        help="a segmenter bundle in --encoders that outlines them then, as the daemon with segment.method: sam",
    )
    add("--preset", choices=sorted(PRESETS), help="the papers' settings, and their encoders if --encoder is not given")
    add("--k-min", type=int, help="neighbours at first (default: 3)")
    add("--k-max", type=int, help="neighbours at most (default: 100)")
    add("--threshold", type=float, help="normalised entropy at which the search stops (default: 0.3)")
    add("--no-reweight", action="store_true", help="do not weight votes by class frequency")
    add("--metric", choices=METRICS, help="distance (default: l2)")
    add(
        "--scale",
        choices=SCALINGS,
        help="vectors as they come, encoders alike, or along axes that part the classes (default: none)",
    )
    add("--search", choices=SEARCHES, help="default: auto, by size and metric")
    add("--storage", choices=STORAGES, help="of the vectors on disk (default: float32)")
    add("--force-storage", action="store_true", help="float16 even if it changes more than 1 call in 200")
    add(
        "--set-aside", type=_part, default=0.1, metavar="SHARE", help="cells kept out, to calibrate certainty (0: none)"
    )
    add("--force", action="store_true", help="replace an index of this name")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Build, and describe what came out, as values and as text. Raises as `build.build` does."""
    found = labelled_set(args, split_by=args.split_by)
    plan = Plan(
        folder=args.out / args.name,
        images=found.images,
        classes=found.classes,
        states=args.states,
        rule=image_rule(args, found.pixel_size_um),
        intensity="auto" if args.intensity == "auto" else "",
        colour="" if colour_of(args) else "auto",
        pixel_size_um=found.pixel_size_um,
        cell_diameter_um=args.cell_diameter,
        segmenter=args.segmenter,
        encoders=encoders_of(args),
        encoder_folder=args.encoders,
        device=args.device,
        settings=index_settings(args),
        provenance={**found.provenance, "preset": args.preset},
        set_aside=args.set_aside,
        force_storage=args.force_storage,
        replace=args.force,
        gathering=found.gathering,
    )
    index = build(plan, counting)
    dropped = [name for name in found.classes if name not in index.classes]
    if dropped:
        print(f"left out, having no cells: {', '.join(dropped)}", file=sys.stderr)
    summary = {**telling.described(index), "dropped_classes": dropped}
    return summary, telling.told_index(summary)


def index_settings(args: argparse.Namespace) -> IndexSettings:
    """How the index is to be searched: what was said, else the preset's. Raises UsageError if that contradicts."""
    base = PRESETS[args.preset].settings if args.preset else IndexSettings()
    said = {name: getattr(args, name) for name in ("k_min", "k_max", "threshold", "metric", "search", "storage")}
    said |= {"scaling": args.scale, "reweight": False if args.no_reweight else None}
    return replace(base, **{name: value for name, value in said.items() if value is not None})


def encoders_of(args: argparse.Namespace) -> list[str]:
    """The encoders that were named, else the preset's. Raises UsageError without either."""
    if args.encoder:
        return list(args.encoder)
    if args.preset:
        return list(PRESETS[args.preset].encoders)
    raise UsageError("which encoder?", hint="name one with --encoder, or take a --preset with its own")


def _part(text: str) -> float:
    return 0.0 if text.strip() in ("0", "0.0") else share(text)
