"""The dashboard *Microscope*: one machine and its sources. Do frames come, in time, sharp, and is there room? Pure."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard as sdk

from dashboards.grafana import machine
from dashboards.grafana.charts import curves, figure
from dashboards.grafana.layout import Mark, dashboard, datasource_variable, query_variable
from dashboards.grafana.machine import HOURLY, NONE_WANTED
from dashboards.grafana.parts import BLUE, GREEN, GREY, LIMIT, ORANGE, RED, SKY, Query, Row, Steps, fixed, override
from dashboards.grafana.queries import DAEMON, SOURCE, increase, quantile, select, threshold

_OUTCOMES = {
    "counted": GREEN,
    "excluded": ORANGE,
    "revised": BLUE,
    "attached": SKY,
    "quarantined": RED,
    "stalled": GREY,
}
_UP = Steps((RED, GREEN), (1,))


def made() -> sdk.Dashboard:
    """The dashboard."""
    daemons = "label_values(cellvigil_build_info, instance)"
    sources = 'label_values(cellvigil_backlog_frames{instance=~"$instance"}, source)'
    return dashboard(
        "microscope",
        "Cellvigil: Microscope",
        "One machine and the folders it watches: whether frames come, how fast they are counted, how long the disk "
        "lasts.",
        rows=[_now(), _frames(), _speed(), *machine.rows()],
        variables=[
            datasource_variable(),
            query_variable("instance", "Daemon", daemons, what="Which machine.", everything=True),
            query_variable("source", "Source", sources, what="Which watched folder.", multi=True, everything=True),
        ],
        marks=[
            Mark("Restarts", f"max by (instance) ({_start()}) * 1000", GREY, "Restart", "{{instance}}"),
            Mark(
                "Alerts",
                f'ALERTS{{alertstate="firing",{DAEMON},plate=""}}',
                ORANGE,
                "{{alertname}}",
                "{{source}} {{instance}}",
                at_value=False,
                shown=False,
            ),
        ],
        since="now-24h",
        refresh="30s",
    )


def _now() -> Row:
    late = f"time() - max by (instance, source) ({_last()})"
    return Row(
        "Now",
        [
            figure(
                "Answers",
                "1: the daemon's door opens. Empty: Prometheus does not know it.",
                Query(
                    f"min(up{{{DAEMON}}} and on (instance, job) count by (instance, job) "
                    f"(last_over_time({select('build_info', DAEMON)}[$__range])))"
                ),
                steps=_UP,
                size=(3, 4),
            ),
            figure(
                "Folder in sight now",
                "0: the source's folder is away, or a look at it hangs.",
                Query(f"min by (source) ({select('source_up', SOURCE)})", "{{source}}"),
                steps=_UP,
                size=(4, 4),
            ),
            figure(
                "Last frame",
                "Since the last frame was committed. Empty: none yet.",
                Query(late, "{{source}}"),
                unit="s",
                size=(4, 4),
            ),
            figure(
                "Backlog now",
                "Frames that are complete but not committed.",
                Query(f"sum by (source) ({select('backlog_frames', SOURCE)})", "{{source}}"),
                size=(4, 4),
            ),
            figure(
                "Writing waits",
                "1: no room on the store's disk. Writing goes on by itself when there is.",
                Query(f"max({select('paused', DAEMON)}) or vector(0)"),
                steps=NONE_WANTED,
                size=(3, 4),
            ),
            figure(
                "Runs on",
                "The provider of the encoders. Orange below: it fell back to the CPU.",
                Query(f"max by (provider) ({select('device_info', DAEMON)})", "{{provider}}"),
                names=True,
                size=(6, 4),
            ),
        ],
    )


def _frames() -> Row:
    outcome = increase("frames_total", "$__interval", SOURCE, by="outcome")
    total = f"sum by (source, outcome) ({select('frames_total', SOURCE)})"
    interval = f"max by (instance, source) ({select('expected_frame_interval_seconds', SOURCE)})"
    limit = f"{interval} * on () group_left () {threshold('stalled_intervals')}"
    return Row(
        "Frames",
        [
            curves(
                "Frames by outcome",
                "How many frames met which end, an hour or more a bar: counted; excluded (blurred, dark, crowded: in "
                "the "
                "store, not in the counts); revised; attached (a late channel); quarantined and stalled (refused).",
                [Query(outcome, "{{outcome}}", step=HOURLY)],
                unit="short",
                bars=True,
                size=(16, 9),
                overrides=[override("byName", name, color=fixed(colour)) for name, colour in _OUTCOMES.items()],
            ),
            figure(
                "Since the start",
                "Frames by outcome since the daemon started.",
                Query(f"sort_desc({total})", "{{source}} {{outcome}}"),
                size=(8, 9),
            ),
            curves(
                "Time since the last frame",
                "Solid: since the last commit. Grey: the expected interval (sources[].interval_s) times "
                "alerts.stalled_intervals. No grey line: interval_s is not set.",
                [
                    Query(f"time() - max by (instance, source) ({_last()})", "{{source}}"),
                    Query(limit, "{{source}} " + LIMIT),
                ],
                unit="s",
                span=(0, None),
            ),
            curves(
                "Expected interval",
                "What sources[].interval_s says. Empty: it is not set, and nothing can be called late.",
                [Query(interval, "{{source}}")],
                unit="s",
                span=(0, None),
            ),
        ],
    )


def _speed() -> Row:
    seconds, count = ("stage_duration_seconds_sum", "stage_duration_seconds_count")
    mean = f"{increase(seconds, HOURLY, DAEMON, by='stage')} / {increase(count, HOURLY, DAEMON, by='stage')}"
    quantiles = (0.5, 0.95, 0.99)
    return Row(
        "Speed",
        [
            curves(
                "Delay of frames",
                "Commit minus first sight, over an hour: how old a count is when it appears. Empty: no "
                "frame "
                "in that time.",
                _quantiles("frame_delay_seconds", quantiles),
                unit="s",
                span=(0, None),
                dots=True,
            ),
            figure(
                "95 % are in after",
                "The delay that 95 % of the frames shown kept to; buckets are coarse. Empty: no frame.",
                Query(quantile(0.95, "frame_delay_seconds", "$__range", DAEMON)),
                unit="s",
                size=(4, 8),
            ),
            curves(
                "Time in each stage",
                "Mean seconds that a frame spends in each stage, over an hour.",
                [Query(mean, "{{stage}}")],
                unit="s",
                size=(8, 8),
                span=(0, None),
                dots=True,
            ),
            curves(
                "Certainty of calls",
                "Quantiles of the calibrated probability of all calls in an hour: a fall means cells that the index "
                "does not know, or a changed microscope. Empty: the index is not calibrated.",
                _quantiles("call_probability", (0.1, 0.5)),
                span=(0, 1),
                dots=True,
            ),
            curves(
                "Focus",
                "Median sharpness over the wells against their plate's first frames, and the worst tenth.",
                [
                    Query(f"quantile({q}, {select('focus_ratio', DAEMON)})", name)
                    for q, name in ((0.5, "median"), (0.1, "worst tenth"))
                ]
                + [Query(threshold("focus"), LIMIT)],
                span=(0, None),
            ),
        ],
    )


def _last() -> str:
    return select("last_frame_timestamp_seconds", SOURCE)


def _start() -> str:
    """When the daemon made its metrics: at its start."""
    return select("frame_delay_seconds_created", DAEMON)


def _quantiles(metric: str, quantiles: Sequence[float]) -> list[Query]:
    return [Query(quantile(q, metric, HOURLY, DAEMON), f"{q:.0%}") for q in quantiles]
