"""SAM's image encoder: its features averaged to one vector, and the encoder itself for a segmenter bundle.

Kirillov et al., 2023, "Segment Anything": a ViT with attention in windows of 14 places and, in four of its layers,
over all 64 x 64 of them. There the attention of one picture weighs a gigabyte (16 heads); it is worked out here in
bands of rows instead, in the exported graph as in the reference, and gives the same numbers to rounding (a test
compares it with transformers' own). Reads the checkpoint, writes the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import SamVisionConfig, SamVisionModel

from cellvigil.errors import BundleError
from cellvigil_export import checkpoint as checkpoints
from cellvigil_export import loading, tinyvit, torch_graph, vision
from cellvigil_export.declaration import Declaration, Made
from cellvigil_export.sam_names import VISION, is_tiny, layer_count, renamed, strangers
from cellvigil_export.strict import refuse

_BAND = 64 << 20  # bytes of one copy of a band's attention, a picture
_ARCHITECTURE = "sam"
TOOLS = ("torch", "transformers", "onnxscript")


def make(declaration: Declaration, weights: Path, model: Path) -> Made:
    """Write the image features of the checkpoint at `weights`, averaged over their places; see `declaration.Family`."""
    held = checkpoints.held(weights)
    encoder = image_encoder(read(held), declaration, weights)
    preprocessing = vision.own_preprocessing(weights, declaration)
    pictures = torch_graph.PictureEncoder(encoder, _averaged, preprocessing).eval()
    torch_graph.write(pictures, (encoder.side, encoder.side, declaration.channels), model)
    against = f"torch {torch.__version__}"
    release = partial(torch_graph.release, pictures)
    return Made(torch_graph.reference(pictures), against, preprocessing, held.sources, TOOLS, release)


def read(held: checkpoints.Checkpoint) -> dict[str, Any]:
    """All tensors of a SAM checkpoint under the names of transformers. Raises BundleError for any other's."""
    if held.config is not None and (found := checkpoints.settings(held.config).get("model_type")) != _ARCHITECTURE:
        raise BundleError(f"the configuration is that of a {found}, not of a SAM", where=held.config)
    return renamed(checkpoints.tensors(held))


def image_encoder(state: Mapping[str, Any], declaration: Declaration, where: Path) -> Any:
    """The image encoder of a renamed `state`, a ViT or MobileSAM's TinyViT: normalised pictures to features.

    It has a `side` (of its pictures) and a `width`. Raises BundleError, listing what differs, unless it fits exactly,
    if the checkpoint holds what is of no part of a SAM, or if it is not the size that was declared.
    """
    own = {name: tensor for name, tensor in state.items() if name.startswith(VISION)}
    encoder = tinyvit.loaded(own, where) if is_tiny(own) else _vit(own, where)
    refuse({"unexpected": strangers(state)}, of="a SAM", where=where)
    if (encoder.side, encoder.width) != (declaration.input_size, declaration.width):
        what = f"a SAM of width {encoder.width} for {encoder.side} pixels is not {declaration.name}"
        hint = f"it has {declaration.width} and {declaration.input_size}: another SAM's weights?"
        raise BundleError(what, where=where, hint=hint)
    return encoder


def _vit(own: Mapping[str, Any], where: Path) -> ImageEncoder:
    model = loading.load(SamVisionModel, vision_config(own, where), own, where=where)
    encoder: ImageEncoder = ImageEncoder(model.vision_encoder).eval()
    return encoder


