"""`cellvigil-export`: list the encoders and segmenters that can be exported, and export one."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.bundle.licences import not_commercial
from cellvigil.bundle.segmenter import SegmenterBundle
from cellvigil.errors import CellvigilError, UsageError
from cellvigil_export import lowering
from cellvigil_export.declaration import Declaration
from cellvigil_export.listing import commercial_use, listed, table
from cellvigil_export.make import export
from cellvigil_export.segmenter_make import export_segmenter
from cellvigil_export.segmenters import SEGMENTERS
from cellvigil_export.zoo import ENCODERS, declared

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 2 bad usage, 1 anything else; an error is one line on stderr."""
    try:
        arguments = _parser().parse_args(argv)
        if arguments.command == "list":
            rows = listed()
            print(json.dumps(rows, indent=2) if arguments.json else table(rows))
            return 0
        result = _run(arguments)
    except CellvigilError as error:
        print(f"cellvigil-export: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"cellvigil-export: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2) if arguments.json else _told(result))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cellvigil-export",
        description="Turn a checkpoint into a verified bundle that cellvigil runs: an encoder, or a segmenter.",
        epilog="example: cellvigil-export run efficientnet-lite0 --out encoders",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="what can be exported", epilog="example: cellvigil-export list --json")
    run = commands.add_parser(
        "run",
        help="export one",
        description="Export one encoder or segmenter and check it against its checkpoint. Its licence is printed.",
        epilog="example: cellvigil-export run dinov2-small --weights checkpoints/dinov2-small --out encoders",
    )
    _add_run_options(run)
    for command in (listing, run):
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    what = run.add_argument_group("what")
    what.add_argument("name", nargs="?", metavar="NAME", help="one of `cellvigil-export list`")
    what.add_argument("--weights", type=Path, metavar="PATH", help="its checkpoint: a file, or a folder")
    what.add_argument("--revision", metavar="R", help="of the hub: a commit, tag or branch (default: the newest)")
    what.add_argument(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="instead of NAME, any vision checkpoint of transformers: a folder with its preprocessor_config.json",
    )
    what.add_argument("--name", dest="called", metavar="NAME", help="of its bundle (default: the folder's)")
    what.add_argument("--licence", metavar="SPDX", help="of its weights, as you know it (default: NOASSERTION)")
    how = run.add_argument_group("how")
    how.add_argument("--out", type=Path, default=Path("encoders"), help="folder of the bundles (default: encoders)")
    how.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "int8"], help="default: fp32")
    how.add_argument(
        "--gate-images",
        type=Path,
        metavar="DIR",
        help="pictures of single cells, one folder a class, that a lower precision is held against fp32 on",
    )
    how.add_argument("--accept-below-gate", action="store_true", help="write it although it is not as good as fp32")
    how.add_argument("--force", action="store_true", help="replace a bundle of this name")


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {"weights": arguments.weights, "out": arguments.out, "force": arguments.force}
    given |= {"revision": arguments.revision, "precision": arguments.precision}
    judged = {"gate_images": arguments.gate_images, "accept_below_gate": arguments.accept_below_gate}
    if arguments.checkpoint is not None:
        declaration = _described_by_itself(arguments)
        given["weights"] = arguments.checkpoint
    elif arguments.called or arguments.licence:
        raise UsageError("--name and --licence are of a --checkpoint", hint="a declared encoder has its own")
    elif arguments.name is None:
        raise UsageError("NAME or --checkpoint is required", hint="cellvigil-export list")
    elif arguments.name in SEGMENTERS:
        if any(judged.values()):
            raise UsageError(f"{arguments.name} is a segmenter", hint="--gate-images is for the vectors of encoders")
        return _segmenter_result(export_segmenter(SEGMENTERS[arguments.name], **given))
    else:
        declaration = declared(arguments.name)
    return _result(export(declaration, **given, **judged))


def _described_by_itself(arguments: argparse.Namespace) -> Declaration:
    """The declaration of an encoder that is not in the list, read off its checkpoint."""
    if arguments.name or arguments.weights or arguments.revision:
        raise UsageError("--checkpoint stands alone", hint="leave NAME, --weights and --revision out")
    if not arguments.checkpoint.exists():
        raise UsageError("the checkpoint is not there", where=arguments.checkpoint)
    name = arguments.called or re.sub(r"[^a-z0-9._-]+", "-", arguments.checkpoint.resolve().name.lower()).strip("-._")
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a bundle", hint="--name: lower case letters, digits, . _ and -")
    if name in ENCODERS or name in SEGMENTERS:
        hint = f"another --name, or, if it is that one: run {name} --weights {arguments.checkpoint}"
        raise UsageError(f"{name} is the name of a declared encoder", hint=hint)
    try:
        from cellvigil_export.vision import declared_by  # noqa: PLC0415 - all else here runs without torch
    except ImportError as error:
        hint = "pip install 'cellvigil[export]'"
        raise UsageError(f"--checkpoint needs torch and transformers ({error})", hint=hint) from None
    return declared_by(arguments.checkpoint, name, arguments.licence or "NOASSERTION")


def _result(bundle: EncoderBundle) -> dict[str, Any]:
    return {
        **_common(bundle),
        "dimension": bundle.dimension,
        "channels": bundle.channels,
        "vector": bundle.manifest["output"]["vector"],
        "precision": bundle.precision,
        "parity": bundle.manifest["parity"],
        "gate": bundle.manifest.get("gate"),
    }


def _segmenter_result(bundle: SegmenterBundle) -> dict[str, Any]:
    return {**_common(bundle), "parity": bundle.manifest["parity"]}


def _common(bundle: EncoderBundle | SegmenterBundle) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "folder": str(bundle.folder),
        "sha256": bundle.sha256,
        "input_size": bundle.input_size,
        "licences": bundle.manifest["licences"],
        "not_commercial": not_commercial(bundle.manifest),
        "source": bundle.manifest["source"],
    }


def _told(result: dict[str, Any]) -> str:
    """A result for a person to read."""
    parity, licences = result["parity"], result["licences"]
    given = f"{result['dimension']}-d vectors out: {result['vector']}" if "vector" in result else "masks of prompts out"
    lines = [
        f"{result['name']} is in {result['folder']}",
        f"  {result['input_size']} px pictures in, {given}",
        f"  from {result['source']['checkpoint']}, {result['source']['revision']}",
        f"  licence: {licences['weights']} (weights), {licences['upstream']} (upstream)",
        f"  against {parity['against']}: {_figures(parity)}",
        f"  sha256 {result['sha256']}",
    ]
    if result["not_commercial"]:
        known = commercial_use(result) == "NO"
        said = "NOT FOR COMMERCIAL USE" if known else "commercial use is not known to be allowed"
        lines.insert(4, f"  {said}: {result['not_commercial']}")
    if result.get("gate"):
        lines.append(f"  gate: {lowering.said(result['gate'])}")
    return "\n".join(lines)


def _figures(parity: Mapping[str, Any]) -> str:
    """How far the bundle is from its checkpoint."""
    if "max_one_minus_cosine" in parity:
        return f"1 - cosine <= {parity['max_one_minus_cosine']:.1e}"
    return f"1 - cosine <= {parity['features_one_minus_cosine']:.1e}, masks {parity['masks_one_minus_cosine']:.1e}"
