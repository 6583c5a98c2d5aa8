"""The alerts about the service and what it stands on: microscope, folder, disk, device. Pure.

Frames come minutes to hours apart, so nothing here asks for a `rate()`: what counts is the time since the last frame
against the expected interval.
"""

from __future__ import annotations

from dashboards.alerts import Alert, Group, above, asked, limit

_HERE = "on {{ $labels.instance }}"
_KEEP = "<5m>"

_DAEMON = (
    Alert(
        "CellvigilDown",
        "critical",
        'up{job="cellvigil"} == 0',
        summary="Cellvigil on {{ $labels.instance }} does not answer",
        description="Prometheus has had no answer from {{ $labels.instance }} for <2m> or longer: nothing is counted, "
        "and no other alert of this machine can fire.",
        wait="<2m>",
    ),
    Alert(
        "CellvigilAbsent",
        "critical",
        'absent(up{job="cellvigil"})',
        summary="Prometheus watches no Cellvigil at all",
        description="No target of the job cellvigil: the scrape configuration or the service discovery is broken.",
        wait="<5m>",
    ),
    Alert(
        "CellvigilUnsteady",
        "warning",
        'changes(up{job="cellvigil"}[<30m>]) >= 6',
        summary="Cellvigil on {{ $labels.instance }} comes and goes",
        description='It began or ceased to answer {{ $value | printf "%.0f" }} times within <30m>.',
    ),
    Alert(
        "CellvigilHeartbeatOld",
        "critical",
        f"""
(time() - cellvigil_heartbeat_timestamp_seconds)
{above("heartbeat_s")}""",
        summary="Cellvigil on {{ $labels.instance }} answers, but works no more",
        description="Nothing has come through all stages for {{ $value | humanizeDuration }} (limit "
        + limit("heartbeat_s", "value | humanizeDuration")
        + ").",
        wait="<1m>",
    ),
    Alert(
        "CellvigilTallyOld",
        "warning",
        f"""
(time() - cellvigil_tally_timestamp_seconds)
{above("heartbeat_s")}""",
        summary="Cellvigil on {{ $labels.instance }} shows old counts",
        description="Counts and response were last worked out {{ $value | humanizeDuration }} ago (limit "
        + limit("heartbeat_s", "value | humanizeDuration")
        + ").",
        wait="<5m>",
    ),
    Alert(
        "CellvigilTallyFailing",
        "warning",
        "cellvigil_tally_up == 0",
        summary="Cellvigil on {{ $labels.instance }} cannot make a plate's figures",
        description="The last good ones stand, and alerts see those only; the log names the plate.",
        wait="<5m>",
    ),
    Alert(
        "CellvigilWellsLeftOut",
        "warning",
        "cellvigil_wells_left_out > 0",
        summary="Cellvigil on {{ $labels.instance }} leaves wells out",
        description="{{ $value }} wells are beyond metrics.max_wells: they are in the store, but no alert sees them.",
        wait="<5m>",
        keep=_KEEP,
    ),
)

