"""The dashboard *Fleet*: one row a daemon, one row a plate, with the way to the other two. Pure."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as sdk

from dashboards.grafana.charts import curves, figure
from dashboards.grafana.layout import Mark, address, dashboard, datasource_variable, query_variable
from dashboards.grafana.parts import GREEN, LIMIT, ORANGE, RED, Query, Row, Steps
from dashboards.grafana.queries import DAEMON, select
from dashboards.grafana.tables import grid

_OURS = f'job=~"$job",{DAEMON}'
_FIRING = f'ALERTS{{alertstate="firing",{DAEMON}}}'
_ANY = Steps((GREEN, RED), (1,))


def made() -> sdk.Dashboard:
    """The dashboard."""
    return dashboard(
        "fleet",
        "Cellvigil: Fleet",
        "All daemons: who answers, who is late, what fires, which plates run.",
        rows=[_daemons(), _plates()],
        variables=[
            datasource_variable(),
            query_variable(
                "job",
                "Job",
                "label_values(cellvigil_build_info, job)",
                what="As Prometheus scrapes them.",
                multi=True,
                everything=False,
            ),
            query_variable(
                "instance",
                "Daemon",
                'label_values(up{job=~"$job"}, instance)',
                what="Which machines.",
                multi=True,
                everything=True,
            ),
        ],
        marks=[
            Mark("Daemon down", f"up{{{_OURS}}} == bool 0", RED, "{{instance}} is down", at_value=False, shown=False)
        ],
        since="now-24h",
        refresh="30s",
    )


def _daemons() -> Row:
    up = f"max by (instance) (up{{{_OURS}}})"
    late = f"time() - max by (instance) ({select('last_frame_timestamp_seconds', DAEMON)})"
    firing = f"count by (instance) ({_FIRING}) or on (instance) 0 * {up}"
    plates = f"count by (instance) (count by (instance, plate) ({select('well_acquired_timestamp_seconds', DAEMON)}))"
    open_it = {"link": ("Open this microscope", address("microscope", instance="${__value.raw}"))}
    return Row(
        "Daemons",
        [
            figure("Answer", "Daemons that answer.", Query(f"count({up} == 1) or vector(0)"), size=(4, 4)),
            figure(
                "Do not answer",
                "Daemons that Prometheus cannot reach.",
                Query(f"count({up} == 0) or vector(0)"),
                steps=_ANY,
                size=(4, 4),
            ),
            figure(
                "Alerts",
                "Alerts of all daemons that fire now.",
                Query(f"count({_FIRING}) or vector(0)"),
                steps=_ANY,
                size=(4, 4),
            ),
            grid(
                "Daemons",
                "One row a daemon; a click opens its microscope. Gaps: it does not answer, or has no such value yet.",
                [
                    Query(up, "Up"),
                    Query(late, "Last frame"),
                    Query(f"sum by (instance) ({select('backlog_frames', DAEMON)})", "Backlog"),
                    Query(firing, "Alerts"),
                    Query(plates, "Plates"),
                    Query(
                        f"clamp_max(min by (instance) ({select('store_floor_seconds', DAEMON)}) / 3600, 8760)",
                        "Disk lasts",
                    ),
                    Query(f"min by (instance) ({select('store_free_bytes', DAEMON)})", "Free"),
                    Query(f"time() - max by (instance) ({select('heartbeat_timestamp_seconds', DAEMON)})", "Heartbeat"),
                    Query(f"max by (instance, provider) ({select('device_info', DAEMON)})"),
                    Query(f"max by (instance, version) ({select('build_info', DAEMON)})"),
                ],
                labels={"instance": "Daemon", "provider": "Device", "version": "Version"},
                columns={
                    "Daemon": open_it,
                    "Up": {"steps": Steps((RED, GREEN), (1,))},
                    "Last frame": {"unit": "s", "decimals": 0},
                    "Alerts": {"steps": _ANY},
                    "Disk lasts": {"unit": "h", "decimals": 0, "steps": Steps((RED, ORANGE, GREEN), (12, 48))},
                    "Free": {"unit": "bytes", "decimals": 1},
                    "Heartbeat": {"unit": "s", "decimals": 0},
                },
                order=("Daemon", False),
                size=(24, 9),
            ),
        ],
    )


def _plates() -> Row:
    plate = "instance, plate"
    acquired = select("well_acquired_timestamp_seconds", DAEMON)
    dead = f"max by ({plate}) ({select('dead_timepoints', DAEMON)})"
    variables = {"instance": "${__data.fields.Daemon}", "plate": "${__value.raw}"}
    open_it = {"link": ("Open this experiment", address("experiment", **variables))}
    interval = select("expected_frame_interval_seconds", DAEMON)
    return Row(
        "Plates",
        [
            grid(
                "Plates",
                "One row a plate with a frame within metrics.keep_hours; a click opens its experiment.",
                [
                    Query(f"max by ({plate}) ({acquired}) * 1000", "Newest time point"),
                    Query(f"count by ({plate}) ({acquired})", "Wells"),
                    Query(f"count by ({plate}) ({select('response_onset_timestamp_seconds', DAEMON)})", "Onsets"),
                    Query(dead, "Dead for (time points)"),
                    Query(f"sum by ({plate}) ({select('response_paused', DAEMON)})", "Wells paused"),
                    Query(f"max by ({plate}) ({select('unknown_ratio', DAEMON)})", "Most unknown"),
                    Query(f'count by ({plate}) (ALERTS{{alertstate="firing",{DAEMON},plate!=""}})', "Alerts"),
                    Query(f"max by ({plate}, status) ({select('correction_info', DAEMON)})"),
                ],
                labels={"plate": "Plate", "instance": "Daemon", "status": "Correction"},
                columns={
                    "Plate": open_it,
                    "Newest time point": {"unit": "dateTimeFromNow"},
                    "Most unknown": {"unit": "percentunit", "decimals": 0},
                    "Onsets": {"steps": Steps((GREEN, ORANGE), (1,))},
                    "Alerts": {"steps": _ANY},
                },
                order=("Newest time point", True),
                size=(24, 9),
            ),
            curves(
                "Time since the last frame, in expected intervals",
                "1: the next frame is due; at the grey line the alert begins. Empty: sources[].interval_s is not set.",
                [
                    Query(
                        f"(time() - {select('last_frame_timestamp_seconds', DAEMON)}) / on (instance, job, source) "
                        f"{interval}",
                        "{{instance}} {{source}}",
                    ),
                    Query(f'max(cellvigil_alert_threshold{{{DAEMON},alert="stalled_intervals"}})', LIMIT),
                ],
                unit="short",
                size=(24, 8),
                span=(0, None),
            ),
        ],
    )
