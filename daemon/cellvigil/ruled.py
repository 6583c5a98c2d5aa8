"""What cells are embedded by: an encoder, as an image rule uses it. Knows no model and no file.

With an image rule of channels and `per_channel`, an encoder of grey or colour pictures sees each channel of a cell by
itself, replicated to what it takes, and the vectors are put one behind the other: how the Cell-DINO paper (PLOS 2025)
feeds fluorescence to DINOv2. A multi-channel encoder takes the channels at once. With `turns` each picture is seen from
four sides and the vectors are averaged: a cell has no up, and an encoder of photographs sees one all the same.
Daemon and index builders both ask `ruled`, so that live and reference cells are embedded alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.bundle.ruled import ruled_bundle
from cellvigil.data import F32, U8, ImageRule
from cellvigil.errors import UsageError


class Embeds(Protocol):
    """What a frame's cells are embedded by: an `encoder.Encoder`, or whatever keeps one going."""

    @property
    def name(self) -> str:
        """The encoder's name, which keys its embeddings."""
        ...

    @property
    def bundle(self) -> EncoderBundle:
        """What it was made of, as the rule uses it."""
        ...

    @property
    def provider(self) -> str:
        """What it runs on: "cpu", "cuda" or "tensorrt"."""
        ...

    def embed(self, pixels: U8) -> F32:
        """The vectors (n, dimension) f32 of pictures (n, side, side, C) u8: see `encoder.Encoder.embed`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Ruled:
    """An encoder that looks at the channels of an image rule, and at pictures from as many sides as it says."""

    encoder: Embeds
    bundle: EncoderBundle  # as the rule uses it: see `bundle.ruled.ruled_bundle`
    rule: ImageRule

    @property
    def name(self) -> str:
        """The encoder's name, which keys its embeddings."""
        return self.bundle.name

    @property
    def provider(self) -> str:
        """What it runs on."""
        return self.encoder.provider

    def embed(self, pixels: U8) -> F32:
        """The vectors (n, dimension) f32 of pictures (n, side, side, channels) u8; n may be 0.

        A channel's own vector depends on no other channel; of turned pictures the mean is taken, so that a cell's
        vector hardly depends on how it lay. Raises UsageError for pictures of other channels, and as the encoder does.
        """
        if self.rule.channels and (pixels.ndim != len("nyxc") or pixels.shape[3] != self.bundle.channels):
            what = f"encoder {self.name} is used on {self.bundle.channels} channels, not on pictures {pixels.shape}"
            raise UsageError(what)
        upright = self._seen(pixels)
        others = [self._seen(np.rot90(pixels, turn, axes=(1, 2))) for turn in range(1, self.rule.turns)]
        return np.mean([upright, *others], axis=0, dtype=np.float32) if others else upright

    def _seen(self, pixels: U8) -> F32:
        if not self.rule.per_channel:
            return self.encoder.embed(np.ascontiguousarray(pixels))
        apart = np.moveaxis(pixels, 3, 1).reshape(-1, *pixels.shape[1:3], 1)  # a cell's channels one after the other
        return self.encoder.embed(apart).reshape(len(pixels), self.bundle.dimension)


def ruled(encoder: Embeds, rule: ImageRule) -> Embeds:
    """The encoder as `rule` uses it: itself, unless the rule is of channels or turns pictures.

    Raises BundleError for an encoder that cannot look at the rule's pictures.
    """
    bundle = ruled_bundle(encoder.bundle, rule)
    if not rule.channels and rule.turns == 1:
        return encoder
    return Ruled(encoder, bundle, rule)
