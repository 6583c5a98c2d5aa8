"""From neighbours to calls: entropy-guided depth, the class-weighted vote, and how far a call is to be trusted.

Pure: arrays in, arrays out; no files, no models, no clock.
"""

from cellvigil.decide.call import Rejection, call, first_depth, neighbours_needed
from cellvigil.decide.certainty import FEATURES, features, novelty_p, probabilities, probability_right
from cellvigil.decide.conformal import needed, nonconformity, p_values, pools, sets
from cellvigil.decide.confusion import confusion_of, overrides
from cellvigil.decide.ewc import (
    Depth,
    Settings,
    depths,
    labels_of,
    nearest_of_each,
    normalised_entropy,
    stop,
    unsettled,
    vote,
    vote_share,
)
from cellvigil.decide.voting import EXPERT_BELOW, combine, for_expert, speakers

__all__ = [
    "EXPERT_BELOW",
    "FEATURES",
    "Depth",
    "Rejection",
    "Settings",
    "call",
    "combine",
    "confusion_of",
    "depths",
    "features",
    "first_depth",
    "for_expert",
    "labels_of",
    "nearest_of_each",
    "needed",
    "neighbours_needed",
    "nonconformity",
    "normalised_entropy",
    "novelty_p",
    "overrides",
    "p_values",
    "pools",
    "probabilities",
    "probability_right",
    "sets",
    "speakers",
    "stop",
    "unsettled",
    "vote",
    "vote_share",
]
