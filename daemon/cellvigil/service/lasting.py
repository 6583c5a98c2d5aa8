"""An encoder that outlives its device's troubles. Opens sessions anew; touches nothing else.

A run that fails was halved already, down to single images (`encoder.Encoder`). What still fails here is mended as
`enduring` says: a fresh session, the CPU, or the end of the service.
"""

from __future__ import annotations

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.data import F32, U8
from cellvigil.encoder import Encoder
from cellvigil.service.enduring import DEGRADED, HALVED, REBUILT, Enduring

__all__ = ["DEGRADED", "HALVED", "REBUILT", "Lasting"]


class Lasting(Enduring[Encoder]):
    """One encoder of a running service. `embed` is called from one thread at a time; the figures from any."""

    kind = "encoder"
    bundle: EncoderBundle

    def embed(self, pixels: U8) -> F32:
        """As `Encoder.embed`. Raises as `Enduring.endured` does."""
        return self.endured(lambda encoder: encoder.embed(pixels))
