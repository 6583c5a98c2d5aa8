"""`cellvigil-export`: list the encoders that can be exported, and export one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.errors import CellvigilError, UsageError
from cellvigil_export.declaration import Declaration
from cellvigil_export.make import export
from cellvigil_export.zoo import ENCODERS, declared


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 2 bad usage, 1 anything else; an error is one line on stderr."""
    try:
        arguments = _parser().parse_args(argv)
        result = _list() if arguments.command == "list" else _run(arguments)
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
        description="Turn an encoder's checkpoint into a verified bundle that cellvigil runs.",
        epilog="example: cellvigil-export run efficientnet-lite0 --out encoders",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser(
        "list", help="the encoders that can be exported", epilog="example: cellvigil-export list --json"
    )
    run = commands.add_parser(
        "run",
        help="export one encoder",
        description="Export one encoder and check it against its checkpoint.",
        epilog="example: cellvigil-export run dinov2-small --weights checkpoints/dinov2-small --out encoders",
    )
    run.add_argument("name", metavar="NAME", help="one of `cellvigil-export list`")
    run.add_argument("--weights", type=Path, metavar="PATH", help="checkpoint: a file, or a folder with config.json")
    run.add_argument("--out", type=Path, default=Path("encoders"), help="folder of the bundles (default: encoders)")
    run.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "int8"], help="fp32, the only one so far")
    run.add_argument("--force", action="store_true", help="replace a bundle of this name")
    for command in (listing, run):
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _list() -> list[dict[str, Any]]:
    return [_described(declaration) for declaration in ENCODERS.values()]


def _described(declaration: Declaration) -> dict[str, Any]:
    return {
        "name": declaration.name,
        "checkpoint": declaration.checkpoint,
        "dimension": declaration.dimension,
        "input_size": declaration.input_size,
        "licence": declaration.licences.weights,
        "weights": "packaged" if declaration.packaged else "--weights",
        "needs_torch": declaration.needs_torch,
    }


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    bundle = export(
        declared(arguments.name),
        weights=arguments.weights,
        out=arguments.out,
        precision=arguments.precision,
        force=arguments.force,
    )
    return _result(bundle)


def _result(bundle: EncoderBundle) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "folder": str(bundle.folder),
        "sha256": bundle.sha256,
        "dimension": bundle.dimension,
        "input_size": bundle.input_size,
        "precision": bundle.precision,
        "licences": bundle.manifest["licences"],
        "source": bundle.manifest["source"],
        "parity": bundle.manifest["parity"],
    }


def _told(result: list[dict[str, Any]] | dict[str, Any]) -> str:
    """A result for a person to read."""
    if isinstance(result, list):
        columns = ("name", "dimension", "input_size", "licence", "weights", "checkpoint")
        return "\n".join("  ".join(f"{row[column]!s:<18}" for column in columns).rstrip() for row in result)
    parity, licences = result["parity"], result["licences"]
    return (
        f"{result['name']} is in {result['folder']}\n"
        f"  {result['input_size']} px pictures in, {result['dimension']}-d vectors out\n"
        f"  licence: {licences['weights']} (weights), {licences['upstream']} (upstream)\n"
        f"  against {parity['against']}: 1 - cosine <= {parity['max_one_minus_cosine']:.1e}\n"
        f"  sha256 {result['sha256']}"
    )
