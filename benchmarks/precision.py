"""What fp16 and int8 change of an encoder with real weights: its vectors, its calls, its speed and its size.

    python benchmarks/precision.py [--data DIR] [--encoders NAME ...] [--tried] [--smoke]

EfficientNet-Lite0 and MobileNetV2, with real weights, on white blood cells (`pbc`, whole pictures) and on cells in
a counting chamber (`livedead`, squares around the annotated boxes). Speed: one picture at a time on one CPU thread, the
precisions in turn in one process, medians and their ratio to fp32. With `--tried` also what was tried to make int8
better, on `pbc`. `--smoke` takes one encoder and one data set. Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT / part) for part in ("daemon", "export")]

import cv2  # noqa: E402 - found through the path set above
import onnx  # noqa: E402
from onnxruntime import quantization as tool  # noqa: E402

from cellvigil import device  # noqa: E402
from cellvigil.bundle.encoder import MODEL  # noqa: E402
from cellvigil_export import gate, int8, lowering  # noqa: E402
from cellvigil_export.cells import LabelledCells, labelled_cells  # noqa: E402
from cellvigil_export.declaration import Declaration  # noqa: E402
from cellvigil_export.half import FEW  # noqa: E402
from cellvigil_export.make import export  # noqa: E402
from cellvigil_export.zoo import declared  # noqa: E402

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", _ROOT.parent / "shared" / "data"))
SIDE_UM, PIXEL_UM = 30.0, 0.75  # of a square around a cell of livedead; its nominal pixel
PRECISIONS = ("fp16", "int8")


def livedead(data: Path, folder: Path) -> Path:
    """The annotated cells as pictures, one folder a class."""
    told = json.loads((data / "annotations.coco.json").read_text(encoding="utf-8"))
    files = {image["id"]: image["file_name"] for image in told["images"]}
    names = {category["id"]: category["name"] for category in told["categories"]}
    side = round(SIDE_UM / PIXEL_UM)
    for cell in told["annotations"]:
        picture = cv2.imread(str(data / "images" / files[cell["image_id"]]))
        x, y, width, height = cell["bbox"]
        padded = cv2.copyMakeBorder(picture, side, side, side, side, cv2.BORDER_REFLECT_101)
        top, left = round(y + height / 2 + side / 2), round(x + width / 2 + side / 2)
        home = folder / names[cell["category_id"]]
        home.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(home / f"{cell['id']}.png"), padded[top : top + side, left : left + side])
    return folder


def gated(model: Path, work: Path, declaration: Declaration, precision: str, cells: Path) -> tuple[Path, Any]:
    """The model in a lower precision, and its gate's figures."""
    made = work / f"{declaration.name}-{precision}-{cells.name}" / MODEL
    made.parent.mkdir()
    shutil.copyfile(model, made)
    wanted = lowering.Lowering(precision, cells, accept_below_gate=True)
    return made, lowering.lower(made, declaration, declaration.preprocessing, wanted)["gate"]


def speeds(models: dict[str, Path], cells: LabelledCells, runs: int) -> dict[str, float]:
    """Median milliseconds a picture, the models in turn."""
    sessions = {name: device.open_model(path, device="cpu", threads=1).session for name, path in models.items()}
    pixels = cells.picture(0)[None]
    taken: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(runs + 3):
        for name, session in sessions.items():
            begun = time.perf_counter()
            session.run(None, {"pixels": pixels})
            if turn >= 3:
                taken[name].append(time.perf_counter() - begun)
    return {name: round(1000 * median(times), 2) for name, times in taken.items()}


def measured(declaration: Declaration, folders: list[Path], work: Path, runs: int) -> dict[str, Any]:
    """One encoder's figures."""
    usual = export(declaration, weights=None, out=work).model_path
    found: dict[str, Any] = {}
    models = {"fp32": usual}
    for folder in folders:
        for precision in PRECISIONS:
            model, told = gated(usual, work, declaration, precision, folder)
            found.setdefault(precision, {})[folder.name] = told
            models.setdefault(precision, model)
    cells = labelled_cells(folders[0], declaration.preprocessing.fit, declaration.channels)
    found["ms_a_picture"] = speeds(models, cells, runs)
    found["bytes"] = {name: path.stat().st_size for name, path in models.items()}
    return found


