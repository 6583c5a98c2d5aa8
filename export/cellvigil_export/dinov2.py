"""DINOv2 vision transformers under the names that their authors gave them: DINOv2, DinoBloom and Cell-DINO.

The names are mapped to those of transformers' `Dinov2Model` as the project's reference/encoders.md has them (bit-exact
there for ViT-S/14, S/8 with 5 channels, L/16 with 4 and g), the architecture is read off the weights' shapes, and
loading is strict. A folder as transformers lays it out is taken too. DINOv2: Oquab et al., 2023; DinoBloom: Koch et
al., 2024; Cell-DINO: Moutakanni et al., 2025.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Dinov2Config, Dinov2Model

from cellvigil.errors import BundleError, UsageError
from cellvigil_export.checkpoint import CONFIG, SAVED, Checkpoint, State, held, tensors
from cellvigil_export.declaration import Declaration, Made
from cellvigil_export.loading import load
from cellvigil_export.positions import bake_positions
from cellvigil_export.vision import opened, own_preprocessing, written

_PREFIX = re.compile(r"^(module\.|backbone\.|_fsdp_wrapped_module\.|dinov2\.)+")
_HEADS = ("dino_head.", "ibot_head.", "head.", "classifier.")
_OFFSET = 0.1  # the authors' `interpolate_offset`; transformers has none

_RENAMED = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(?:\d+\.)?(\d+)\.", r"encoder.layer.\1."),  # large models nest a chunk's number; the last is the layer
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.mlp\.w3\.", ".mlp.down_proj."),
    (r"\.mlp\.w12\.", ".mlp.weights_in."),
)
_SPLIT = {".attention.qkv.": ("q_proj", "k_proj", "v_proj"), ".mlp.weights_in.": ("gate_proj", "up_proj")}
_SWIGLU = (".mlp.gate_proj.", ".mlp.weights_in.")  # as transformers names it since version 5, and before


def make(declaration: Declaration, weights: Path, model: Path) -> Made:
    """Write the model that gives the class token after the last norm; see `declaration.Family`."""
    return _made(declaration, weights, model, _class_token, offset=0.0)


def make_with_patches(declaration: Declaration, weights: Path, model: Path) -> Made:
    """Write the model that gives the class token and the mean of the patches' tokens, one after the other.

    Its positions are brought to the size of its pictures as Cell-DINO's code does it, which no other release copies.
    """
    return _made(declaration, weights, model, _class_and_patches, offset=_OFFSET)


def _made(
    declaration: Declaration, weights: Path, model: Path, taken: Callable[[Any, Any], Any], *, offset: float
) -> Made:
    checkpoint = held(weights)
    network = opened(checkpoint, declaration.architecture) if checkpoint.config else published(checkpoint)
    bake_positions(network, declaration.input_size, offset=offset)
    used = own_preprocessing(weights, declaration)
    return written(declaration, network, taken, preprocessing=used, checkpoint=checkpoint, model=model)


def published(checkpoint: Checkpoint) -> Any:
    """The network of a published file, whichever names its tensors have."""
    if checkpoint.where.is_dir() and checkpoint.tensors[0].name.startswith(SAVED):
        hint = f"bring its {CONFIG}, or name the file itself: then its architecture is read off its shapes"
        raise UsageError(f"the folder lacks {CONFIG}", where=checkpoint.where, hint=hint)
    state = renamed(tensors(checkpoint))
    return load(Dinov2Model, inferred(state, checkpoint.where), state, where=checkpoint.where)


def renamed(state: Mapping[str, Any]) -> State:
    """`state` under the names of transformers; what has them already keeps them, and heads are dropped."""
    found: State = {}
    for key, tensor in state.items():
        name = _PREFIX.sub("", key)
        if name.startswith(_HEADS):
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        fused = next((part for part in _SPLIT if part in name), None)
        if fused is None:
            found[name] = tensor
            continue
        block = ".attention." if "attention" in fused else ".mlp."
        for part, piece in zip(_SPLIT[fused], tensor.chunk(len(_SPLIT[fused])), strict=True):
            found[name.replace(fused, f"{block}{part}.")] = piece
    return found


def inferred(state: Mapping[str, Any], where: Path) -> Any:
    """The configuration (`Dinov2Config`) that the shapes of a renamed `state` imply; heads are 64 wide."""
    try:
        width, channels, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
        positions = state["embeddings.position_embeddings"].shape[1] - 1
    except (KeyError, ValueError, IndexError) as error:
        raise BundleError(f"the checkpoint is not a DINOv2 vision transformer: {error}", where=where) from None
    grid = math.isqrt(positions)
    if grid * grid != positions:
        raise BundleError(f"its {positions} positions make no square (register tokens?)", where=where)
    layers = [int(found[1]) for key in state if (found := re.match(r"encoder\.layer\.(\d+)\.", key))]
    return Dinov2Config(
        hidden_size=width,
        num_channels=channels,
        patch_size=patch,
        image_size=grid * patch,
        num_hidden_layers=max(layers, default=-1) + 1,
        num_attention_heads=max(width // 64, 1),
        use_swiglu_ffn=any(part in key for key in state for part in _SWIGLU),
        use_mask_token="embeddings.mask_token" in state,
    )


def _class_token(network: Any, pixels: Any) -> Any:
    return network(pixel_values=pixels).pooler_output


def _class_and_patches(network: Any, pixels: Any) -> Any:
    tokens = network(pixel_values=pixels).last_hidden_state
    return torch.cat((tokens[:, 0], tokens[:, 1:].mean(1)), dim=1)