_MICROSCOPE = (
    Alert(
        "CellvigilFramesStalled",
        "critical",
        """
(time() - cellvigil_last_frame_timestamp_seconds)
and on (instance, job, source) cellvigil_expected_frame_interval_seconds
and on (instance, job, source) (source:cellvigil_late:seconds > 0 < <1d:s>)
unless on (instance, job, source) source:cellvigil_out:plates""",
        summary=f"No frames from {{{{ $labels.source }}}} {_HERE}",
        description="The last frame was committed {{ $value | humanizeDuration }} ago; one is expected every "
        + asked("cellvigil_expected_frame_interval_seconds{@source}", "value | humanizeDuration")
        + ". This ends by itself after <1d>.",
        wait="<1m>",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilSourceAway",
        "critical",
        "cellvigil_source_up == 0",
        summary=f"The folder of {{{{ $labels.source }}}} is away {_HERE}",
        description="It cannot be listed, is empty all at once, or hangs. Frames wait at the microscope.",
        wait="<5m>",
    ),
    Alert(
        "CellvigilPlateMapWrong",
        "warning",
        "cellvigil_plate_map_up == 0",
        summary=f"The plate map of {{{{ $labels.source }}}} cannot be used {_HERE}",
        description="What was read before stands. `cellvigil check` names every wrong cell of the sheet.",
        wait="<5m>",
    ),
    Alert(
        "CellvigilEventsWrong",
        "warning",
        "cellvigil_events_up == 0",
        summary=f"The events of {{{{ $labels.source }}}} cannot be used {_HERE}",
        description="What was read before stands. `cellvigil check` names every wrong cell of the sheet.",
        wait="<5m>",
    ),
    Alert(
        "CellvigilAlignmentFailed",
        "warning",
        'cellvigil_alignment_info{status="failed"} == 1',
        summary=f"The index of {{{{ $labels.source }}}} could not be aligned {_HERE}",
        description="Its cells are called unaligned. The log, and `cellvigil align`, say why the fit failed.",
        wait="<5m>",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilAlignmentDrift",
        "warning",
        """
cellvigil_alignment_drift_ratio
> on (instance, job, source) cellvigil_alignment_drift_limit_ratio""",
        summary=f"Control wells of {{{{ $labels.source }}}} have drifted from the alignment {_HERE}",
        description='They are {{ $value | printf "%.1f" }} times as far from where they were at the fit (limit '
        + asked("cellvigil_alignment_drift_limit_ratio{@source}", "value")
        + "). A refit is asked for; it is never made by itself.",
        wait="<30m>",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilScanSlow",
        "warning",
        "cellvigil_scan_duration_seconds > 30",
        summary=f"Looking at the folder of {{{{ $labels.source }}}} is slow {_HERE}",
        description="The last look took {{ $value | humanizeDuration }}: new frames are seen late.",
        wait="<15m>",
    ),
    Alert(
        "CellvigilBacklogGrowing",
        "warning",
        f"""
(
  min_over_time(cellvigil_backlog_frames[<30m>])
  >= min_over_time(cellvigil_backlog_frames[<30m>] offset <30m>)
)
{above("backlog_frames")}""",
        summary=f"The backlog of {{{{ $labels.source }}}} grows {_HERE}",
        description='Never less than {{ $value | printf "%.0f" }} complete frames waited within <30m> (limit '
        + limit("backlog_frames", "value")
        + "), and it does not shrink.",
    ),
    Alert(
        "CellvigilQuarantine",
        "warning",
        'increase(cellvigil_frames_total{outcome="quarantined"}[<1h>]) > 0',
        summary=f"Files of {{{{ $labels.source }}}} were refused {_HERE}",
        description='About {{ $value | printf "%.0f" }} within <1h>; `cellvigil quarantine list` names them.',
    ),
    Alert(
        "CellvigilFramesIncomplete",
        "warning",
        'increase(cellvigil_frames_total{outcome="stalled"}[<1h>]) > 0',
        summary=f"Frames of {{{{ $labels.source }}}} lack a channel {_HERE}",
        description='About {{ $value | printf "%.0f" }} within <1h> waited in vain for the channel to segment.',
    ),
    Alert(
        "CellvigilFramesExcluded",
        "warning",
        """
sum by (instance, job, source) (increase(cellvigil_frames_total{outcome="excluded"}[<6h>]))
/
(sum by (instance, job, source) (increase(cellvigil_frames_total{outcome=~"counted|excluded"}[<6h>])) >= 10)
> 0.2""",
        summary=f"Many frames of {{{{ $labels.source }}}} are left out of the counts {_HERE}",
        description="{{ $value | humanizePercentage }} within <6h> were blurred, dark, saturated or too crowded.",
    ),
)

_DISK = (
    Alert(
        "CellvigilStoreFull",
        "critical",
        "cellvigil_paused == 1",
        summary=f"Nothing is written {_HERE}: {{{{ $labels.reason }}}}",
        description="Writing waits for room on the store's disk; frames wait at the microscope.",
        wait="<5m>",
    ),
    Alert(
        "CellvigilStoreFilling",
        "warning",
        f"""
cellvigil_store_floor_seconds / 3600
{above("floor_h", "<")}""",
        summary=f"The store's disk fills up {_HERE}",
        description='At the last day\'s rate it is down to its floor in {{ $value | printf "%.0f" }} h (limit '
        + limit("floor_h", "value")
        + " h).",
        wait="<15m>",
    ),
    Alert(
        "CellvigilRetentionAnnounced",
        "info",
        "cellvigil_retention_warned_timestamp_seconds",
        summary=f"Something of the store will be deleted {_HERE}",
        description="Announced at {{ $value | humanizeTimestamp }} because of the limit on {{ $labels.why }}"
        + asked("cellvigil_retention_due_bytes{@why}", "value | humanize1024", before="; ", after="B")
        + ".",
        keep=_KEEP,
    ),
    Alert(
        "CellvigilRetentionFailing",
        "warning",
        "increase(cellvigil_retention_failures_total[<1h>]) > 3",
        summary=f"Retention fails {_HERE}",
        description='About {{ $value | printf "%.0f" }} times within <1h> it was put off by an error of the disk.',
    ),
)

_DEVICE = (
    Alert(
        "CellvigilGpuMissing",
        "warning",
        """
max by (instance, job) (
  cellvigil_device_degraded == 1
  or
  (
    cellvigil_device_info{provider="cpu"} == 1
    and on (instance, job) last_over_time(cellvigil_device_info{provider!="cpu"}[<7d>])
  )
)""",
        summary=f"The encoders run on the CPU {_HERE}, and did run on a GPU",
        description="Counts go on, more slowly; watch the backlog.",
        wait="<1m>",
    ),
    Alert(
        "CellvigilDeviceFaults",
        "warning",
        'increase(cellvigil_device_faults_total{action="rebuilt"}[<1h>]) > 0',
        summary=f"The device of the encoder {{{{ $labels.encoder }}}} has failed {_HERE}",
        description='Its session was opened anew about {{ $value | printf "%.0f" }} times within <1h>.',
    ),
)

GROUPS = (Group("cellvigil-machine", "machine", "<30s>", (*_DAEMON, *_MICROSCOPE, *_DISK, *_DEVICE)),)
