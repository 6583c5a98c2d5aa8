"""Which of an index's confusions holds for the way a source calls: what its counts may be corrected with. Pure."""

from __future__ import annotations

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import CallConfusion
from cellvigil.decide.call import Rejection
from cellvigil.decide.ewc import Settings


def overrides(index: ReferenceIndex, settings: Settings, rejection: Rejection) -> bool:
    """Whether calls so made are others than the index was measured with.

    A least probability has no effect where the index gives none, nor have settings equal to its own.
    """
    calibration = index.calibration
    uncertain = rejection.min_probability is not None and calibration is not None and calibration.confidence is not None
    return uncertain or settings != Settings.of(index)


def confusion_of(index: ReferenceIndex, settings: Settings, rejection: Rejection) -> CallConfusion | None:
    """How these calls go wrong; None where that was not measured, or not for calls so made (`overrides`)."""
    if index.confusion is None or overrides(index, settings, rejection):
        return None
    rejects = rejection.same_device and index.calibration is not None and index.calibration.novel_below is not None
    return index.confusion.rejecting if rejects else index.confusion.plain
