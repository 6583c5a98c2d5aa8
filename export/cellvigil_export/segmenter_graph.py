"""The two graphs of a segmenter bundle: a picture to features, and features with prompts to masks.

The picture is normalised and its empty border zeroed in the graph, as SAM's own preprocessing does it (Kirillov et al.,
2023): what is padded is zero after the normalisation, not before. Writes the two ONNX files, nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cellvigil.bundle.files import sha256_of
from cellvigil.bundle.segmenter import DECODER, ENCODER, EXTENT, FEATURES, IMAGE, IOU, LABELS, MASKS, POINTS
from cellvigil.data import Array
from cellvigil_export import checkpoint, sam, vision
from cellvigil_export.declaration import Declaration, Preprocessing
from cellvigil_export.sam_decoder import STRIDE, PromptDecoder, prompt_decoder
from cellvigil_export.segmenter_trial import trial
from cellvigil_export.segmenters import Graphs
from cellvigil_export.torch_graph import exported, release, save


class ImageSide(torch.nn.Module):  # type: ignore[misc]  # torch is untyped where it is not installed
    """Features of one picture as it is: (1, side, side, 3) u8 in, the real picture in its upper left `extent`."""

    def __init__(self, encoder: Any, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.encoder, self.side, self.scale = encoder, preprocessing.fit.side, preprocessing.scale
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, image: Any, extent: Any) -> Any:
        """Features (1, width, side / 16, side / 16) f32. `extent` (2,) i64: rows, columns."""
        normalised = (image.to(torch.float32) * self.scale - self.mean) / self.std
        at = torch.arange(self.side)
        inside = (at < extent[0])[:, None] & (at < extent[1])[None, :]
        return self.encoder(torch.where(inside[None, :, :, None], normalised, 0.0).permute(0, 3, 1, 2))


def written(declaration: Declaration, weights: Path, folder: Path) -> Graphs:
    """Write both graphs of the checkpoint at `weights` into `folder`. Raises BundleError if it does not fit."""
    held = checkpoint.held(weights)
    state = sam.read(held)
    preprocessing = vision.own_preprocessing(weights, declaration)
    image_side = ImageSide(sam.image_encoder(state, declaration, weights), preprocessing).eval()
    decoder = prompt_decoder(state, declaration.input_size, weights)
    wanted = reference(image_side, decoder)
    write_decoder(decoder, folder / DECODER)
    write_encoder(image_side, folder / ENCODER)
    for module in (image_side, decoder):
        release(module)
    hashes = {name: sha256_of(path) for name, path in sorted(held.sources.items())}
    return Graphs(wanted, f"torch {torch.__version__}", preprocessing, hashes)


def write_encoder(module: ImageSide, path: Path) -> None:
    """Write the picture's side as ONNX to `path`."""
    side = module.side
    image, extent = torch.zeros((1, side, side, 3), dtype=torch.uint8), torch.tensor([side, side // 2])
    save(exported(module, {IMAGE: image, EXTENT: extent}, (FEATURES,), None), path)


def write_decoder(module: PromptDecoder, path: Path) -> None:
    """Write the prompts' side as ONNX to `path`; any number of prompts, of any number of points each."""
    grid, width = module.side // STRIDE, module.places.shape[2]
    both = {0: torch.export.Dim("prompts"), 1: torch.export.Dim("points")}
    taken = {
        FEATURES: torch.zeros((1, width, grid, grid)),
        POINTS: torch.zeros((3, 2, 2)),  # one prompt or point might be taken for a constant
        LABELS: torch.ones((3, 2), dtype=torch.int64),
    }
    save(exported(module, taken, (MASKS, IOU), {FEATURES: None, POINTS: both, LABELS: both}), path)


def reference(image_side: ImageSide, decoder: PromptDecoder) -> dict[str, Array]:
    """What torch gives for the trial of this size, by the names that `segmenter_check.checked` takes."""
    asked = trial(image_side.side)
    with torch.inference_mode():
        features = image_side(torch.from_numpy(asked.image), torch.from_numpy(asked.extent))
        wanted = {FEATURES: features.numpy()}
        for number, prompts in enumerate(asked.prompts):
            masks, iou = decoder(features, torch.from_numpy(prompts.points), torch.from_numpy(prompts.labels))
            wanted |= {f"masks_{number}": masks.numpy(), f"iou_{number}": iou.numpy()}
    return wanted
