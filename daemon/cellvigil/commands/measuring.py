"""`bench`: its options, and what it prints."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cellvigil import config
from cellvigil.commands.shared import DEFAULT_CONFIG, Commands, command, print_json

if TYPE_CHECKING:
    from cellvigil.bench.figures import Wanted


def add_bench(commands: Commands) -> None:
    """The `bench` command."""
    what = "measure this device: cells a second, milliseconds a batch, share of the peak, memory, of each encoder"
    parser = command(commands, "bench", what, "cellvigil bench efficientnet-lite0 --encoders encoders --json")
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="bundles to measure (all that are there)")
    add(
        "--config",
        type=Path,
        help=f"configuration file: folders and how encoders run ({DEFAULT_CONFIG}, if it is there)",
    )
    add("--encoders", type=Path, help="folder of the bundles (the configuration's encoder.path, else encoders)")
    add("--device", choices=["auto", "cpu", "cuda", "tensorrt"], help="(the configuration's, else auto)")
    add("--seconds", type=_seconds, default=1.0, metavar="N", help="for each figure (%(default)s)")
    add("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_bench)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return value


def _bench(args: argparse.Namespace) -> int:
    from cellvigil.bench.running import bench, bundles_in  # noqa: PLC0415 - heavy
    from cellvigil.bench.table import table_of  # noqa: PLC0415

    settings = _settings(args.config)
    folder = args.encoders or (settings.encoder.path if settings else config.Encoder().path)
    report = bench(bundles_in(folder, args.names), _wanted(args, settings), told=_say)
    if args.json:
        print_json(asdict(report))
    else:
        print(table_of(report))
    failed = [bundle for bundle in report.bundles if bundle.error]
    for bundle in failed:
        print(f"cellvigil: {bundle.name}: {bundle.error}", file=sys.stderr)
    return 1 if failed else 0


def _settings(path: Path | None) -> config.Config | None:
    """The configuration that was named; else the one that is here, if there is one."""
    if path is None and not DEFAULT_CONFIG.exists():
        return None
    return config.load(path or DEFAULT_CONFIG)


def _wanted(args: argparse.Namespace, settings: config.Config | None) -> Wanted:
    from cellvigil.bench.figures import Wanted  # noqa: PLC0415
    from cellvigil.device_options import engines_folder, tuning_of  # noqa: PLC0415

    if settings is None:
        return Wanted(args.device or "auto", seconds=args.seconds)
    tuning = tuning_of(settings, "")
    return Wanted(
        args.device or settings.encoder.device,
        threads=settings.encoder.threads,
        batch=settings.encoder.batch,
        seconds=args.seconds,
        mem_limit=tuning.mem_limit,
        cuda_graphs=tuning.cuda_graphs,
        engines=engines_folder(settings),
    )


def _say(name: str) -> None:
    if sys.stderr.isatty():
        print(f"measuring {name} ...", file=sys.stderr)
