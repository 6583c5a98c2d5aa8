"""SAM checkpoints as their authors named them, under the names of transformers 5, and what their shapes imply.

The names are mapped as the project's reference/encoders.md has them; both namings give the same numbers to the bit
(a test proves it). SAM: Kirillov et al., 2023, "Segment Anything". MobileSAM's file is named as SAM's; its image
encoder is another (see `tinyvit`) and keeps its own names. Touches no files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transformers import SamConfig

State = dict[str, Any]  # name -> torch.Tensor

VISION, PROMPTS, MASKS = "vision_encoder.", "prompt_encoder.", "mask_decoder."  # what the parts' names begin with
POSITIONS = "shared_image_embedding.positional_embedding"
_TIED = "prompt_encoder.shared_embedding.positional_embedding"  # the same tensor again
_ORIGINAL = "image_encoder."
_TINY = "patch_embed.seq."  # of MobileSAM's image encoder alone
_DROPPED = ("pixel_mean", "pixel_std", "image_encoder.norm_head.", "image_encoder.head.")
"""Constants that the preprocessing has, and the classifier that TinyViT was trained with and SAM never runs."""

_DECODER_EPS = 1e-5
"""Of the decoder's layer norms, as the authors trained it; transformers' default of 1e-6 moves logits of 200 by 1."""

_Rules = tuple[tuple[str, str], ...]  # pattern, replacement

_IMAGE: _Rules = (
    (r"^image_encoder\.", VISION),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.blocks\.", ".layers."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
)
_PROMPTED: _Rules = (
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", POSITIONS),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"(mlps\.\d+|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(mlps\.\d+|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(mlps\.\d+|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
)


def renamed(state: Mapping[str, Any]) -> State:
    """`state` under the names of transformers 5, whichever of the two namings it came in.

    The position matrix is kept once, as transformers ties it. A TinyViT keeps the names of its parts under
    `vision_encoder.`.
    """
    original = any(key.startswith(_ORIGINAL) for key in state)
    tiny = is_tiny(state)
    found: State = {}
    for key, tensor in state.items():
        if key.startswith(_DROPPED) or key == _TIED:
            continue
        found[_renamed(key, tiny=tiny) if original else key] = tensor
    if POSITIONS not in found and _TIED in state:
        found[POSITIONS] = state[_TIED]
    return found


def strangers(state: Mapping[str, Any]) -> list[str]:
    """Names in a renamed `state` that belong to no part of a SAM."""
    return sorted(key for key in state if not key.startswith((VISION, PROMPTS, MASKS)) and key != POSITIONS)


def is_tiny(state: Mapping[str, Any]) -> bool:
    """Whether the image encoder is MobileSAM's TinyViT, whichever naming."""
    return any(key.startswith((_ORIGINAL + _TINY, VISION + _TINY)) for key in state)


def _renamed(key: str, *, tiny: bool) -> str:
    image = _IMAGE[:1] if tiny else _IMAGE
    rules = image if key.startswith(_ORIGINAL) else _PROMPTED
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def decoder_config(state: Mapping[str, Any], side: int) -> Any:
    """The configuration (`SamConfig`) that a renamed `state` implies of prompts and masks, at `side` pixels.

    Its image encoder is the default and stands for nothing. Heads and their widths are the published ones.
    """
    width = state["mask_decoder.iou_token.weight"].shape[1]
    return SamConfig(
        vision_config={"image_size": side, "num_pos_feats": width // 2},
        prompt_encoder_config={
            "hidden_size": width,
            "image_size": side,
            "mask_input_channels": state["prompt_encoder.mask_embed.conv2.weight"].shape[0],
        },
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
            "num_hidden_layers": layer_count(state, "mask_decoder.transformer.layers"),
            "iou_head_hidden_dim": state["mask_decoder.iou_prediction_head.proj_in.weight"].shape[0],
            "layer_norm_eps": _DECODER_EPS,
        },
    )


def layer_count(state: Mapping[str, Any], of: str) -> int:
    """How many layers there are of a name: one more than the largest number."""
    numbered = re.compile(rf"^{re.escape(of)}\.(\d+)\.")
    return max((int(found[1]) for key in state if (found := numbered.match(key))), default=-1) + 1
