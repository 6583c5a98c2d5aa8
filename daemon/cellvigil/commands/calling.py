"""`classify`: its options, and what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path

from cellvigil.commands.shared import Commands, command, print_json


def add_classify(commands: Commands) -> None:
    """The `classify` command."""
    what = "call single-cell images by an index: label, probability, and the nearest reference cells"
    parser = command(commands, "classify", what, "cellvigil classify cells/*.png --index blood --html why.html")
    add = parser.add_argument
    add("images", type=Path, nargs="+", metavar="IMAGE", help="one cell each, in its middle")
    add("--index", required=True, metavar="NAME", help="a name under --indexes, or a path to an index")
    add("--indexes", type=Path, default=Path("indexes"), help="folder of the indexes (%(default)s)")
    add("--encoders", type=Path, default=Path("encoders"), help="folder of the encoder bundles (%(default)s)")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "tensorrt"])
    add("--pixel-size", type=float, metavar="UM", help="micrometres a pixel, where the index was built with a scale")
    add("--nearest", type=int, default=5, metavar="M", help="reference cells to show for each (%(default)s)")
    add("--same-device", action="store_true", help="the images come from the index's own device: reject novel cells")
    add("--min-probability", type=float, metavar="P", help="reject cells that are less probably right")
    add("--html", type=Path, metavar="FILE", help="write a page with the pictures of the nearest reference cells")
    add("--json", action="store_true", help="print the answers as JSON")
    parser.set_defaults(run=_classify)


def _classify(args: argparse.Namespace) -> int:
    from cellvigil import decide  # noqa: PLC0415
    from cellvigil.bundle.encoder import open_encoder  # noqa: PLC0415
    from cellvigil.bundle.index import check_encoders, index_folder, open_index  # noqa: PLC0415
    from cellvigil.classify import classify, told  # noqa: PLC0415
    from cellvigil.classify_page import page  # noqa: PLC0415
    from cellvigil.encoder import open_session  # noqa: PLC0415
    from cellvigil.segment.sam_session import open_same_sam  # noqa: PLC0415

    index = open_index(index_folder(args.index, args.indexes))
    bundles = [open_encoder(args.encoders / each.name) for each in index.encoders]
    check_encoders(index, bundles)
    answers = list(
        classify(
            args.images,
            index,
            [open_session(bundle, device=args.device) for bundle in bundles],
            nearest=args.nearest,
            pixel_size_um=args.pixel_size,
            rejection=decide.Rejection(args.same_device, args.min_probability),
            sam=open_same_sam(index.manifest["provenance"], args.encoders, args.device)
            if index.image_rule.mask
            else None,
        )
    )
    if args.html:
        args.html.write_text(page(answers, index), encoding="utf-8")
    if args.json:
        print_json({"index": index.name, "sha256": index.sha256, "cells": [each.as_dict() for each in answers]})
    else:
        print("\n".join(told(each) for each in answers))
    return 0
