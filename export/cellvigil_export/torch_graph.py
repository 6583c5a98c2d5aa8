"""A torch model to ONNX: normalisation baked in, uint8 pictures in, `features` out, any batch.

What `reference/encoders.md` of the project found: eager attention (scaled-dot-product attention adds IsNaN and Where
to every layer), a dummy batch of 2 (1 may be taken for a constant), and node metadata that holds local paths.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from cellvigil.bundle.encoder import INPUT_NAME, MODEL, OUTPUT_NAME
from cellvigil.data import F32, U8
from cellvigil_export.declaration import OPSET, Preprocessing

Forward = Callable[[Any, Any], Any]
"""(model, normalised pixels (n, channels, y, x) f32) -> vectors (n, dimension) f32"""

_INLINE_LIMIT = 256 << 20  # bytes of weights; more go to a file beside (a protobuf ends at 2 GiB)


class PictureEncoder(torch.nn.Module):  # type: ignore[misc]  # torch is untyped where it is not installed
    """A model that takes pictures as they are, (n, side, side, channels) u8, and gives one vector each."""

    def __init__(self, model: Any, forward: Forward, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model, self.vectors, self.scale = model, forward, preprocessing.scale
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, pixels: Any) -> Any:
        """Vectors (n, dimension) f32 of `pixels`."""
        normalised = (pixels.to(torch.float32) * self.scale - self.mean) / self.std
        return self.vectors(self.model, normalised.permute(0, 3, 1, 2))


def reference(encoder: PictureEncoder) -> Callable[[U8], F32]:
    """What torch itself gives for pictures (n, side, side, channels) u8."""

    def run(pixels: U8) -> F32:
        with torch.inference_mode():
            return np.asarray(encoder(torch.from_numpy(np.array(pixels))).numpy())

    return run


def write(encoder: PictureEncoder, shape: tuple[int, int, int], path: Path) -> None:
    """Write `encoder`, which takes pictures of `shape` (side, side, channels), as ONNX to `path`."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _export(encoder, shape, Path(folder) / MODEL)
        graph = onnx.load(Path(folder) / MODEL)
    strip(graph)
    large = sum(len(tensor.raw_data) for tensor in graph.graph.initializer) > _INLINE_LIMIT
    if large:
        onnx.convert_model_to_external_data(graph, location=f"{MODEL}.data")
        onnx.save_model(graph, path)
    else:
        path.write_bytes(graph.SerializeToString(deterministic=True))


def _export(encoder: PictureEncoder, shape: tuple[int, int, int], path: Path) -> None:
    """The exporter's own file, its remarks kept quiet: they are about operators of packages that are not used."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            encoder,
            (torch.zeros((2, *shape), dtype=torch.uint8),),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        ).save(str(path))


def strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes of the machine it ran on: stack traces with paths, and doc strings."""
    del model.metadata_props[:]
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        graph.doc_string = ""
        del graph.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
