"""A torch model to ONNX: normalisation baked in, uint8 pictures in, `features` out, any batch.

What `reference/encoders.md` of the project found: eager attention (scaled-dot-product attention adds IsNaN and Where
to every layer), a dummy batch of 2 (1 may be taken for a constant), and node metadata that holds local paths.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME
from cellvigil.data import F32, U8
from cellvigil_export import tensors
from cellvigil_export.declaration import OPSET, Preprocessing

Forward = Callable[[Any, Any], Any]
"""(model, normalised pixels (n, channels, y, x) f32) -> vectors (n, dimension) f32"""


class PictureEncoder(torch.nn.Module):  # type: ignore[misc]  # torch is untyped where it is not installed
    """A model that takes pictures as they are, (n, side, side, channels) u8, and gives one vector each."""

    def __init__(self, model: Any, forward: Forward, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model, self.vectors, self.scale, self.own = model, forward, preprocessing.scale, preprocessing.own
        if preprocessing.own:
            return
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, pixels: Any) -> Any:
        """Vectors (n, dimension) f32 of `pixels`."""
        taken = pixels.to(torch.float32)
        normalised = self._by_its_own(taken) if self.own else (taken * self.scale - self.mean) / self.std
        return self.vectors(self.model, normalised.permute(0, 3, 1, 2))

    def _by_its_own(self, pixels: Any) -> Any:
        """Each channel of each picture by its own mean and (biased) deviation, as Cell-DINO's code does it.

        First its first pixel is taken off, which changes nothing, but leaves exact zeros of a channel that is even:
        the rounding of its mean would be blown up by a deviation that is no more than rounding itself.
        """
        centred = pixels - pixels[:, :1, :1]
        centred = (centred - _mean(centred)) * self.scale
        deviation = _mean(centred * centred).sqrt()
        return centred / (deviation + 1e-7)


def _mean(pixels: Any) -> Any:
    """Each channel's mean, (n, 1, 1, channels): of the rows' means, as onnxruntime adds number by number, and a whole
    picture's in one row would lose three digits.
    """
    return pixels.mean(1, keepdim=True).mean(2, keepdim=True)


def reference(encoder: PictureEncoder) -> Callable[..., F32]:
    """What torch itself gives for pictures (n, side, side, channels) u8, run one at a time or in batches of `batch`.

    One at a time, because the memory of an export is counted on the activations of one.
    """

    def run(pixels: U8, batch: int = 1) -> F32:
        with torch.inference_mode():
            starts = range(0, len(pixels), batch)
            parts = [encoder(torch.from_numpy(np.array(pixels[at : at + batch]))).numpy() for at in starts]
        return np.concatenate(parts)

    return run


def release(encoder: Any) -> None:
    """Let go of the memory of all weights of `encoder`, which is of no use afterwards.

    Dropping it would not do: onnxscript's rules keep the last graph that they saw, and with it the tensors.
    """
    for tensor in (*encoder.parameters(), *encoder.buffers()):
        tensor.data = torch.empty(0, dtype=tensor.dtype)


def write(encoder: PictureEncoder, shape: tuple[int, int, int], path: Path) -> None:
    """Write `encoder`, which takes pictures of `shape` (side, side, channels), as ONNX to `path`."""
    pictures = torch.zeros((2, *shape), dtype=torch.uint8)
    save(exported(encoder, {INPUT_NAME: pictures}, (OUTPUT_NAME,), {INPUT_NAME: {0: torch.export.Dim("batch")}}), path)


def save(program: Any, path: Path) -> None:
    """Write what the exporter made to `path`, large weights to `path`.data beside it, nothing of this machine in it.

    The weights go tensor by tensor from where torch holds them to the file beside, which then stays as it is: they are
    in memory once. Those of a small model are taken into the graph's own file at the end.
    `program` is of no use afterwards.
    """
    program.save(str(path), external_data=True)
    for value in program.model.graph.initializers.values():
        value.const_value = None  # see `release`
    graph = onnx.load(path, load_external_data=False)
    strip(graph)
    weights = path.with_name(f"{path.name}.data")
    if weights.is_file() and weights.stat().st_size <= tensors.INLINE_LIMIT:
        tensors.take_in(graph, weights)
        weights.unlink()
    path.write_bytes(graph.SerializeToString(deterministic=True))


def exported(module: Any, taken: Mapping[str, Any], given: Sequence[str], shapes: Mapping[str, Any] | None) -> Any:
    """The exporter's own program of `module`, which is tried on `taken` and gives what `given` names.

    `shapes` says what may differ, by input (None: nothing may). Remarks are kept quiet: they are about operators of
    packages that are not used, torch's own code, and inputs of one shape that share its names.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            module,
            tuple(taken.values()),
            input_names=list(taken),
            output_names=list(given),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )


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
