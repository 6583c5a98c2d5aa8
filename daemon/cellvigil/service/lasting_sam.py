"""A SAM that outlives its device's troubles, shared by the threads that prepare frames. See `enduring`.

One frame at a time: a picture's encoding takes all cores and the most memory of anything here, so frames wait for it in
line, and the first is done before the next begins. A run that fails was halved already, down to single prompts
(`segment.sam_session`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from cellvigil.bundle.segmenter import SegmenterBundle
from cellvigil.data import F32, I64, U8
from cellvigil.segment.sam_session import SamSession
from cellvigil.service.enduring import Enduring, Made
from cellvigil.service.pause import Wait


class LastingSam(Enduring[SamSession]):
    """The segmenter's model of a running service: a `segment.sam_model.SamModel` for any thread."""

    kind = "segmenter"
    bundle: SegmenterBundle

    def __init__(
        self,
        first: SamSession,
        opener: Callable[[str], SamSession],
        *,
        may_degrade: bool,
        told: Callable[[str, str], None],
        wait: Wait,
    ) -> None:
        super().__init__(first, opener, may_degrade=may_degrade, told=told, wait=wait)
        self.together = first.together
        self.turn = threading.RLock()  # held for a frame, and for what is run beside one

    @property
    def side(self) -> int:
        """Side of the square picture, pixels."""
        return self.bundle.input_size

    def encode(self, picture: U8, extent: tuple[int, int]) -> F32:
        """As `SamSession.encode`. Raises as `Enduring.endured` does."""
        return self._tried(lambda sam: sam.encode(picture, extent))

    def decode(self, features: F32, points: F32, labels: I64) -> tuple[F32, F32]:
        """As `SamSession.decode`, for up to `together` prompts whatever it runs on by now. Raises as `encode` does."""
        return self._tried(lambda sam: sam.decode(features, points, labels))

    def _tried(self, work: Callable[[SamSession], Made]) -> Made:
        with self.turn:
            return self.endured(work)
