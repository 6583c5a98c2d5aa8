"""The zoo's preprocessing as the checkpoints' own `preprocessor_config.json` say it (reference/encoders.md).

Written down by hand, and not complete where the class's defaults are what counts: some of these files are older than
transformers' present names. DinoBloom has no such file; its evaluation code squashes a picture to 224 px, bilinear,
which is what a ViT's processor does.
"""

from __future__ import annotations

from typing import Any

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_SCALED = {"do_rescale": True, "rescale_factor": 0.00392156862745098}

DINOV2: dict[str, Any] = {
    "image_processor_type": "BitImageProcessor",
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_resize": True,
    "resample": 3,
    "size": {"shortest_edge": 256},
    **_SCALED,
    **_IMAGENET,
}
DINOBLOOM: dict[str, Any] = {"image_processor_type": "ViTImageProcessor", "resample": 2, "size": 224, **_IMAGENET}
CONVNEXT: dict[str, Any] = {
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "resample": 3,
    "size": {"shortest_edge": 224},
    **_IMAGENET,
}
SWINV2: dict[str, Any] = {
    "feature_extractor_type": "ViTFeatureExtractor",
    "do_normalize": True,
    "do_resize": True,
    "resample": 3,
    "size": 192,
    **_IMAGENET,
}
CLIP: dict[str, Any] = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "resample": 3,
    "size": 224,
    **_OPENAI,
}
MAE: dict[str, Any] = {
    "feature_extractor_type": "ViTFeatureExtractor",
    "do_normalize": True,
    "do_resize": True,
    "resample": 2,
    "size": 224,
    **_IMAGENET,
}
SAM: dict[str, Any] = {
    "image_processor_type": "SamImageProcessor",
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_pad": True,
    "do_resize": True,
    "pad_size": {"height": 1024, "width": 1024},
    "resample": 2,
    "size": {"longest_edge": 1024},
    **_SCALED,
    **_IMAGENET,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    **{f"dinov2-{size}": DINOV2 for size in ("small", "base", "large", "giant")},
    **{f"dinobloom-{size}": DINOBLOOM for size in "sblg"},
    "convnextv2-large": CONVNEXT,
    "swinv2-large": SWINV2,
    "clip-vit-large": CLIP,
    "vit-mae-huge": MAE,
    **{f"sam-vit-{size}": SAM for size in ("base", "large", "huge")},
}
"""By the encoder's name here."""
