"""What cells are embedded by: an encoder, as an image rule uses it. Knows no model and no file.

With an image rule of channels and `per_channel`, an encoder of grey or colour pictures sees each channel of a cell by
itself, replicated to what it takes, and the vectors are put one behind the other: how the Cell-DINO paper (PLOS 2025)
feeds fluorescence to DINOv2. A multi-channel encoder takes the channels at once. Daemon and index builders both ask
`ruled`, so that live and reference cells are embedded alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cellvigil.bundle.channels import ruled_bundle
from cellvigil.bundle.encoder import EncoderBundle
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
    """An encoder that looks at the channels of an image rule."""

    encoder: Embeds
    bundle: EncoderBundle  # as the rule uses it: see `bundle.channels.ruled_bundle`
    per_channel: bool

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

        A channel's own vector depends on no other channel. Raises UsageError for pictures of other channels, and as
        the encoder does.
        """
        if pixels.ndim != len("nyxc") or pixels.shape[3] != self.bundle.channels:
            what = f"encoder {self.name} is used on {self.bundle.channels} channels, not on pictures {pixels.shape}"
            raise UsageError(what)
        if not self.per_channel:
            return self.encoder.embed(pixels)
        apart = np.moveaxis(pixels, 3, 1).reshape(-1, *pixels.shape[1:3], 1)  # a cell's channels one after the other
        return self.encoder.embed(apart).reshape(len(pixels), self.bundle.dimension)


def ruled(encoder: Embeds, rule: ImageRule) -> Embeds:
    """The encoder as `rule` uses it: itself, unless the rule is of channels.

    Raises BundleError for an encoder that cannot look at the rule's pictures.
    """
    bundle = ruled_bundle(encoder.bundle, rule)
    return Ruled(encoder, bundle, rule.per_channel) if rule.channels else encoder
