"""A checkpoint's own `preprocessor_config.json`: what happens to a picture before the first layer.

The file is transformers' own, and the rules are those of its image processors, for pictures that are square, as a
cell's are. What a class of theirs takes for granted where the file is silent stands in `_CLASSES`; a class that is not
there may do more than resize, crop and normalise, so it is not followed. Reads such files only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellvigil.data import Fit
from cellvigil.errors import BundleError
from cellvigil_export.declaration import Preprocessing

FILE = "preprocessor_config.json"
FILES = (FILE, "processor_config.json")

_RESAMPLES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_CROP_BELOW = 384  # ConvNeXt's processor crops below this size only
_LEVIT = 256 / 224  # what LeViT's resizes to, in sizes
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_WHOLE = {"resample": 3, "size": 224}
_CROPPED = {**_WHOLE, "crop_size": 224, "do_center_crop": True}
_CLASSES: Mapping[str, Mapping[str, Any]] = {
    "": {},  # a file that names no class says everything itself
    "Beit": {**_WHOLE, "crop_size": 224, **_HALF},
    "Bit": {**_CROPPED, **_OPENAI},  # DINOv2's
    "CLIP": {**_CROPPED, **_OPENAI},
    "ConvNext": {"resample": 3, "size": 384, "crop_pct": 224 / 256, **_HALF},
    "DeiT": {**_CROPPED, "size": 256, **_HALF},
    "DINOv3ViT": {"resample": 2, "size": 224, **_IMAGENET},  # by torch, unrounded: a grey level away at most
    "EfficientNet": {"resample": 3, "size": 346, "crop_size": 289, "include_top": True, **_HALF},
    "Levit": {**_CROPPED, **_IMAGENET},
    "MobileNetV1": {**_CROPPED, "resample": 2, "size": 256, **_HALF},
    "MobileNetV2": {**_CROPPED, "resample": 2, "size": 256, **_HALF},
    "PoolFormer": {**_CROPPED, "crop_pct": 0.9, **_IMAGENET},
    "Pvt": {**_WHOLE, **_IMAGENET},
    "Sam": {"resample": 2, "size": 1024, "do_pad": True, "pad_size": 1024, **_IMAGENET},
    "Segformer": {"resample": 2, "size": 512, **_IMAGENET},
    "Siglip": {**_WHOLE, **_HALF},
    "ViT": {"resample": 2, "size": 224, **_HALF},
}
"""What transformers 5.23 has on its classes."""

_SUFFIXES = ("ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor")


def read(folder: Path) -> Mapping[str, Any] | None:
    """What a checkpoint's folder says of its preprocessing; None if it says nothing. Raises BundleError for no JSON."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BundleError(f"the preprocessing cannot be read: {error}", where=path) from None
    if path.name != FILE and isinstance(content, dict):
        content = content.get("image_processor")  # beside a tokenizer's
        if content is None:
            return None
    if not isinstance(content, dict):
        raise BundleError("the preprocessing is no table of settings", where=path)
    return content


def preprocessing_of(config: Mapping[str, Any], channels: int = 3) -> Preprocessing:
    """The preprocessing of a `preprocessor_config.json`. Raises BundleError for one that cannot be followed."""
    hint = f"a {FILE} that only resizes, crops and normalises can be followed"
    try:
        kind, said = _with_defaults(config)
        mean, std = _normalisation(kind, said, channels)
        return Preprocessing(_fit(kind, said), _scale(said), mean, std)
    except KeyError as error:
        raise BundleError(f"the preprocessing does not say its {error.args[0]}", hint=hint) from None
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise BundleError(f"the preprocessing cannot be followed: {error}", hint=hint) from None


def differences(own: Preprocessing, usual: Preprocessing) -> tuple[str, ...]:
    """What a checkpoint's own preprocessing does otherwise than the usual one, one text each; () = nothing."""
    told = []
    if own.fit != usual.fit:
        told.append(f"pictures are {_told(own.fit)}, not {_told(usual.fit)}")
    for name in ("scale", "mean", "std", "own"):
        mine, theirs = getattr(own, name), getattr(usual, name)
        if mine != theirs:
            told.append(f"{name} is {mine}, not {theirs}")
    return tuple(told)


