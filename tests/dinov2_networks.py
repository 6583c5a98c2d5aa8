"""DINOv2 with seeded random weights under the names that its authors gave them, and what their code does with it."""

from collections.abc import Mapping
from typing import Any

import torch


def original_state(
    width: int, layers: int, patch: int, grid: int, *, swiglu: bool = False, channels: int = 3
) -> dict[str, Any]:
    """The state dict of a small vision transformer; positions of grid x grid patches."""
    random = torch.Generator().manual_seed(5)

    def weight(*shape: int) -> Any:
        return torch.randn(shape, generator=random) * 0.05

    state = {
        "cls_token": weight(1, 1, width),
        "mask_token": weight(1, width),
        "pos_embed": weight(1, grid * grid + 1, width),
        "patch_embed.proj.weight": weight(width, channels, patch, patch),
        "patch_embed.proj.bias": weight(width),
        "norm.weight": 1 + weight(width),
        "norm.bias": weight(width),
    }
    inside = (int(width * 4 * 2 / 3) + 7) // 8 * 8 if swiglu else width * 4
    mlp = {"mlp.w12": (2 * inside, width), "mlp.w3": (width, inside)}
    mlp = mlp if swiglu else {"mlp.fc1": (inside, width), "mlp.fc2": (width, inside)}
    for layer in range(layers):
        for name, shape in ({"attn.qkv": (3 * width, width), "attn.proj": (width, width)} | mlp).items():
            state[f"blocks.{layer}.{name}.weight"] = weight(*shape)
            state[f"blocks.{layer}.{name}.bias"] = weight(shape[0])
        for name in ("norm1", "norm2"):
            state[f"blocks.{layer}.{name}.weight"] = 1 + weight(width)
            state[f"blocks.{layer}.{name}.bias"] = weight(width)
        for name in ("ls1", "ls2"):
            state[f"blocks.{layer}.{name}.gamma"] = 0.5 + weight(width)
    return state


def original_forward(state: Mapping[str, Any], pixels: Any) -> Any:
    """The class token."""
    return original_tokens(state, pixels)[:, 0]


def original_tokens(state: Mapping[str, Any], pixels: Any) -> Any:
    """All tokens as the authors' code computes them (pre-norm blocks, layer scale), at the weights' own size."""
    functional = torch.nn.functional
    width = state["cls_token"].shape[-1]
    heads, patch = width // 64, state["patch_embed.proj.weight"].shape[-1]

    def linear(name: str, x: Any) -> Any:
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: Any) -> Any:
        return functional.layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def attention(name: str, x: Any) -> Any:
        batch, tokens, _ = x.shape
        qkv = linear(f"{name}.qkv", x).reshape(batch, tokens, 3, heads, 64).permute(2, 0, 3, 1, 4)
        weights = ((qkv[0] * 64**-0.5) @ qkv[1].transpose(-2, -1)).softmax(-1)
        return linear(f"{name}.proj", (weights @ qkv[2]).transpose(1, 2).reshape(batch, tokens, width))

    def mlp(name: str, x: Any) -> Any:
        if f"{name}.w12.weight" not in state:
            return linear(f"{name}.fc2", functional.gelu(linear(f"{name}.fc1", x)))
        gate, up = linear(f"{name}.w12", x).chunk(2, dim=-1)
        return linear(f"{name}.w3", functional.silu(gate) * up)

    x = functional.conv2d(pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1) + state["pos_embed"]
    for layer in range(sum(key.endswith("attn.qkv.bias") for key in state)):
        block = f"blocks.{layer}"
        x = x + state[f"{block}.ls1.gamma"] * attention(f"{block}.attn", norm(f"{block}.norm1", x))
        x = x + state[f"{block}.ls2.gamma"] * mlp(f"{block}.mlp", norm(f"{block}.norm2", x))
    return norm("norm", x)


def chunked(state: Mapping[str, Any]) -> dict[str, Any]:
    """As the large models are saved: a chunk's number before each layer's, a wrapper's prefix, and a head."""
    nested = {f"module.backbone.{key.replace('blocks.', 'blocks.1.')}": value for key, value in state.items()}
    return {**nested, "module.dino_head.mlp.0.weight": torch.zeros(3, 3)}
