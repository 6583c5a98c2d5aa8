"""From a checkpoint to a verified encoder bundle: weights found, model written, compared, and described.

A model is made in one process, brought to a lower precision in the next, and checked in the last; each holds the
weights once. Peak memory of all processes together: the weights x 1.3 + 1 GiB (benchmarks/README.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle import encoder as format_
from cellvigil.bundle.encoder import EncoderBundle, open_encoder
from cellvigil.bundle.files import write_manifest, written_whole
from cellvigil.data import F32, U8
from cellvigil.device import runtime
from cellvigil.errors import BundleError, is_full
from cellvigil_export import checking, parity
from cellvigil_export import lowering as lowerings
from cellvigil_export.apart import apart, here
from cellvigil_export.declaration import OPSET, Declaration
from cellvigil_export.lowering import Lowering
from cellvigil_export.making import Origin, drawn, is_large, made
from cellvigil_export.weights import find

_LARGE_BATCHES = (1, 3)  # 16 such pictures have more activations than memory is allowed


def export(
    declaration: Declaration,
    *,
    weights: Path | None,
    out: Path,
    precision: str = "fp32",
    force: bool = False,
    revision: str | None = None,
    gate_images: Path | None = None,
    accept_below_gate: bool = False,
) -> EncoderBundle:
    """Write the bundle `out`/<name> and open it. `weights` is a file or folder; None = see `weights.find`.

    The cells in `gate_images` are checked too, and a lower precision is judged by them; see `lowering.Lowering`.

    Two exports of the same weights on one machine give the same bytes. Raises UsageError if the weights or torch are
    not there or the precision cannot be had, BundleError if the weights do not fit, the model differs from its
    checkpoint or fails another check, the disk is full, or the bundle exists and `force` is false. What fails leaves
    nothing behind.
    """
    lowering = Lowering(precision, gate_images, accept_below_gate)
    lowerings.check(declaration, lowering)
    found = find(declaration, weights, revision)
    folder = out / lowerings.named(declaration, lowering)
    with full_disk_told(out), written_whole(folder, replace=force) as work:
        model = work / format_.MODEL
        run = apart if declaration.needs_torch else here
        origin, pictures, wanted = run(made, declaration, found, model, gate_images)
        lowered = run(lowerings.lower, model, declaration, origin.preprocessing, lowering)
        batches = _LARGE_BATCHES if is_large(declaration) else parity.BATCHES
        request = checking.Request(str(model), precision, origin.against, drawn(declaration), batches)
        figures = _check(request, pictures, wanted, work)
        write_manifest(work, _manifest(declaration, folder.name, precision, origin, figures) | lowered)
    return open_encoder(folder)


def _check(request: checking.Request, pictures: U8, wanted: F32, work: Path) -> dict[str, Any]:
    """Have the model checked in a fresh process, and write the golden pair; the figures."""
    alone, figures = checking.checked(request, pictures, wanted, scratch=work)
    np.save(work / format_.GOLDEN_INPUT, pictures[: request.drawn])
    np.save(work / format_.GOLDEN_OUTPUT, alone[: request.drawn])
    return figures


@contextlib.contextmanager
def full_disk_told(out: Path) -> Iterator[None]:
    """A disk that fills up in mid-export is a BundleError that says so."""
    try:
        yield
    except OSError as error:
        if not is_full(error) and error.errno is not None:  # numpy tells of a short write without the system's reason
            raise
        what = f"the export was not written: {error.strerror or error}"
        hint = "the disk is full? a bundle needs as much room as its weights; nothing of it was left"
        raise BundleError(what, where=out, hint=hint) from None


def _manifest(
    declaration: Declaration, name: str, precision: str, origin: Origin, figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything but the list of files. No time and no path: the same weights give the same manifest."""
    return {
        "schema_version": format_.SCHEMA_VERSION,
        "kind": format_.KIND,
        "name": name,
        "precision": precision,
        "source": {
            "checkpoint": declaration.checkpoint,
            "revision": origin.revision,
            "sha256": dict(origin.sha256),
        },
        "licences": {"upstream": declaration.licences.upstream, "weights": declaration.licences.weights},
        "input": {"name": format_.INPUT_NAME, "dtype": "uint8", "layout": "NHWC", **_colour(declaration.channels)},
        "input_size": declaration.input_size,
        "channels": declaration.channels,
        "preprocessing": origin.preprocessing.told(),
        "output": {"name": format_.OUTPUT_NAME, "vector": declaration.vector},
        "dimension": declaration.dimension,
        "dtype": "float32",
        "opset": OPSET,
        "tools": {"onnxruntime": runtime().__version__, **origin.tools},
        "parity": dict(figures),
    }


def _colour(channels: int) -> dict[str, str]:
    """The order of three channels; others are the microscope's own, in the order that the index says."""
    return {"colour": "RGB"} if channels == 3 else {}
