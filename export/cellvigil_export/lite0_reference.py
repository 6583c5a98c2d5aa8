"""EfficientNet-Lite0's forward pass in plain numpy, batch norms as they are: the slow, obvious twin of the graph.

It shares the table of layers with the graph and nothing else, so that an export can be checked where there is no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cellvigil.data import F32, U8, Array
from cellvigil_export.lite0_layers import EPSILON, MEAN, SCALE, Layer, layers, same_padding


def features(weights: Mapping[str, Array], pixels: U8) -> F32:
    """The vectors (n, 1280) f32 of images (n, 224, 224, 3) u8."""
    return np.stack([_one(weights, image) for image in pixels])


def _one(weights: Mapping[str, Array], image: U8) -> F32:
    """One image's vector: (224, 224, 3) u8 -> (1280,) f32; maps are (y, x, channels)."""
    x: Array = (image.astype(np.float32) - np.float32(MEAN)) / np.float32(SCALE)
    kept = x
    for layer in layers():
        kept = x if layer.opens else kept
        x = _normalised(_convolved(x, weights[f"{layer.conv}.weight"], layer), weights, layer.norm)
        if layer.clipped:
            x = np.clip(x, 0, 6)
        if layer.adds:
            x = x + kept
    return np.asarray(x.mean(axis=(0, 1), dtype=np.float64), dtype=np.float32)


def _convolved(x: Array, weight: Array, layer: Layer) -> Array:
    """The convolution as a sum over the kernel's taps of shifted, strided maps."""
    kernel, step = layer.shape[-1], layer.stride
    before, after, out = same_padding(len(x), kernel, step)
    padded = np.pad(x, ((before, after), (before, after), (0, 0)))
    total: Array = np.zeros((out, out, layer.shape[0]), np.float32)
    for row in range(kernel):
        for column in range(kernel):
            tap = padded[row : row + step * out : step, column : column + step * out : step][:out, :out]
            part = weight[:, :, row, column]
            total += tap * part[:, 0] if layer.groups > 1 else tap @ part.T
    return total


def _normalised(x: Array, weights: Mapping[str, Array], norm: str) -> Array:
    """A batch norm at inference."""
    mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
    scaled = (x - mean) / np.sqrt(variance + np.float32(EPSILON))
    return np.asarray(scaled * weights[f"{norm}.weight"] + weights[f"{norm}.bias"])
