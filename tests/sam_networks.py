"""Tiny SAMs on the real architecture, with seeded weights that all matter, under both namings. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import SamConfig, SamModel

SIDE = 128  # of its pictures, pixels: a grid of 8 places
WIDTH = 32
_TIED = "prompt_encoder.shared_embedding.positional_embedding"


def config() -> Any:
    """Three layers, the second one global; windows of 3 places, which do not divide the grid."""
    return SamConfig(
        vision_config={
            "hidden_size": WIDTH,
            "num_attention_heads": 2,
            "num_hidden_layers": 3,
            "image_size": SIDE,
            "output_channels": 32,
            "num_pos_feats": 16,
            "window_size": 3,
            "global_attn_indexes": [1],
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SIDE, "mask_input_channels": 8},
        # The authors' own norms: see sam_names.
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 64, "iou_head_hidden_dim": 24, "layer_norm_eps": 1e-5},
    )


def network(seed: int = 3) -> Any:
    """A SAM of that size with weights from `seed`, ready to be run."""
    sam = SamModel(config())
    sam.set_attn_implementation("eager")
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in sam.named_parameters():
            weights.copy_(torch.randn(weights.shape, generator=random) * 0.2 + float("norm" in name))
    return sam.eval()


def named_by_transformers(sam: Any) -> dict[str, Any]:
    """Its tensors as transformers saves them: what is tied is there once."""
    return {name: tensor.contiguous() for name, tensor in sam.state_dict().items() if name != _TIED}


_VISION = {
    "patch_embed.projection": "patch_embed.proj",
    "layers.": "blocks.",
    "neck.conv1": "neck.0",
    "neck.layer_norm1": "neck.1",
    "neck.conv2": "neck.2",
    "neck.layer_norm2": "neck.3",
    "layer_norm": "norm",
}
_REST = {
    "prompt_encoder.point_embed.": "prompt_encoder.point_embeddings.",
    "prompt_encoder.mask_embed.conv1": "prompt_encoder.mask_downscaling.0",
    "prompt_encoder.mask_embed.layer_norm1": "prompt_encoder.mask_downscaling.1",
    "prompt_encoder.mask_embed.conv2": "prompt_encoder.mask_downscaling.3",
    "prompt_encoder.mask_embed.layer_norm2": "prompt_encoder.mask_downscaling.4",
    "prompt_encoder.mask_embed.conv3": "prompt_encoder.mask_downscaling.6",
    "mask_decoder.upscale_conv1": "mask_decoder.output_upscaling.0",
    "mask_decoder.upscale_layer_norm": "mask_decoder.output_upscaling.1",
    "mask_decoder.upscale_conv2": "mask_decoder.output_upscaling.3",
    "layer_norm_final_attn": "norm_final_attn",
    "layer_norm": "norm",
}


def named_by_authors(sam: Any) -> dict[str, Any]:
    """The same tensors as facebookresearch/segment-anything names them, its two constants included."""
    found = {"pixel_mean": torch.tensor([123.675, 116.28, 103.53]), "pixel_std": torch.tensor([58.395, 57.12, 57.375])}
    for name, tensor in named_by_transformers(sam).items():
        found[_by_authors(name)] = tensor
    return found


def _by_authors(name: str) -> str:
    if name == "shared_image_embedding.positional_embedding":
        return "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    if name.startswith("vision_encoder."):
        return _replaced(name.replace("vision_encoder.", "image_encoder."), _VISION)
    if "proj_in" in name or "proj_out" in name or "mlps" in name or "iou_prediction_head" in name:
        # Three linear layers in a row, of which transformers names the first and the last.
        for theirs, authors in (
            (".layers.0.", ".layers.1."),
            (".proj_in.", ".layers.0."),
            (".proj_out.", ".layers.2."),
        ):
            if theirs in name:
                return name.replace(theirs, authors)
    return _replaced(name, _REST)


def _replaced(name: str, table: Mapping[str, str]) -> str:
    for theirs, authors in table.items():
        name = name.replace(theirs, authors)
    return name


def folder(path: Path, sam: Any) -> Path:
    """A checkpoint as transformers lays it out, in the new folder `path`."""
    path.mkdir()
    sam.config.save_pretrained(path)
    save_file(named_by_transformers(sam), path / "model.safetensors")
    return path


def file(path: Path, sam: Any) -> Path:
    """A checkpoint as the authors publish it."""
    torch.save(named_by_authors(sam), path)
    return path