def vision_config(state: Mapping[str, Any], where: Path) -> Any:
    """The configuration (`SamVisionConfig`) that the shapes of a renamed `state` imply."""
    layers = layer_count(state, f"{VISION}layers")
    try:
        width, channels, patch, _ = state[f"{VISION}patch_embed.projection.weight"].shape
        grid = state[f"{VISION}pos_embed"].shape[1]
        reach, head = zip(*(state[f"{VISION}layers.{i}.attn.rel_pos_h"].shape for i in range(layers)), strict=True)
        hidden = state[f"{VISION}layers.0.mlp.lin1.weight"].shape[0]
        given = state[f"{VISION}neck.conv1.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise BundleError(f"the checkpoint is not a SAM with a ViT: {error}", where=where) from None
    # A layer's table of relative positions tells how far it sees: 2 x side - 1 rows.
    sides = [(rows + 1) // 2 for rows in reach]
    return SamVisionConfig(
        hidden_size=width,
        output_channels=given,
        num_hidden_layers=layers,
        num_attention_heads=width // head[0],
        num_channels=channels,
        image_size=grid * patch,
        patch_size=patch,
        window_size=min(sides),
        global_attn_indexes=[index for index, side in enumerate(sides) if side == grid],
        mlp_dim=hidden,
    )


class ImageEncoder(torch.nn.Module):  # type: ignore[misc]  # torch is untyped where it is not installed
    """Normalised pictures (n, 3, side, side) f32 to features (n, channels, side / 16, side / 16) f32."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.side, self.width = network, network.config.image_size, network.config.hidden_size
        for layer in network.layers:
            layer.attn = BandedAttention(layer.attn)

    def forward(self, pixels: Any) -> Any:
        """See the class."""
        x = self.network.patch_embed(pixels) + self.network.pos_embed
        for layer in self.network.layers:
            x = layer(x)
        return self.network.neck(x)


class BandedAttention(torch.nn.Module):  # type: ignore[misc]
    """transformers' `SamVisionAttention` with the same weights, a band of rows at a time."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.qkv, self.proj, self.scale, self.heads = whole.qkv, whole.proj, whole.scale, whole.num_attention_heads
        self.rel_pos_h, self.rel_pos_w = whole.rel_pos_h, whole.rel_pos_w
        self.side = (len(self.rel_pos_h) + 1) // 2
        at = torch.arange(self.side)
        self.register_buffer("apart", at[:, None] - at[None, :] + self.side - 1, persistent=False)
        fitting = max(1, _BAND // (self.heads * self.side**3 * 4))
        # Bands of one height: onnxruntime keeps a buffer for every shape that it meets until its last use.
        self.rows = max(rows for rows in range(1, self.side + 1) if self.side % rows == 0 and rows <= fitting)

    def forward(self, hidden_states: Any) -> tuple[Any, None]:
        """(n, side, side, width) to the same; the second value is where transformers has the attention."""
        count, side, _, width = hidden_states.shape
        parts = self.qkv(hidden_states).reshape(count, side * side, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        down, along = self.rel_pos_h[self.apart], self.rel_pos_w[self.apart]
        bands = []
        for top in range(0, side, self.rows):
            asked = query[:, :, top * side : (top + self.rows) * side]
            bands.append(self._band(asked, key, value, down[top : top + self.rows], along))
        seen = torch.cat(bands, dim=2).transpose(1, 2).reshape(count, side, side, width)
        return self.proj(seen), None

    def _band(self, query: Any, key: Any, value: Any, down: Any, along: Any) -> Any:
        """What the places of a few rows see: (n, heads, rows * side, head) from queries of that shape."""
        rows, side = len(down), self.side
        placed = query.unflatten(2, (rows, side))
        by_row = placed @ down.transpose(1, 2)  # (n, heads, rows, side, side of the keys' rows)
        by_column = (placed.transpose(2, 3) @ along.transpose(1, 2)).transpose(2, 3)
        likeness = ((query * self.scale) @ key.transpose(2, 3)).unflatten(3, (side, side)).unflatten(2, (rows, side))
        likeness = likeness + (by_row[..., :, None] + by_column[..., None, :])
        return likeness.flatten(4).flatten(2, 3).softmax(-1) @ value


def _averaged(encoder: Any, pixels: Any) -> Any:
    return encoder(pixels).mean((2, 3))
