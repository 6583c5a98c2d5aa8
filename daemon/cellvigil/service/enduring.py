"""A model that outlives its device's troubles. Opens sessions anew; touches nothing else.

What fails gets a fresh session on the same device, a few times an hour at most; then, if the configuration leaves the
choice of the device to us, one on the CPU, said aloud; else the service ends, for its supervisor to start it again.
Numbers that are none are asked for once more; a session that gives its golden output and still makes none of a picture
cannot be blamed for it: that is the end of its frame.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.bundle.segmenter import SegmenterBundle
from cellvigil.errors import BadFile, BundleError, DeviceError, NotFinite
from cellvigil.service.log import LOGGER
from cellvigil.service.pause import Stopped, Wait

REBUILT, DEGRADED, HALVED = "rebuilt", "degraded", "halved"

_BACKOFF_S = (1.0, 5.0, 20.0)  # before each rebuilding; as many as there are, an hour
_HOUR_S = 3600.0


def unchanged(bundle: EncoderBundle | SegmenterBundle, now: EncoderBundle | SegmenterBundle) -> None:
    """Raises BundleError if `now`, in the folder of a `bundle` that is running, is another one.

    Cells would be embedded by other weights than the index's, under the old name.
    """
    if now.sha256 != bundle.sha256:
        what = f"{bundle.name} was replaced while the service runs ({bundle.sha256[:12]}, now {now.sha256[:12]})"
        raise BundleError(what, where=bundle.folder, hint="bring the earlier one back, or restart with its own index")


class Running(Protocol):
    """A loaded model."""

    @property
    def bundle(self) -> EncoderBundle | SegmenterBundle:
        """What it was loaded from."""
        ...

    @property
    def provider(self) -> str:
        """What it runs on."""
        ...

    @property
    def device_note(self) -> str:
        """Why that is not the GPU; "" otherwise."""
        ...

    def check(self) -> None:
        """Raises DeviceError or BundleError unless it gives its golden output."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


Model = TypeVar("Model", bound=Running)
Made = TypeVar("Made")


class Enduring(Generic[Model]):
    """One model of a running service. It is used from one thread at a time; the figures are read from any."""

    kind = "model"  # for the log

    def __init__(
        self,
        first: Model,
        opener: Callable[[str], Model],
        *,
        may_degrade: bool,
        told: Callable[[str, str], None],
        wait: Wait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`opener` opens the model on a device and tries its golden pair; it raises DeviceError (or BundleError)."""
        self.bundle = first.bundle
        self.name = first.bundle.name
        self.provider = first.provider
        self.device_note = first.device_note
        self.degraded = False  # whether it went to the CPU because its device failed
        self._model: Model | None = first
        self._opener = opener
        self._may_degrade = may_degrade
        self._told = told
        self._wait = wait
        self._clock = clock
        self._rebuilt: deque[float] = deque()
        self._closed = False

    def opened(self) -> Model:
        """The model as it runs now; opened anew where it was given up. Raises Stopped once it is closed."""
        if self._closed:
            raise Stopped
        try:
            self._model = self._model or self._opener(self.provider)
        except NotFinite as error:  # of its golden pair: the device is to blame
            raise DeviceError(error.what, where=error.where, hint=error.hint) from error
        return self._model

    def endured(self, work: Callable[[Model], Made]) -> Made:
        """What `work` makes of the model as it runs now, whatever that takes.

        Raises DeviceError when nothing helped, BadFile ("no_numbers") when it is not the device's fault, Stopped if the
        service ends meanwhile.
        """
        again = False
        while True:
            try:
                return work(self.opened())
            except NotFinite as error:
                if again and self._is_good():
                    hint = "look at the image; a model in fp32 has more room for numbers than one in fp16"
                    raise BadFile("no_numbers", error.what, where=error.where, hint=hint) from error
                LOGGER.warning("the %s's run is repeated", self.kind, extra={"why": str(error)})
                again = not again
            except (DeviceError, BundleError) as error:
                self.recover(error)

    def _is_good(self) -> bool:
        """Whether the model as it runs now gives its golden output; one that does not is given up."""
        try:
            self.opened().check()
        except (DeviceError, BundleError) as error:
            self.recover(error)
            return False
        return True

    def recover(self, error: DeviceError | BundleError) -> None:
        """Give the session up, and wait before the next is opened; or go over to the CPU; or raise a DeviceError."""
        self._give_up()
        now = self._clock()
        while self._rebuilt and now - self._rebuilt[0] >= _HOUR_S:
            self._rebuilt.popleft()
        if len(self._rebuilt) < len(_BACKOFF_S):
            pause = _BACKOFF_S[len(self._rebuilt)]
            self._rebuilt.append(now)
            extra = {self.kind: self.name, "device": self.provider, "in_s": pause, "why": str(error)}
            LOGGER.warning("the %s failed; its session is opened anew", self.kind, extra=extra)
            self._told(self.name, REBUILT)
            self._wait(pause)
            return
        if not self._may_degrade or self.provider == "cpu":
            if isinstance(error, DeviceError):
                raise error
            # It was whole at the start: a device that gives other golden output now is what failed, and no frame.
            raise DeviceError(error.what, where=error.where, hint=error.hint) from error
        extra = {self.kind: self.name, "device": self.provider, "why": str(error)}
        LOGGER.error("the device failed again and again: on the CPU from now on, until a restart", extra=extra)
        self.device_note = f"running on the CPU: {self.provider} failed: {error.what}"
        self.provider, self.degraded = "cpu", True
        self._rebuilt.clear()
        self._told(self.name, DEGRADED)

    def close(self) -> None:
        """Free what the session holds; runs that are not begun are not run, and never will be."""
        self._closed = True
        self._give_up()

    def _give_up(self) -> None:
        model, self._model = self._model, None
        if model is not None:
            model.close()
