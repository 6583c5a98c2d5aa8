"""SAM's prompt encoder and mask decoder as one function of features and prompts, written so that prompts share work.

What all prompts of a picture have in common (the features' keys and values in the first layer) is computed once and
not once a prompt, which is a fifth of the decoder's work. The weights and the numbers are those of transformers'
`SamPromptEncoder` and `SamMaskDecoder` (to rounding: a test compares them). Source: Kirillov et al., 2023, "Segment
Anything", appendix A. Touches no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers.models.sam.modeling_sam import SamMaskDecoder, SamPromptEncoder

from cellvigil.errors import BundleError
from cellvigil_export.sam_names import POSITIONS, decoder_config
from cellvigil_export.strict import check_tensors

STRIDE = 16  # pixels a place of the features


class PromptDecoder(torch.nn.Module):  # type: ignore[misc]  # torch is untyped where it is not installed
    """Masks and their quality for one picture's features and any number of prompts."""

    def __init__(self, prompts: Any, decoder: Any, side: int) -> None:
        super().__init__()
        self.prompts, self.decoder, self.side = prompts, decoder, side
        with torch.no_grad():
            labelled = [prompts.not_a_point_embed, *prompts.point_embed]  # -1, 0, 1, 2, 3
            self.register_buffer("label_table", torch.cat([part.weight for part in labelled]))
            self.register_buffer("places", self._places(side // STRIDE))
            self.register_buffer("outputs", torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]))

    def forward(self, features: Any, points: Any, labels: Any) -> tuple[Any, Any]:
        """Masks (p, 4, side / 4, side / 4) f32 logits and IoU (p, 4) f32.

        features (1, width, side / 16, side / 16) f32; points (p, k, 2) f32, x and y in pixels; labels (p, k) i64, 0 or
        1 a point, 2 and 3 a box's corners, -1 padding.
        """
        width, grid = features.shape[1], self.side // STRIDE
        outputs = self.outputs.expand(points.shape[0], -1, -1)
        tokens = torch.cat([outputs, self._prompted(points, labels)], dim=1)
        image = (features + self.prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)).flatten(2).transpose(1, 2)
        tokens, image = self._attended(tokens, image)
        image = image.transpose(1, 2).reshape(-1, width, grid, grid)
        return self._masks(tokens, image), self.decoder.iou_prediction_head(tokens[:, 0])

    def _positions(self, fractions: Any) -> Any:
        """Fourier features (..., width) of places (..., 2) in fractions of the side, x and y."""
        angles = 2 * math.pi * ((2 * fractions - 1) @ self.prompts.shared_embedding.positional_embedding)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _places(self, grid: int) -> Any:
        """Positions of the features' places, (1, grid * grid, width), row by row."""
        at = (torch.arange(grid, dtype=torch.float32) + 0.5) / grid
        y, x = torch.meshgrid(at, at, indexing="ij")
        return self._positions(torch.stack([x, y], dim=-1)).reshape(1, grid * grid, -1)

    def _prompted(self, points: Any, labels: Any) -> Any:
        """One token a point, (p, k, width). Padding has no place."""
        positions = self._positions((points + 0.5) / self.side)  # the centre of its pixel
        return torch.where(labels[..., None] == -1, 0.0, positions) + self.label_table[labels + 1]

    def _attended(self, tokens: Any, image: Any) -> tuple[Any, Any]:
        """The two-way transformer: tokens (p, t, width) and image (1, places, width), which becomes (p, ...)."""
        prompts, transformer = tokens, self.decoder.transformer
        for layer in transformer.layers:
            if layer.skip_first_layer_pe:
                tokens = _attention(layer.self_attn, tokens, tokens, tokens)
            else:
                asked = tokens + prompts
                tokens = tokens + _attention(layer.self_attn, asked, asked, tokens)
            tokens = layer.layer_norm1(tokens)
            seen = _attention(layer.cross_attn_token_to_image, tokens + prompts, image + self.places, image)
            tokens = layer.layer_norm2(tokens + seen)
            tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
            seen = _attention(layer.cross_attn_image_to_token, image + self.places, tokens + prompts, tokens)
            image = layer.layer_norm4(image + seen)
        last = transformer.final_attn_token_to_image
        tokens = tokens + _attention(last, tokens + prompts, image + self.places, image)
        return transformer.layer_norm_final_attn(tokens), image

    def _masks(self, tokens: Any, image: Any) -> Any:
        decoder = self.decoder
        image = functional.gelu(decoder.upscale_layer_norm(decoder.upscale_conv1(image)))
        image = functional.gelu(decoder.upscale_conv2(image))
        kernels = [head(tokens[:, 1 + index]) for index, head in enumerate(decoder.output_hypernetworks_mlps)]
        masks = torch.stack(kernels, dim=1) @ image.flatten(2)
        return masks.reshape(-1, len(kernels), *image.shape[2:])


def _attention(weights: Any, query: Any, key: Any, value: Any) -> Any:
    """Attention of (p or 1, tokens, width) each; one of the sides may be of all prompts together."""
    heads = weights.num_attention_heads
    query, key, value = (
        project(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for project, x in ((weights.q_proj, query), (weights.k_proj, key), (weights.v_proj, value))
    )
    shares = (query @ key.transpose(-2, -1) * weights.scaling).softmax(-1)
    return weights.out_proj((shares @ value).transpose(1, 2).flatten(2))


def prompt_decoder(state: Mapping[str, Any], side: int, where: Path) -> PromptDecoder:
    """The decoder with the weights of a renamed `state`. Raises BundleError unless it has exactly its tensors."""
    try:
        config = decoder_config(state, side)
    except (KeyError, IndexError) as error:
        raise BundleError(f"the checkpoint holds no mask decoder of SAM: {error}", where=where) from None
    with torch.device("meta"):
        prompts, decoder = SamPromptEncoder(config), SamMaskDecoder(config.mask_decoder_config)
    parts = {"prompt_encoder": prompts, "mask_decoder": decoder}
    of = {name: part.state_dict() for name, part in parts.items()}
    own = "shared_embedding.positional_embedding"
    expected = {f"{name}.{key}": tuple(value.shape) for name, held in of.items() for key, value in held.items()}
    expected[POSITIONS] = expected.pop(f"prompt_encoder.{own}")
    held = {key: value for key, value in state.items() if not key.startswith("vision_encoder.")}
    found = {key: tuple(value.shape) for key, value in held.items()}
    check_tensors(found, expected, of="SAM's prompt encoder and mask decoder", where=where)
    for name, part in parts.items():
        mine = {key.removeprefix(f"{name}."): value.float() for key, value in held.items() if key.startswith(name)}
        if part is prompts:
            mine[own] = held[POSITIONS].float()
        part.load_state_dict(mine, assign=True)
    whole: PromptDecoder = PromptDecoder(prompts, decoder, side).eval()
    return whole
