"""From the fp32 graph of an export to one of lower precision: made, and held against the fp32 one on real cells.

A lower precision is a bundle of its own name, NAME-fp16 or NAME-int8. It is written only if it passes the gate
(`gate`), or if that was waived by name; either way its manifest tells the figures.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.data import F32, I64
from cellvigil.errors import BundleError, UsageError
from cellvigil_export import gate, half, int8
from cellvigil_export.cells import LabelledCells, labelled_cells
from cellvigil_export.declaration import Declaration, Preprocessing

PRECISIONS = ("fp32", "fp16", "int8")
WAIVE = "--accept-below-gate"
WRITTEN_OUT = "cpu, roundings written out"
"""The gate's "device" of fp16 where no GPU was: the figures are of a copy that rounds wherever the model may."""


@dataclass(frozen=True, slots=True)
class Lowering:
    """What precision is wanted, and what it is to be judged by."""

    precision: str = "fp32"
    gate_images: Path | None = None  # pictures of single cells, one folder a class
    accept_below_gate: bool = False  # write it although it did not pass, or was not measured


def named(declaration: Declaration, wanted: Lowering) -> str:
    """The bundle's name."""
    return declaration.name if wanted.precision == "fp32" else f"{declaration.name}-{wanted.precision}"


def check(declaration: Declaration, wanted: Lowering) -> None:
    """Raises UsageError for a precision that cannot be made of this encoder, or not judged: before any work is done."""
    precision = wanted.precision
    if precision not in PRECISIONS:
        raise UsageError(f"no precision {precision!r}", hint=f"one of {', '.join(PRECISIONS)}")
    if precision in declaration.refuses:
        what = f"{declaration.name} cannot be had in {precision}: {declaration.refuses[precision]}"
        raise UsageError(what, hint="--precision fp32")
    if precision == "fp32":
        return
    if wanted.gate_images is None:
        if precision == "int8":
            what = "int8 needs cells of yours: the ranges of its activations are taken from them"
            raise UsageError(what, hint="--gate-images FOLDER, with one folder a class")
        if not wanted.accept_below_gate:
            hint = f"--gate-images FOLDER, with one folder a class; or {WAIVE}: the manifest will say it"
            raise UsageError(f"whether {precision} is as good as fp32 is told by cells of yours", hint=hint)
        return
    cells = labelled_cells(wanted.gate_images, declaration.preprocessing.fit, declaration.channels)
    gate.check_cells(cells, parts(cells)[1])


def lower(model: Path, declaration: Declaration, used: Preprocessing, wanted: Lowering) -> dict[str, Any]:
    """Bring the fp32 model at `model` (and its weights beside it) to the precision `wanted`, in place, and judge it.

    `used` is the preprocessing as it was baked in. Returns what is added to the manifest: nothing for fp32, else "gate"
    and, for int8, "golden_tolerance" and "quantised". Raises BundleError for one that does not pass the gate and is not
    accepted all the same, UsageError as `check`.
    """
    if wanted.precision == "fp32":
        return {}
    if wanted.gate_images is None:
        half.to_half(model)
        return {"gate": {"measured": False, "why": "no cells were given", "accepted_below_gate": True}}
    cells = labelled_cells(wanted.gate_images, used.fit, declaration.channels)
    calibrating, rows = parts(cells)
    gate.check_cells(cells, rows)
    is_int8 = wanted.precision == "int8"
    usual, device = gate.vectors(model, cells, rows, device="cpu" if is_int8 else "auto")  # it runs nowhere else
    if is_int8:
        told = int8.to_int8(model, cells, calibrating)
        vectors, device = gate.vectors(model, cells, rows, device="cpu")
    else:
        told = {}
        vectors, device = _halves(model, cells, rows, device)
    figures = gate.compare(usual, vectors, cells.labels[rows])
    _judge(figures, declaration, wanted)
    measured = {"measured": True, "images": cells.folder, "classes": list(cells.classes), "device": device}
    accepted = {"accepted_below_gate": wanted.accept_below_gate and not figures.passed}
    return {"gate": {**measured, **figures.told(), **accepted}, **told}


def said(told: Mapping[str, Any]) -> str:
    """The manifest's "gate" in a line for a person."""
    if not told["measured"]:
        return f"not measured, {told['why']}; accepted all the same"
    verdict = "passed" if told["passed"] else "NOT PASSED, accepted all the same"
    return (
        f"{verdict}; on {told['cells']} cells of {told['images']} centred cosine "
        f"{told['centred_cosine']['percentile_1']} at the 1st percentile, {told['agreement']:.2%} of the calls agree"
    )


def parts(cells: LabelledCells) -> tuple[I64, I64]:
    """Rows that calibrate and rows that are judged by: no cell is both, whether or not the precision calibrates."""
    calibrating = cells.spread(min(int8.CALIBRATING, len(cells) // 4))
    kept = [row for row in range(len(cells)) if row not in set(calibrating.tolist())]
    return calibrating, cells.spread(gate.MOST, np.array(kept, dtype=np.int64))


def _halves(model: Path, cells: LabelledCells, rows: I64, device: str) -> tuple[F32, str]:
    """Bring `model` to half precision; its vectors, and how they were computed, where those of fp32 were: `device`.

    On the CPU those of a copy in which every rounding is written out: onnxruntime's kernels compute in single precision
    there, casts between two of them are taken out, and what a GPU gives would be flattered.
    """
    if device != "cpu":
        half.to_half(model)
        return gate.vectors(model, cells, rows, device=device)
    with tempfile.TemporaryDirectory(dir=model.parent, prefix=".rounding.") as folder:
        copy = Path(folder) / model.name
        shutil.copyfile(model, copy)
        beside = model.with_name(f"{model.name}.data")
        if beside.is_file():
            _beside(beside, copy.with_name(beside.name))
        half.to_half(copy, written_out=True)
        found, _ = gate.vectors(copy, cells, rows, device=device)
    half.to_half(model)
    return found, WRITTEN_OUT


def _beside(weights: Path, there: Path) -> None:
    """Bring weights to a copied graph: as a link, for they are replaced there and not written to, or as a copy."""
    try:
        there.hardlink_to(weights)
    except OSError:  # of a file system without links: a share, a stick
        shutil.copyfile(weights, there)


def _judge(figures: gate.Figures, declaration: Declaration, wanted: Lowering) -> None:
    if figures.passed or wanted.accept_below_gate:
        return
    what = (
        f"{declaration.name} in {wanted.precision} is not the same encoder: "
        f"centred cosine {figures.cosine_percentile_1} at the 1st percentile ({gate.COSINE} is wanted), "
        f"{figures.agreement} of the calls agree ({gate.AGREEMENT} is wanted)"
    )
    raise BundleError(what, hint=f"keep fp32; or {WAIVE}, and the manifest will say it")
