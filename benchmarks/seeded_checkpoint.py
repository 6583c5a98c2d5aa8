"""A checkpoint of a zoo member at full size, with seeded random weights: what the real one would be like to export.

    python benchmarks/seeded_checkpoint.py dinov2-giant FOLDER

The architecture is the real one, as its `config.json` on the hub has it; the weights are drawn, tensor by tensor, and
written in shards, so that no more than one shard is ever in memory. DinoBloom's are written as they are published: one
`.pth` under DINOv2's own names. Needs the extra `export`.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SHARD = 1 << 30  # bytes

# name -> (transformers class, what its configuration says beside the class's defaults)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2-small": ("Dinov2Model", {"hidden_size": 384, "num_attention_heads": 6}),
    "dinov2-base": ("Dinov2Model", {}),
    "dinov2-large": ("Dinov2Model", {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}),
    "dinov2-giant": (
        "Dinov2Model",
        {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True},
    ),
    "cell-dino-hpa-l16": (
        "Dinov2Model",
        {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "num_channels": 4,
            "patch_size": 16,
            "image_size": 224,
        },
    ),
    "cell-dino-cp-s8": (
        "Dinov2Model",
        {"hidden_size": 384, "num_attention_heads": 6, "num_channels": 5, "patch_size": 8, "image_size": 128},
    ),
    "convnextv2-large": (
        "ConvNextV2Model",
        {"depths": [3, 3, 27, 3], "hidden_sizes": [192, 384, 768, 1536], "image_size": 224},
    ),
    "swinv2-large": (
        "Swinv2Model",
        {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12, "image_size": 192},
    ),
    "clip-vit-large": (
        "CLIPModel",  # as on the hub: with its text side
        {
            "vision_config": {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "patch_size": 14,
            },
            "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
            "projection_dim": 768,
        },
    ),
    "vit-mae-huge": (
        "ViTMAEModel",
        {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "patch_size": 14,
        },
    ),
    "sam-vit-base": ("SamModel", {}),
    "sam-vit-large": ("SamModel", {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}),
    "sam-vit-huge": ("SamModel", {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16}),
}
_GLOBAL_ATTENTION = {"sam-vit-large": [5, 11, 17, 23], "sam-vit-huge": [7, 15, 23, 31]}
_DINOV2 = {"image_size": 518, "patch_size": 14, "mlp_ratio": 4}

# name -> width, layers, and width of the SwiGLU where there is one
_DINOBLOOM = {
    "dinobloom-s": (384, 12, 0),
    "dinobloom-b": (768, 12, 0),
    "dinobloom-l": (1024, 24, 0),
    "dinobloom-g": (1536, 40, 4096),
}
_SEGMENTER = "-segmenter"

NAMES = (*ARCHITECTURES, *_DINOBLOOM, *(f"{name}{_SEGMENTER}" for name in ARCHITECTURES if name.startswith("sam")))
"""Every member that can be drawn: all of the zoo but those whose real weights are at hand."""


def configuration(name: str) -> Any:
    """The transformers configuration of a member."""
    import transformers  # noqa: PLC0415 - the list of names is to be had without it

    kind, settings = ARCHITECTURES[name]
    if kind == "SamModel":
        vision = {**settings, "global_attn_indexes": _GLOBAL_ATTENTION.get(name, [2, 5, 8, 11])}
        if settings:
            vision["mlp_dim"] = settings["hidden_size"] * 4
        return transformers.SamConfig(vision_config=vision)
    found = getattr(transformers, kind.replace("Model", "Config"))
    return found(**{**(_DINOV2 if kind == "Dinov2Model" else {}), **settings})


def write(name: str, folder: Path) -> int:
    """Write a checkpoint into `folder`: config.json and shards of safetensors, or a .pth; the bytes of weights."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    name = name.removesuffix(_SEGMENTER)  # a segmenter and its encoder are of one checkpoint
    if name in _DINOBLOOM:
        return write_published(name, folder)
    config = configuration(name)
    with torch.device("meta"):
        network = getattr(transformers, ARCHITECTURES[name][0])(config)
    state = network.state_dict()
    config.architectures = [ARCHITECTURES[name][0]]
    (folder / "config.json").write_text(config.to_json_string())
    return write_state({key: tuple(tensor.shape) for key, tensor in state.items()}, folder, _drawn)


def write_state(shapes: dict[str, tuple[int, ...]], folder: Path, drawn: Callable[[str, tuple[int, ...]], Any]) -> int:
    """Write tensors of these names and shapes as shards with their index; the bytes of weights."""
    from safetensors.torch import save_file  # noqa: PLC0415

    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = total = 0
    for key, shape in shapes.items():
        count = 4 * _product(shape)
        if size and size + count > _SHARD:
            shards.append({})
            size = 0
        shards[-1][key] = shape
        size, total = size + count, total + count
    place: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        save_file({key: drawn(key, shape) for key, shape in shard.items()}, folder / file, metadata={"format": "pt"})
        place |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": place}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def write_published(name: str, folder: Path) -> int:
    """Write DinoBloom-<size>.pth into `folder`; the bytes of weights."""
    import torch  # noqa: PLC0415

    state = {key: _drawn(key, shape) for key, shape in published_shapes(*_DINOBLOOM[name]).items()}
    torch.save({"teacher": state}, folder / f"DinoBloom-{name[-1].upper()}.pth")
    return sum(tensor.nbytes for tensor in state.values())


def published_shapes(width: int, layers: int, swiglu: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a ViT with patches of 14 pixels, trained at 224, under the names of DINOv2's own code."""
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    linear |= (
        {"mlp.w12": (2 * swiglu, width), "mlp.w3": (width, swiglu)}
        if swiglu
        else {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    )
    block: dict[str, tuple[int, ...]] = {"ls1.gamma": (width,), "ls2.gamma": (width,)}
    for name, shape in linear.items():
        block |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in ("norm1", "norm2"):
        block |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    found: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "mask_token": (1, width),
        "pos_embed": (1, 1 + (224 // 14) ** 2, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
    }
    for layer in range(layers):
        found |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    return found | {"norm.weight": (width,), "norm.bias": (width,)}


def _drawn(key: str, shape: tuple[int, ...]) -> Any:
    """A tensor for a name: matrices so that activations keep their size, gains about 1, the rest small."""
    import torch  # noqa: PLC0415

    random = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    noise = torch.randn(shape, generator=random)
    if len(shape) > 1 and not any(part in key for part in ("position", "token", "pos_embed")):
        return noise * max(1, _product(shape[1:])) ** -0.5
    gain = ("norm" in key and key.endswith("weight")) or "lambda" in key or "gamma" in key
    return 1.0 + 0.05 * noise if gain else 0.05 * noise


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(NAMES))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    print(write(args.name, args.folder))


if __name__ == "__main__":
    main()
