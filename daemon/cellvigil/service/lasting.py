"""An encoder that outlives its device's troubles. Opens sessions anew; touches nothing else.

A run that fails was halved already, down to single images (`encoder.Encoder`). What still fails here gets a fresh
session on the same device, a few times an hour at most; then, if the configuration leaves the choice of the device to
us, one on the CPU, said aloud; else the service ends, for its supervisor to start it again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.data import F32, U8
from cellvigil.encoder import Encoder, NotFinite
from cellvigil.errors import BundleError, DeviceError
from cellvigil.service.log import LOGGER
from cellvigil.service.pause import Wait

REBUILT, DEGRADED, HALVED = "rebuilt", "degraded", "halved"

_BACKOFF_S = (1.0, 5.0, 20.0)  # before each rebuilding; as many as there are, an hour
_HOUR_S = 3600.0

Opener = Callable[[str], Encoder]
"""Opens the encoder on a device ("cpu", "cuda", "tensorrt") and tries its golden pair; raises DeviceError."""


class Lasting:
    """One encoder of a running service. `embed` is called from one thread at a time; the figures from any."""

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
        self.bundle: EncoderBundle = first.bundle
        self.provider = first.provider
        self.device_note = first.device_note
        self.degraded = False  # whether it went to the CPU because its device failed
        self._encoder: Encoder | None = first
        self._opener = opener
        self._may_degrade = may_degrade
        self._told = told
        self._wait = wait
        self._clock = clock
        self._rebuilt: deque[float] = deque()

    @property
    def name(self) -> str:
        """The encoder's name, which keys its embeddings."""
        return self.bundle.name

    @property
    def input_size(self) -> int:
        """Side of the square input, pixels."""
        return self.bundle.input_size

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.bundle.channels

    def embed(self, pixels: U8) -> F32:
        """As `Encoder.embed`. Raises DeviceError when nothing helped, Stopped if the service ends while it waits."""
        while True:
            try:
                encoder = self._encoder or self._opener(self.provider)
                self._encoder = encoder
                return _finite(encoder, pixels)
            except NotFinite:
                raise
            except (DeviceError, BundleError) as error:
                self._recover(error)

    def _recover(self, error: DeviceError | BundleError) -> None:
        """Give the session up, and wait before the next is opened; or go over to the CPU; or raise `error`."""
        self.close()
        now = self._clock()
        while self._rebuilt and now - self._rebuilt[0] >= _HOUR_S:
            self._rebuilt.popleft()
        if len(self._rebuilt) < len(_BACKOFF_S):
            pause = _BACKOFF_S[len(self._rebuilt)]
            self._rebuilt.append(now)
            extra = {"encoder": self.name, "device": self.provider, "in_s": pause, "why": str(error)}
            LOGGER.warning("the encoder failed; its session is opened anew", extra=extra)
            self._told(self.name, REBUILT)
            self._wait(pause)
            return
        if not self._may_degrade or self.provider == "cpu":
            raise error
        extra = {"encoder": self.name, "device": self.provider, "why": str(error)}
        LOGGER.error("the device failed again and again: on the CPU from now on, until a restart", extra=extra)
        self.device_note = f"running on the CPU: {self.provider} failed: {error.what}"
        self.provider, self.degraded = "cpu", True
        self._rebuilt.clear()
        self._told(self.name, DEGRADED)

    def close(self) -> None:
        """Free what the session holds; runs that are not begun are not run."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()


def _finite(encoder: Encoder, pixels: U8) -> F32:
    """The vectors; where some are not finite the run is repeated once, for a device may slip."""
    try:
        return encoder.embed(pixels)
    except NotFinite as error:
        LOGGER.warning("the encoder's run is repeated", extra={"why": str(error)})
        return encoder.embed(pixels)
