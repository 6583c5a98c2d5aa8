"""What the pure parts of SAM's segmenter ask of a model that runs: the edge between them and onnxruntime."""

from __future__ import annotations

from typing import Protocol

from cellvigil.data import F32, I64, U8


class SamModel(Protocol):
    """An image encoder and a mask decoder, loaded; see `sam_session`. May be called from any thread."""

    @property
    def side(self) -> int:
        """Side of the square picture, pixels."""
        ...

    @property
    def together(self) -> int:
        """Most prompts that are to be decoded in one call."""
        ...

    def encode(self, picture: U8, extent: tuple[int, int]) -> F32:
        """Features of a picture (side, side, 3) u8, of which `extent` rows and columns are real. Raises DeviceError."""
        ...

    def decode(self, features: F32, points: F32, labels: I64) -> tuple[F32, F32]:
        """Logits (p, 4, side / 4, side / 4) and predicted overlaps (p, 4) of p prompts of two points each.

        points (p, 2, 2) x, y in pixels of the picture, labels (p, 2) of `sam_prompts`; p from 1 to `together`. Mask 0
        is that of an unambiguous prompt, 1 to 3 those of an ambiguous one. Raises DeviceError.
        """
        ...
