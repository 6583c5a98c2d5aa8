"""A chain's forward pass in plain numpy, batch norms as they are: the slow, obvious twin of the graph.

It shares the table of layers with the graph and nothing else, so that an export can be checked where there is no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cellvigil.data import F32, U8, Array
from cellvigil_export.chain import Chain, Layer
from cellvigil_export.declaration import Preprocessing


def features(chain: Chain, how: Preprocessing, weights: Mapping[str, Array], pixels: U8) -> F32:
    """The vectors (n, dimension) f32 of images (n, side, side, channels) u8."""
    mean, std = np.array(how.mean, np.float32), np.array(how.std, np.float32)
    return np.stack([_one(chain, weights, (image * np.float32(how.scale) - mean) / std) for image in pixels])


def _one(chain: Chain, weights: Mapping[str, Array], image: Array) -> F32:
    """One normalised image's vector: (side, side, channels) f32 -> (dimension,) f32; maps are (y, x, channels)."""
    x = kept = image
    for layer in chain.layers:
        kept = x if layer.opens else kept
        x = _convolved(x, weights[f"{layer.conv}.weight"], chain, layer)
        x = _normalised(x, weights, layer.norm, chain.epsilon)
        if layer.clipped:
            x = np.clip(x, 0, 6)
        if layer.adds:
            x = x + kept
    return np.asarray(x.mean(axis=(0, 1), dtype=np.float64), dtype=np.float32)


def _convolved(x: Array, weight: Array, chain: Chain, layer: Layer) -> Array:
    """The convolution as a sum over the kernel's taps of shifted, strided maps."""
    kernel, step = layer.shape[-1], layer.stride
    before, after, out = chain.padding(len(x), kernel, step)
    padded = np.pad(x, ((before, after), (before, after), (0, 0)))
    total: Array = np.zeros((out, out, layer.shape[0]), np.float32)
    for row in range(kernel):
        for column in range(kernel):
            tap = padded[row : row + step * out : step, column : column + step * out : step][:out, :out]
            part = weight[:, :, row, column]
            total += tap * part[:, 0] if layer.groups > 1 else tap @ part.T
    return total


def _normalised(x: Array, weights: Mapping[str, Array], norm: str, epsilon: float) -> Array:
    """A batch norm at inference."""
    mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
    scaled = (x - mean) / np.sqrt(variance + np.float32(epsilon))
    return np.asarray(scaled * weights[f"{norm}.weight"] + weights[f"{norm}.bias"])