def _told(fit: Fit) -> str:
    if not fit.shortest:
        return f"brought to {fit.side} px ({fit.resample})"
    return f"brought to {fit.shortest} px ({fit.resample}) and cut to {fit.side}"


def _with_defaults(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The class, and what the file says with what the class takes for granted; null is as good as nothing."""
    named = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    kind = next((named.removesuffix(suffix) for suffix in _SUFFIXES if named.endswith(suffix)), named)
    if kind not in _CLASSES:
        raise ValueError(f"what {named} does is not known here")
    said = {key: value for key, value in config.items() if value is not None}
    return kind, {"do_center_crop": not kind and "crop_size" in said, **_CLASSES[kind], **said}


def _normalisation(kind: str, said: Mapping[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, after scaling."""
    mean, std = (0.0,) * channels, (1.0,) * channels
    if said.get("do_normalize", True):
        mean, std = (_each(said[key], channels) for key in ("image_mean", "image_std"))
    if not all(value > 0 for value in std):
        raise ValueError(f"image_std {std} cannot be divided by")
    if kind == "EfficientNet" and said.get("rescale_offset"):  # one less after scaling
        mean = tuple(value + 1.0 for value in mean)
    if kind == "EfficientNet" and said["include_top"]:  # divided once more
        again = _each(said["image_std"], channels)
        std = tuple(value * more for value, more in zip(std, again, strict=True))
    return mean, std


def _each(value: float | list[float], channels: int) -> tuple[float, ...]:
    """A number for each channel."""
    numbers = [float(number) for number in (value if isinstance(value, list) else [value])]
    if len(numbers) not in {1, channels} or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{value} is not a number a channel, of which there are {channels}")
    return tuple(numbers * (channels // len(numbers)))


def _scale(said: Mapping[str, Any]) -> float:
    scale = float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"it scales by {scale}")
    return scale


def _fit(kind: str, said: Mapping[str, Any]) -> Fit:
    if not said.get("do_resize", True):
        raise ValueError("it resizes nothing, and a cell's picture must be brought to the input's side")
    if said.get("do_flip_channel_order"):
        raise ValueError("it takes blue, green, red")
    size = _side(said["size"])
    whole = _whole(kind, said, size)
    side = size if kind in {"", "ConvNext"} else whole  # those two cut by themselves
    if said.get("do_center_crop"):
        side = _side(said["crop_size"])
    if whole < side:
        raise ValueError(f"it cuts {side} px out of {whole}")
    if said.get("do_pad") and _side(said.get("pad_size", side)) != side:
        raise ValueError(f"it pads {side} px to {said['pad_size']}")
    return Fit(side, _resample(said["resample"]), shortest=whole if whole > side else 0)


def _whole(kind: str, said: Mapping[str, Any], size: int) -> int:
    """The side that a picture is resized to, where its centre is then cut out of it."""
    if kind == "Levit" and (not isinstance(said["size"], Mapping) or said["size"].get("shortest_edge")):
        return int(_LEVIT * size)
    if kind not in {"", "ConvNext", "PoolFormer"} or "crop_pct" not in said:
        return size
    return size if kind != "PoolFormer" and size >= _CROP_BELOW else int(size / float(said["crop_pct"]))


def _resample(value: int | str) -> str:
    """Pillow's number of a filter, or its name."""
    name = value.lower().rpartition(".")[2] if isinstance(value, str) else _RESAMPLES.get(value, "")
    if name not in _RESAMPLES.values():
        raise ValueError(f"it resamples by {value!r}, and there is {', '.join(_RESAMPLES.values())}")
    return name


def _side(size: int | list[int] | Mapping[str, int]) -> int:
    """One number for a square: of 224, {"height": 224, "width": 224}, or {"shortest_edge": 224}, or the longest."""
    sides = size.values() if isinstance(size, Mapping) else size if isinstance(size, list) else [size]
    numbers = {int(side) for side in sides if side is not None}
    if len(numbers) != 1 or min(numbers) < 1:
        raise ValueError(f"{size} is no square")
    return numbers.pop()
