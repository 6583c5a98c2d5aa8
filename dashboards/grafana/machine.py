"""The rows of *Microscope* below the frames: the watched folder, the machine, the disk. Pure."""

from __future__ import annotations

from dashboards.grafana.charts import curves, figure
from dashboards.grafana.parts import GREEN, LIMIT, RED, Query, Row, Steps
from dashboards.grafana.queries import DAEMON, SOURCE, increase, select, threshold

NONE_WANTED = Steps((GREEN, RED), (1,))
HOURLY = "1h"
"""Frames come every few minutes or hours: counters and histograms are read over an hour or more."""
_REFUSED = 'outcome=~"quarantined|stalled"'


def rows() -> list[Row]:
    """From the folder to the disk."""
    return [_folder(), _machine(), _disk()]


def _folder() -> Row:
    return Row(
        "Folder",
        [
            curves(
                "Backlog",
                "Complete frames that are not committed: they grow where the machine is too slow.",
                [
                    Query(f"sum by (source) ({select('backlog_frames', SOURCE)})", "{{source}}"),
                    Query(threshold("backlog_frames"), LIMIT),
                ],
                unit="short",
                size=(8, 8),
                span=(0, None),
            ),
            curves(
                "Waiting files",
                "Files seen that belong to no complete frame yet.",
                [Query(f"sum by (source) ({select('waiting_files', SOURCE)})", "{{source}}")],
                unit="short",
                size=(8, 8),
                span=(0, None),
            ),
            curves(
                "Scan of the folder",
                "How long the last look took. Above 30 s a share is slow, or the folder too full.",
                [Query(f"max by (source) ({select('scan_duration_seconds', SOURCE)})", "{{source}}")],
                unit="s",
                size=(8, 8),
                span=(0, None),
            ),
            figure(
                "Refused files",
                "Quarantined or stalled within the time shown; `cellvigil quarantine` lists files and reasons.",
                Query(
                    increase("frames_total", "$__range", SOURCE, _REFUSED, by="source, outcome"),
                    "{{source}} {{outcome}}",
                ),
                steps=NONE_WANTED,
                size=(8, 8),
                decimals=0,
            ),
            curves(
                "Folder in sight",
                "0: away, or a look at it hangs.",
                [Query(f"min by (source) ({select('source_up', SOURCE)})", "{{source}}")],
                unit="short",
                span=(0, 1),
                size=(8, 8),
            ),
            curves(
                "Plate map and events",
                "1: the source's plate.csv and events.csv can be used as they are; 0: the log says what is wrong, and "
                "what was read before stands. Empty: none is configured.",
                [
                    Query(f"min by (source) ({select('plate_map_up', SOURCE)})", "plate map {{source}}"),
                    Query(f"min by (source) ({select('events_up', SOURCE)})", "events {{source}}"),
                ],
                unit="short",
                span=(0, 1),
                size=(8, 8),
            ),
        ],
    )


def _machine() -> Row:
    beat = f"time() - max by (instance) ({select('heartbeat_timestamp_seconds', DAEMON)})"
    tally = f"time() - max by (instance) ({select('tally_timestamp_seconds', DAEMON)})"
    faults = increase("device_faults_total", "$__interval", DAEMON, by="encoder, action")
    return Row(
        "Machine",
        [
            curves(
                "Heartbeat",
                "Since a token last came through every queue: all stages work.",
                [Query(beat, "{{instance}}"), Query(threshold("heartbeat_s"), LIMIT)],
                unit="s",
                size=(8, 8),
                span=(0, None),
            ),
            curves(
                "Counting",
                "Since counts and response were last worked out, and how long that took.",
                [
                    Query(tally, "age {{instance}}"),
                    Query(f"max by (instance) ({select('tally_duration_seconds', DAEMON)})", "took {{instance}}"),
                ],
                unit="s",
                size=(8, 8),
                span=(0, None),
            ),
            curves(
                "Faults of the device",
                "Failed runs of an encoder, an hour or more a bar: halved (the batch), rebuilt (the "
                "session), degraded (to the CPU).",
                [Query(faults, "{{encoder}} {{action}}", step=HOURLY)],
                unit="short",
                bars=True,
                size=(8, 8),
            ),
            figure(
                "On the CPU instead",
                "1: an encoder fell back after its device failed; until a restart.",
                Query(f"max({select('device_degraded', DAEMON)})"),
                steps=NONE_WANTED,
            ),
            figure(
                "Figures",
                "1: counts and response of all plates can be worked out. 0: the log says why not; the last good ones "
                "stand.",
                Query(f"min({select('tally_up', DAEMON)})"),
                steps=Steps((RED, GREEN), (1,)),
            ),
            figure(
                "Wells left out",
                "Wells beyond metrics.max_wells, which no panel shows.",
                Query(f"max({select('wells_left_out', DAEMON)})"),
                steps=NONE_WANTED,
            ),
            figure(
                "Version",
                "Of the daemon that runs.",
                Query(f"max by (version) ({select('build_info', DAEMON)})", "{{version}}"),
                names=True,
            ),
        ],
    )


def _disk() -> Row:
    dropped = increase("retention_dropped_units_total", "$__interval", DAEMON, by="tier, why")
    return Row(
        "Disk",
        [
            curves(
                "Store by tier",
                "Bytes of pixels, masks, embeddings, rows and journals.",
                [Query(f"sum by (kind) ({select('store_bytes', DAEMON)})", "{{kind}}")],
                unit="bytes",
                size=(8, 8),
                span=(0, None),
            ),
            curves(
                "Free",
                "On the store's disk.",
                [Query(f"min by (instance) ({select('store_free_bytes', DAEMON)})", "{{instance}}")],
                unit="bytes",
                size=(8, 8),
                span=(0, None),
            ),
            curves(
                "Hours until the floor",
                "Until the disk is down to its floor at the last day's rate. A year: longer, or nothing grows.",
                [
                    Query(
                        f"clamp_max(min by (instance) ({select('store_floor_seconds', DAEMON)}) / 3600, 8760)",
                        "{{instance}}",
                    ),
                    Query(threshold("floor_h"), LIMIT),
                ],
                unit="h",
                size=(8, 8),
                span=(0, None),
            ),
            figure(
                "Deletion announced",
                "How long a deletion has been announced; it comes after retention.warn_hours. Empty: none.",
                Query(f"time() - min by (why) ({select('retention_warned_timestamp_seconds', DAEMON)})", "{{why}}"),
                unit="s",
                size=(6, 5),
            ),
            figure(
                "Due for deletion",
                "Bytes to be deleted now or within retention.warn_hours.",
                Query(f"sum by (why) ({select('retention_due_bytes', DAEMON)})", "{{why}}"),
                unit="bytes",
                size=(6, 5),
            ),
            curves(
                "Deleted time points",
                "By tier and reason, an hour or more a bar. Empty: nothing was ever deleted.",
                [Query(dropped, "{{tier}}: {{why}}", step=HOURLY)],
                unit="short",
                bars=True,
                size=(8, 5),
            ),
            figure(
                "Retention failed",
                "Times that the disk refused, since the start.",
                Query(f"sum({select('retention_failures_total', DAEMON)})"),
                steps=NONE_WANTED,
                size=(4, 5),
            ),
        ],
    )
