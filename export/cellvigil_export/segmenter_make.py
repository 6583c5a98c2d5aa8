"""From a SAM checkpoint to a verified segmenter bundle: its two graphs written, compared, and described."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellvigil.bundle import segmenter as format_
from cellvigil.bundle.files import write_manifest, written_whole
from cellvigil.bundle.segmenter import SegmenterBundle, open_segmenter
from cellvigil.device import runtime
from cellvigil.errors import UsageError
from cellvigil_export import weights as weights_
from cellvigil_export.apart import apart
from cellvigil_export.declaration import OPSET, Declaration, Preprocessing
from cellvigil_export.heap import give_back_memory
from cellvigil_export.make import full_disk_told
from cellvigil_export.making import versions
from cellvigil_export.segmenter_check import checked
from cellvigil_export.segmenters import Graphs

_TOOLS = ("numpy", "onnx", "onnxscript", "torch", "transformers")


def export_segmenter(
    declaration: Declaration,
    *,
    weights: Path | None,
    out: Path,
    precision: str = "fp32",
    force: bool = False,
    revision: str | None = None,
) -> SegmenterBundle:
    """Write the bundle `out`/<name> and open it. `weights` is a file or folder; None = those of the hub, at `revision`.

    Two exports of the same weights on one machine give the same bytes. Raises UsageError if the weights or torch are
    not there or another precision is wanted, BundleError if the weights do not fit, a graph differs from torch, the
    disk is full, or the bundle exists and `force` is false. What fails leaves nothing behind.
    """
    if precision != "fp32":
        what = f"a segmenter is exported in fp32, not in {precision}"
        raise UsageError(what, hint="leave --precision out: the gate of lower precisions is for vectors, not for masks")
    found = weights_.find(declaration, weights, revision)
    folder = out / declaration.name
    with full_disk_told(out), written_whole(folder, replace=force) as work:
        graphs = apart(_graphs, declaration, found.path, work)
        give_back_memory()
        parity = checked(work, declaration.input_size, graphs.against, graphs.wanted)
        source = {"checkpoint": declaration.checkpoint, "revision": found.revision, "sha256": dict(graphs.sha256)}
        write_manifest(work, _manifest(declaration, graphs.preprocessing, source, parity))
    return open_segmenter(folder)


def _graphs(declaration: Declaration, weights: Path, work: Path) -> Graphs:
    """Have torch write both graphs. Raises UsageError if there is none."""
    try:
        from cellvigil_export.segmenter_graph import written  # noqa: PLC0415 - listing what there is needs no torch
    except ImportError as error:
        hint = "pip install 'cellvigil[export]'"
        raise UsageError(f"{declaration.name} needs torch and transformers ({error})", hint=hint) from None
    return written(declaration, weights, work)


def _manifest(
    declaration: Declaration, used: Preprocessing, source: Mapping[str, Any], parity: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything but the list of files. No time and no path: the same weights give the same manifest."""
    return {
        "schema_version": format_.SCHEMA_VERSION,
        "kind": format_.KIND,
        "name": declaration.name,
        "precision": "fp32",
        "source": dict(source),
        "licences": {"upstream": declaration.licences.upstream, "weights": declaration.licences.weights},
        "input_size": declaration.input_size,
        "feature_channels": declaration.dimension,
        "preprocessing": {
            **used.told(),
            "outside_the_graph": {"longest": used.fit.side, "resample": used.fit.resample, "place": "upper left"},
            "in_the_graph": "(pixel * scale - mean) / std, then 0 outside the extent",
        },
        "encoder": {
            format_.IMAGE: {"dtype": "uint8", "layout": "NHWC", "colour": "RGB"},
            format_.EXTENT: "rows and columns of the picture",
            "output": format_.FEATURES,
        },
        "decoder": {
            format_.POINTS: "x, y in pixels of the square picture",
            format_.LABELS: {"-1": "padding", "0": "not this", "1": "this", "2": "upper left", "3": "lower right"},
            "outputs": [format_.MASKS, format_.IOU],
            "tokens": "0 the single mask, 1 to 3 those of an ambiguous prompt",
        },
        "opset": OPSET,
        "tools": {"onnxruntime": runtime().__version__, **versions(*_TOOLS)},
        "parity": dict(parity),
    }
