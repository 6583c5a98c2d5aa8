"""What an index is to know of its own certainty, fitted on cells held out. Pure: arrays in, `Calibration` out."""

from cellvigil_indexes.calibrating.calibrate import NOVEL_BELOW, calibrate
from cellvigil_indexes.calibrating.sets import DEEPEST

__all__ = ["DEEPEST", "NOVEL_BELOW", "calibrate"]
