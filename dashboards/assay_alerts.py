"""The alerts about the cells: one series a plate or well, each held against its own daemon's limits. Pure.

They speak of plates that are running (`assay_records`), so a finished assay falls silent by itself. An onset is told
whatever the plate does now.
"""

from __future__ import annotations

from dashboards.alerts import Alert, Group, above, asked, limit
from dashboards.assay_records import RECORDS, WELL

_RUNNING = "and on (instance, job, plate) plate:cellvigil_running:timestamp_seconds"
_AT = "{{ $labels.plate }}, well {{ $labels.well }}"
_ARM = asked('cellvigil_well_info{arm!="",@well}', 'label "arm"', before=" (", after=")")
_KEEP = "<15m>"


_RESPONSE = (
    Alert(
        "CellvigilResponseOnset",
        "info",
        f"""
cellvigil_response_onset_timestamp_seconds
and {WELL} (time() - well:cellvigil_response_onset:first_seen_timestamp_seconds < <12h:s>)""",
        summary=f"{_AT}{_ARM}: the response has set in",
        description="Onset at {{ $value | humanizeTimestamp }}"
        + asked(
            "cellvigil_response_onset_timestamp_seconds{@well}"
            " - on (instance, job, plate, well) cellvigil_treated_timestamp_seconds{@well}",
            "value | humanizeDuration",
            before=", ",
            after=" after treatment",
        )
        + asked("cellvigil_response_ratio{@well}", "value | humanizePercentage", before="; response now ")
        + asked("cellvigil_response_ratio_low{@well}", "value | humanizePercentage", before=" (")
        + asked("cellvigil_response_ratio_high{@well}", "value | humanizePercentage", before=" to ", after=")")
        + ".",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilNoResponse",
        "warning",
        f"""
(
  cellvigil_well_acquired_timestamp_seconds
  - {WELL} cellvigil_treated_timestamp_seconds
) / 3600
{above("no_response_h", ">=")}
and {WELL} cellvigil_well_info{{role="treated"}}
unless {WELL} cellvigil_response_onset_timestamp_seconds
{_RUNNING}""",
        summary=f"{_AT}{_ARM}: no response yet",
        description='Treated {{ $value | printf "%.1f" }} h ago (by the images\' times), and no onset; expected within '
        + limit("no_response_h", "value")
        + " h"
        + asked("cellvigil_response_ratio{@well}", "value | humanizePercentage", before="; response now ")
        + ".",
        wait="<5m>",
        keep=_KEEP,
    ),
)

_DEATH = (
    Alert(
        "CellvigilDeadShareHigh",
        "warning",
        f"""
cellvigil_dead_timepoints
{above("dead_timepoints", ">=")}
{_RUNNING}""",
        summary=f"{_AT}{_ARM}: many dead cells",
        description='{{ $value | printf "%.0f" }} time points in a row with more than '
        + limit("dead_share")
        + " dead cells"
        + asked("well:cellvigil_dead:share{@well}", "value | humanizePercentage", before="; now ")
        + ".",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilControlWellsDying",
        "critical",
        f"""
plate:cellvigil_control_dying_or_dead:median
{above("control_death")}
{_RUNNING}""",
        summary="{{ $labels.plate }}: the control wells are dying",
        description="In half of the control wells more than {{ $value | humanizePercentage }} are dying or dead (limit "
        + limit("control_death")
        + "). The worst:{{ range printf `topk(3, well:cellvigil_dying_or_dead:share{instance=%q,plate=%q} "
        f'and {WELL} cellvigil_well_info{{role="control"}})` $labels.instance $labels.plate '
        '| query | sortByLabel "well" }} {{ .Labels.well }} ({{ .Value | humanizePercentage }}){{ end }}.',
        wait="<5m>",
        keep=_KEEP,
    ),
)

_DOUBT = (
    Alert(
        "CellvigilUnknownHigh",
        "warning",
        f"""
cellvigil_unknown_ratio
{above("unknown")}
{_RUNNING}""",
        summary=f"{_AT}: many unknown cells",
        description="{{ $value | humanizePercentage }} of the cells look like none of the index's classes (limit "
        + limit("unknown")
        + ").",
        wait="<15m>",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilCertaintyLow",
        "warning",
        f"""
cellvigil_certainty_ratio
{above("certainty", "<")}
{_RUNNING}""",
        summary=f"{_AT}: the calls are uncertain",
        description="A call is right with a probability of {{ $value | humanizePercentage }} on average (limit "
        + limit("certainty")
        + ").",
        wait="<15m>",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilDrift",
        "warning",
        f"""
plate:cellvigil_control_novel:median
{above("novel")}
{_RUNNING}""",
        summary="{{ $labels.plate }}: the control wells look less and less like the reference cells",
        description="Half of the control wells have more than {{ $value | humanizePercentage }} cells with a novelty "
        "p-value of at most 0.1 (10% are expected; limit " + limit("novel") + ").",
        wait="<15m>",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilCorrectionDoubtful",
        "warning",
        f"""
cellvigil_correction_info{{status=~"residual|shifted"}} == 1
{_RUNNING}""",
        summary="{{ $labels.plate }}: the corrected shares are in doubt",
        description="The shares of the called states fit no mixture of the index's classes "
        "(status: {{ $labels.status }}). The plain shares stand.",
        wait="<15m>",
        keep=_KEEP,
    ),
)

_FOCUS = (
    Alert(
        "CellvigilFocusLost",
        "warning",
        f"""
cellvigil_focus_ratio
{above("focus", "<")}
{_RUNNING}""",
        summary=f"{_AT}: out of focus",
        description="Sharpness {{ $value | humanizePercentage }} of what it was in the plate's first frames (limit "
        + limit("focus")
        + ").",
        wait="<15m>",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilPlateOutOfFocus",
        "critical",
        f"""
plate:cellvigil_focus:median
{above("focus", "<")}
{_RUNNING}""",
        summary="{{ $labels.plate }}: half of the wells are out of focus",
        description="The wells' median sharpness is {{ $value | humanizePercentage }} of what it was in the plate's "
        "first frames (limit " + limit("focus") + "): the autofocus has probably failed.",
        wait="<15m>",
        keep=_KEEP,
    ),
)

# One group: what is recorded stands before the alerts that use it.
GROUPS = (Group("cellvigil-assay", "assay", "<1m>", (*RECORDS, *_RESPONSE, *_DEATH, *_DOUBT, *_FOCUS)),)
