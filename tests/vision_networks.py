"""Tiny seeded networks of real architectures, and their checkpoints in the shapes that upstream publishes them in."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers as t

PATCHES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
_WORDS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 50,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_DECODER: dict[str, Any] = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}
_STAGES: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1]}
_WINDOWS: dict[str, Any] = {
    "image_size": 64,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}
SWIGLU = {"use_swiglu_ffn": True}


def seeded(network: Any) -> Any:
    """`network` with random weights, always the same; norms about 1."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=random) * 0.1 + (1.0 if weight.ndim == 1 else 0.0))
    return network.eval()


def whole(name: str) -> Any:
    """What upstream publishes of an architecture: the network with its heads, its decoder or its text side."""
    dinov2 = {key: value for key, value in PATCHES.items() if key != "intermediate_size"}
    made = {
        "beit": lambda: t.BeitForImageClassification(t.BeitConfig(**PATCHES)),
        "clip": lambda: t.CLIPModel(t.CLIPConfig(vision_config=PATCHES, text_config=_WORDS, projection_dim=8)),
        "convnextv2": lambda: t.ConvNextV2ForImageClassification(t.ConvNextV2Config(**_STAGES, num_stages=2)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**dinov2)),
        "dinov2 (swiglu)": lambda: t.Dinov2Model(t.Dinov2Config(**dinov2, **SWIGLU)),
        "resnet": lambda: t.ResNetForImageClassification(t.ResNetConfig(**_STAGES, embedding_size=8)),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(vision_config=PATCHES, text_config=_WORDS)),
        "siglip (tower)": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**PATCHES)),
        "swinv2": lambda: t.Swinv2ForImageClassification(t.Swinv2Config(**_WINDOWS)),
        "vit": lambda: t.ViTModel(t.ViTConfig(**PATCHES)),
        "vit (classifier)": lambda: t.ViTForImageClassification(t.ViTConfig(**PATCHES)),
        "vit_mae": lambda: t.ViTMAEForPreTraining(t.ViTMAEConfig(**PATCHES, **_DECODER)),
    }
    return seeded(made[name]())


def wanted(name: str, network: Any, pixels: Any) -> Any:
    """The vectors that transformers itself gives for `pixels`, by the network as it was published."""
    if name == "vit_mae":  # its own forward, with nothing masked and nothing permuted
        network.vit.config.mask_ratio = 0.0
        noise = torch.arange(16.0).expand(len(pixels), 16)
        return network.vit(pixel_values=pixels, noise=noise).last_hidden_state[:, 0]
    if name in {"clip", "siglip"}:
        return network.vision_model(pixel_values=pixels).pooler_output
    base = getattr(network, network.base_model_prefix, network)
    given = base(pixel_values=pixels)
    pooled = getattr(given, "pooler_output", None)
    return given.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)


def saved(network: Any, folder: Path, *, side: int = 32, **options: Any) -> Path:
    """The folder of a network's checkpoint, as on the hub."""
    network.save_pretrained(folder, **options)
    said = {"image_processor_type": "ViTImageProcessor", "size": side, "resample": 3}
    said |= {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


SIDES = {"swinv2": 64}
