"""The names of all figures of wells, arms and plates: what each is called, what it means, and its labels. Pure.

`docs/metrics.md` explains them to people; a test keeps the two equal. All are gauges: a figure that does not exist
(no interval, not calibrated, no control wells) has no sample, never a zero.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "cellvigil_"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str  # in full
    text: str  # its HELP: one line of plain words, without quotes or backslashes
    labels: tuple[str, ...]

    @property
    def low(self) -> Family:
        """Of a figure with a 95 % interval: the metric of its lower end."""
        return Family(f"{self.name}_low", f"Lower end of the 95 % interval of {self.name}.", self.labels)

    @property
    def high(self) -> Family:
        """Of a figure with a 95 % interval: the metric of its upper end."""
        return Family(f"{self.name}_high", f"Upper end of the 95 % interval of {self.name}.", self.labels)


def _well(name: str, text: str, *more: str) -> Family:
    return Family(PREFIX + name, text, ("plate", "well", *more))


def _arm(name: str, text: str, *more: str) -> Family:
    return Family(PREFIX + name, text, ("plate", "arm", *more))


def _plate(name: str, text: str, *more: str) -> Family:
    return Family(PREFIX + name, text, ("plate", *more))


CELLS = _well("cells", "Cells of a well by called state.", "state")
STATE_SHARE = _well(
    "state_share", "Share of a well's cells in one state (of those alive, dying or dead).", "state", "estimate"
)
ACQUIRED = _well("well_acquired_timestamp_seconds", "Acquisition time of the well's value.")
FIELDS_MISSING = _well("fields_missing", "Expected fields that lack in the value.")
FIELDS_EXCLUDED = _well("fields_excluded", "Fields left out of the value: focus, exposure, coverage or debris.")
UNKNOWN_RATIO = _well("unknown_ratio", "Share of cells called unknown.")
FOCUS_RATIO = _well("focus_ratio", "Sharpness against the plate's first frames.")
DEBRIS_RATIO = _well("debris_ratio", "Share of cells called artefact, in the fields left out too.")
CERTAINTY_RATIO = _well("certainty_ratio", "Mean calibrated probability of the called states.")
NOVEL_RATIO = _well("novel_ratio", "Share of cells with a novelty p-value of at most 0.1 (expected: 0.1).")
AGREEMENT_RATIO = _well("agreement_ratio", "Mean agreement of the voters on a cell's state (of an aligned index).")
WELL_INFO = _well("well_info", "What the plate map says of a well.", "arm", "role", "compound", "dose", "cell_line")
TREATED = _well("treated_timestamp_seconds", "When the well was treated.")
LIVE_INDEX = _well("live_index_ratio", "Live cells against those at treatment.")
RESPONSE = _well("response_ratio", "1 - live index over the median live index of the control wells.")
ONSET = _well(
    "response_onset_timestamp_seconds", "When the first frame was taken that showed a response beyond chance."
)
PAUSED = _well("response_paused", "1 while the plate is out.")
GROWTH_RATE = _well("growth_rate_ratio", "Growth rate against the control wells: the GR value.")
DEAD_TIMEPOINTS = _well("dead_timepoints", "Time points in a row with a dead share above the limit.")
FLUORESCENCE_AREA = _well("fluorescence_area_ratio", "Share of the field that glows in a channel.", "channel")
FLUORESCENCE_INTENSITY = _well(
    "fluorescence_intensity", "Glow above background, grey levels a pixel of the field.", "channel"
)

ARM_SHARE = _arm("arm_share", "Share of an arm's cells in one state.", "state", "estimate")
ARM_WELLS = _arm("arm_wells", "Wells of an arm.")
ARM_LIVE_INDEX = _arm("arm_live_index_ratio", "Live index of an arm.")
ARM_RESPONSE = _arm("arm_response_ratio", "Response of an arm.")
ARM_ONSETS = _arm("arm_onset_wells", "Wells of an arm whose response has set in.")

STATE_INFO = _plate("state_info", "The group of each state.", "state", "group")
CORRECTION_INFO = _plate("correction_info", "Whether shares are corrected for the index's confusion.", "status")
CORRELATION = _plate("interval_correlation_ratio", "Intra-class correlation that the intervals use.", "basis")
DOSE = _plate("dose_half_maximal", "Dose of half the effect, in the unit of its label.", "compound", "unit", "measure")
GR_MAX = _plate("gr_max_ratio", "GR value at the highest doses.", "compound")
EVENT = _plate("event_timestamp_seconds", "The newest event of a kind.", "kind")

WITH_INTERVAL = (STATE_SHARE, LIVE_INDEX, RESPONSE, GROWTH_RATE, ARM_SHARE, ARM_LIVE_INDEX, ARM_RESPONSE, DOSE, GR_MAX)
"""Those that have a `_low` and a `_high` beside them."""

FAMILIES: tuple[Family, ...] = tuple(
    each
    for family in (
        *(CELLS, STATE_SHARE, ACQUIRED, FIELDS_MISSING, FIELDS_EXCLUDED, UNKNOWN_RATIO, FOCUS_RATIO, DEBRIS_RATIO),
        *(CERTAINTY_RATIO, NOVEL_RATIO, AGREEMENT_RATIO, WELL_INFO, TREATED, LIVE_INDEX, RESPONSE, ONSET, PAUSED),
        *(
            GROWTH_RATE,
            DEAD_TIMEPOINTS,
            FLUORESCENCE_AREA,
            FLUORESCENCE_INTENSITY,
            ARM_SHARE,
            ARM_WELLS,
            ARM_LIVE_INDEX,
            ARM_RESPONSE,
            ARM_ONSETS,
        ),
        *(STATE_INFO, CORRECTION_INFO, CORRELATION, DOSE, GR_MAX, EVENT),
    )
    for each in ((family, family.low, family.high) if family in WITH_INTERVAL else (family,))
)
"""All of them, in the order in which a scrape shows them."""
