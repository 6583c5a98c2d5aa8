"""What an index is to know of its own certainty and errors, from cells held out. Pure: arrays in, values out."""

from cellvigil_indexes.calibrating.calibrate import NOVEL_BELOW, calibrate
from cellvigil_indexes.calibrating.confidence import novelty_p_of, witnessed
from cellvigil_indexes.calibrating.confusing import confusing
from cellvigil_indexes.calibrating.sets import DEEPEST

__all__ = ["DEEPEST", "NOVEL_BELOW", "calibrate", "confusing", "novelty_p_of", "witnessed"]