def tries() -> Iterator[tuple[str, int, dict[str, Any]]]:
    """What was tried of int8: a name, the weights up to which a convolution is left out, and the tool's settings."""
    method, kind = tool.CalibrationMethod, tool.QuantType
    yield "all convolutions, ranges by extremes", 0, {"calibrate_method": method.MinMax}
    yield "all convolutions, ranges by entropy", 0, {"calibrate_method": method.Entropy}
    yield "large convolutions, extremes", FEW, {"calibrate_method": method.MinMax}
    yield "large convolutions, entropy (taken)", FEW, {"calibrate_method": method.Entropy}
    percentile = {"calibrate_method": method.Percentile, "extra_options": {"CalibPercentile": 99.99}}
    yield "large convolutions, percentile 99.99", FEW, percentile
    yield "large convolutions, entropy, 7-bit weights", FEW, {"calibrate_method": method.Entropy, "reduce_range": True}
    yield (
        "large convolutions, entropy, u8 weights",
        FEW,
        {
            "calibrate_method": method.Entropy,
            "weight_type": kind.QUInt8,
            "extra_options": {"WeightSymmetric": True},
        },
    )
    yield (
        "large convolutions, entropy, one scale for all channels",
        FEW,
        {
            "calibrate_method": method.Entropy,
            "per_channel": False,
        },
    )
    yield "largest convolutions (above 100,000), entropy", 100_000, {"calibrate_method": method.Entropy}
    yield (
        "large convolutions, extremes, 16-bit activations",
        FEW,
        {
            "calibrate_method": method.MinMax,
            "activation_type": kind.QUInt16,
        },
    )


def tried(model: Path, folder: Path, declaration: Declaration, work: Path, runs: int) -> list[dict[str, Any]]:
    """The figures of everything that was tried, on one data set."""
    cells = labelled_cells(folder, declaration.preprocessing.fit, declaration.channels)
    calibrating, rows = lowering.parts(cells)
    usual, _ = gate.vectors(model, cells, rows)
    graph = onnx.load(model).graph
    sizes = {each.name: len(each.raw_data) // 4 for each in graph.initializer}
    found = []
    for name, few, settings in tries():
        made = work / "tried.onnx"
        kept = [node.name for node in graph.node if node.op_type == "Conv" and sizes[node.input[1]] <= few]
        given = {"per_channel": True, "activation_type": tool.QuantType.QUInt8, "weight_type": tool.QuantType.QInt8}
        with contextlib.redirect_stdout(io.StringIO()):
            tool.quantize_static(
                model,
                made,
                int8.Calibration(cells, calibrating),
                op_types_to_quantize=["Conv", "Clip"],
                nodes_to_exclude=kept,
                **{**given, **settings},
            )
        figures = gate.compare(usual, gate.vectors(made, cells, rows)[0], cells.labels[rows])
        taken = speeds({"fp32": model, "tried": made}, cells, runs)
        found.append(
            {
                "tried": name,
                "centred_cosine": [figures.cosine_percentile_1, figures.cosine_median],
                "agreement": figures.agreement,
                "times_fp32": round(taken["tried"] / taken["fp32"], 2),
            }
        )
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--encoders", nargs="+", default=["efficientnet-lite0", "mobilenetv2"])
    parser.add_argument("--tried", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    names, runs = (arguments.encoders[:1], 5) if arguments.smoke else (arguments.encoders, 100)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        folders = [livedead(arguments.data / "livedead", work / "livedead")]
        if not arguments.smoke:
            folders.append(arguments.data / "pbc")
        result: dict[str, Any] = {"onnxruntime": device.runtime().__version__, "cores": os.cpu_count()}
        for name in names:
            result[name] = measured(declared(name), folders, work, runs)
            if arguments.tried:
                result[name]["tried"] = tried(work / name / MODEL, folders[-1], declared(name), work, runs)
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
