"""The checks of an export, in a process of their own: what torch left behind in this one can neither help nor hurt.

    python -m cellvigil_export.checking FOLDER

FOLDER holds request.json, pictures.npy and wanted.npy; the vectors go to alone.npy beside them, the figures (or the
complaint) as one line of JSON to stdout. `checked` writes the request, starts the process and reads the answer.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.data import F32, U8
from cellvigil.errors import BundleError, CellvigilError
from cellvigil_export import parity
from cellvigil_export.heap import return_what_is_freed

_REQUEST, _PICTURES, _WANTED, _ALONE = "request.json", "pictures.npy", "wanted.npy", "alone.npy"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be checked."""

    model: str  # path
    precision: str
    against: str  # what gave the wanted vectors
    drawn: int  # how many of the pictures, the first ones, were drawn
    batches: tuple[int, ...] = parity.BATCHES


def checked(request: Request, pictures: U8, wanted: F32, *, scratch: Path) -> tuple[F32, dict[str, Any]]:
    """Check a model in a fresh process: each picture's vector alone (n, dimension), and the figures for the manifest.

    `pictures` (n, side, side, channels) u8, `wanted` (n, dimension) f32; `scratch` is a folder for the exchange. Raises
    BundleError if the model fails a check or the process does not come to its end, OSError if the disk fails.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".checks.") as folder:
        work = Path(folder)
        np.save(work / _PICTURES, pictures)
        np.save(work / _WANTED, wanted)
        (work / _REQUEST).write_text(json.dumps(asdict(request)), encoding="utf-8")
        answer = asked(__name__, work)
        return np.load(work / _ALONE, allow_pickle=False), answer


def asked(module: str, folder: Path) -> dict[str, Any]:
    """The figures that `module`, which ends in `answered`, finds in a fresh process for the request in `folder`.

    Raises BundleError with its complaint, or if it does not come to its end; OSError if the disk failed it.
    """
    command = [sys.executable, "-m", module, str(folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return _answer(done)


def _answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The figures that the process found. Raises what it complained of."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        hint = "SIGKILL usually means that memory ran out: try on a larger machine" if name == "SIGKILL" else ""
        raise BundleError(f"the process that checks the export was ended by {name}", hint=hint)
    try:
        answer = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise BundleError(f"the process that checks the export failed: {last}") from None
    if complaint := answer.get("complaint"):
        raise BundleError(complaint["what"], where=complaint["where"], hint=complaint["hint"])
    if "why" in answer:
        raise OSError(answer["errno"], answer["why"]) if answer["errno"] else OSError(answer["why"])
    return dict(answer["figures"])


def check(folder: Path) -> dict[str, Any]:
    """Do what the request in `folder` asks for; the figures. Raises BundleError as `checked` does."""
    content = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
    request = Request(**{**content, "batches": tuple(content["batches"])})
    pictures, wanted = np.load(folder / _PICTURES), np.load(folder / _WANTED)
    found = parity.measure(
        Path(request.model),
        pictures,
        wanted,
        against=request.against,
        precision=request.precision,
        batches=request.batches,
    )
    np.save(folder / _ALONE, found.alone)
    return parity.figures(found, against=request.against, drawn=request.drawn, batches=request.batches)


def answered(check: Callable[[Path], dict[str, Any]]) -> int:
    """Run the checks of the folder that is the only argument, and tell; 0 if what was made passed them, 1 if not."""
    return_what_is_freed()
    try:
        answer: dict[str, Any] = {"figures": check(Path(sys.argv[1]))}
    except CellvigilError as error:
        answer = {"complaint": {"what": error.what, "where": error.where, "hint": error.hint}}
    except OSError as error:
        answer = {"errno": error.errno, "why": str(error.strerror or error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if "figures" in answer else 1


if __name__ == "__main__":
    sys.exit(answered(check))
