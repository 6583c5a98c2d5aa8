"""The one edge at which segmenters differ."""

from __future__ import annotations

from typing import Protocol

from cellvigil.data import I32, U8


class Segmenter(Protocol):
    """Finds cells in one image; knows nothing of frames, scales of indexes or encoders."""

    def __call__(self, image: U8, pixel_size_um: float, /) -> I32:
        """Labels (Y, X) i32 of a (Y, X) u8 image with `pixel_size_um` micrometres a pixel; 0 = background.

        Labels may have gaps; the grid may be coarser than the image's, over the same field.
        """
        ...
