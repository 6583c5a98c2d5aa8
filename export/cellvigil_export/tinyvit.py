"""TinyViT as MobileSAM uses it for an image encoder: convolutions, then attention in windows, then SAM's neck.

TinyViT: Wu et al., 2022, "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", section 3 and table 1
(the 5M model); MobileSAM: Zhang et al., 2023, which leaves the last merging at stride 1, so that 1024 pixels give
64 x 64 places, and puts the neck of SAM (Kirillov et al., 2023) behind it. Written from the papers; the names of the
parts are those of the published weights, so that they load strictly. Touches no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cellvigil_export.sam_names import VISION
from cellvigil_export.strict import check_tensors

EXPANSION = 4  # of the hidden layer of a convolution block or a multilayer perceptron
_NECK_EPS = 1e-6  # of its layer norms


@dataclass(frozen=True, slots=True)
class Size:
    """How large a TinyViT is; the default is MobileSAM's. A value a stage."""

    side: int = 1024  # of the square input, pixels
    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 5, 10)  # the first stage has none: it is of convolutions
    windows: tuple[int, ...] = (7, 7, 14, 7)  # side, places
    neck: int = 256  # channels of the features


class ConvNorm(nn.Sequential):  # type: ignore[misc]  # torch is untyped where it is not installed
    """A convolution without bias, then batch normalisation."""

    def __init__(self, taken: int, given: int, side: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(taken, given, side, stride, side // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(given))


class Convolutions(nn.Module):  # type: ignore[misc]
    """An inverted bottleneck (MBConv): widened, convolved channel by channel, narrowed, and added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width * EXPANSION
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)

    def forward(self, x: Any) -> Any:
        """(n, width, y, x) to the same."""
        hidden = functional.gelu(self.conv2(functional.gelu(self.conv1(x))))
        return functional.gelu(x + self.conv3(hidden))


class Merging(nn.Module):  # type: ignore[misc]
    """From one stage's width and resolution to the next one's."""

    def __init__(self, taken: int, given: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(taken, given)
        self.conv2 = ConvNorm(given, given, 3, stride, groups=given)
        self.conv3 = ConvNorm(given, given)

    def forward(self, x: Any) -> Any:
        """(n, taken, y, x) to (n, given, y / stride, x / stride)."""
        return self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(x)))))


class Attention(nn.Module):  # type: ignore[misc]
    """Attention among the places of a window, with a learned bias for each distance along y and x."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        apart_y, apart_x = ((axis.reshape(-1, 1) - axis.reshape(1, -1)).abs() for axis in (y, x))
        self.register_buffer("distance", apart_y * window + apart_x, persistent=False)  # which bias, each to each

    def forward(self, x: Any) -> Any:
        """(windows, places, width) to the same."""
        windows, places, width = x.shape
        # A head's query, key and value lie side by side.
        parts = self.qkv(self.norm(x)).reshape(windows, places, self.heads, 3, width // self.heads)
        query, key, value = parts.permute(3, 0, 2, 1, 4).unbind(0)
        likeness = query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5
        weights = (likeness + self.attention_biases[:, self.distance]).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(windows, places, width))


class Perceptron(nn.Module):  # type: ignore[misc]
    """Layer norm and two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width * EXPANSION)
        self.fc2 = nn.Linear(width * EXPANSION, width)

    def forward(self, x: Any) -> Any:
        """(..., width) to the same."""
        return self.fc2(functional.gelu(self.fc1(self.norm(x))))


class Transformer(nn.Module):  # type: ignore[misc]
    """Attention in windows, a convolution channel by channel, and a perceptron."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = Perceptron(width)

    def forward(self, x: Any) -> Any:
        """(n, width, y, x) to the same."""
        x = self.local_conv(x + self._attended(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _attended(self, x: Any) -> Any:
        """(n, y, x, width): zeros are added below and to the right up to whole windows, attended to, and cut off."""
        pictures, height, length, width = x.shape
        side = self.window
        down, across = -height % side, -length % side
        x = functional.pad(x, (0, 0, 0, across, 0, down))
        grid = (pictures, (height + down) // side, (length + across) // side)
        x = x.reshape(pictures, grid[1], side, grid[2], side, width).transpose(2, 3)
        x = self.attn(x.reshape(-1, side * side, width))
        x = x.reshape(*grid, side, side, width).transpose(2, 3)
        return x.reshape(pictures, grid[1] * side, grid[2] * side, width)[:, :height, :length]


class Stage(nn.Module):  # type: ignore[misc]
    """Blocks of one kind, and the way to the next stage."""

    def __init__(self, blocks: list[Any], onward: Merging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = onward

    def forward(self, x: Any) -> Any:
        """(n, width, y, x) to the next stage's width and resolution."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):  # type: ignore[misc]
    """Two convolutions that halve the picture each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, width // 2, 3, 2), nn.GELU(), ConvNorm(width // 2, width, 3, 2))

    def forward(self, x: Any) -> Any:
        """(n, 3, y, x) to (n, width, y / 4, x / 4)."""
        return self.seq(x)


class ChannelNorm(nn.LayerNorm):  # type: ignore[misc]
    """Layer norm over the channels of (n, channels, y, x)."""

    def forward(self, x: Any) -> Any:
        """The same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TinyViT(nn.Module):  # type: ignore[misc]
    """Normalised pictures (n, 3, side, side) f32 to features (n, neck, side / 16, side / 16) f32."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.side, self.width = size.side, size.widths[-1]
        self.patch_embed = PatchEmbed(size.widths[0])
        self.layers = nn.ModuleList([self._stage(size, index) for index in range(len(size.widths))])
        self.neck = nn.Sequential(
            nn.Conv2d(size.widths[-1], size.neck, 1, bias=False),
            ChannelNorm(size.neck, eps=_NECK_EPS),
            nn.Conv2d(size.neck, size.neck, 3, padding=1, bias=False),
            ChannelNorm(size.neck, eps=_NECK_EPS),
        )

    @staticmethod
    def _stage(size: Size, index: int) -> Stage:
        width, last = size.widths[index], len(size.widths) - 1
        blocks = [
            Transformer(width, size.heads[index], size.windows[index]) if index else Convolutions(width)
            for _ in range(size.depths[index])
        ]
        if index == last:
            return Stage(blocks, None)
        return Stage(blocks, Merging(width, size.widths[index + 1], stride=1 if index == last - 1 else 2))

    def forward(self, x: Any) -> Any:
        """See the class."""
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x)


def loaded(state: Mapping[str, Any], where: Path) -> TinyViT:
    """MobileSAM's image encoder with the weights of a `state` under the names that `sam_names.renamed` gives.

    Raises BundleError, listing what differs, unless it has exactly its tensors.
    """
    network: TinyViT = TinyViT(Size()).eval()
    own = {name.removeprefix(VISION): tensor for name, tensor in state.items() if name.startswith(VISION)}
    found, expected = ({name: tuple(each.shape) for name, each in of.items()} for of in (own, network.state_dict()))
    check_tensors(found, expected, of="MobileSAM's TinyViT", where=where)
    network.load_state_dict(own)
    return network
