"""An encoder that outlives its device's troubles. Opens sessions anew; touches nothing else.

A run that fails was halved already, down to single images (`encoder.Encoder`). What still fails here is mended as
`enduring` says: a fresh session, the CPU, or the end of the service.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.data import F32, U8, Fit
from cellvigil.encoder import Encoder, NotFinite
from cellvigil.errors import BundleError, DeviceError
from cellvigil.service.enduring import DEGRADED, HALVED, REBUILT, Enduring
from cellvigil.service.log import LOGGER
from cellvigil.service.pause import Wait

__all__ = ["DEGRADED", "HALVED", "REBUILT", "Lasting"]

Opener = Callable[[str], Encoder]
"""Opens the encoder on a device ("cpu", "cuda", "tensorrt") and tries its golden pair; raises DeviceError."""


class Lasting(Enduring[Encoder]):
    """One encoder of a running service. `embed` is called from one thread at a time; the figures from any."""

    kind = "encoder"

    def __init__(
        self,
        first: Encoder,
        opener: Opener,
        *,
        may_degrade: bool,
        told: Callable[[str, str], None],
        wait: Wait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            first, opener, name=first.bundle.name, may_degrade=may_degrade, told=told, wait=wait, clock=clock
        )
        self.bundle: EncoderBundle = first.bundle

    @property
    def fit(self) -> Fit:
        """How a picture is brought to that side."""
        return self.bundle.fit

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.bundle.channels

    def embed(self, pixels: U8) -> F32:
        """As `Encoder.embed`. Raises DeviceError when nothing helped, Stopped if the service ends while it waits."""
        while True:
            try:
                return _finite(self.opened(), pixels)
            except NotFinite:
                raise
            except (DeviceError, BundleError) as error:
                self.recover(error)


def _finite(encoder: Encoder, pixels: U8) -> F32:
    """The vectors; where some are not finite the run is repeated once, for a device may slip."""
    try:
        return encoder.embed(pixels)
    except NotFinite as error:
        LOGGER.warning("the encoder's run is repeated", extra={"why": str(error)})
        return encoder.embed(pixels)
