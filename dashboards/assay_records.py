"""The series that the alerts about the cells compare: which plates are running, shares by group, onsets and their news.

Pure. A plate runs while it has a frame among its source's last day (by the microscope's own clock, which may be wrong
as long as it goes evenly), and the source has not been still for a day beyond its time.
"""

from __future__ import annotations

from dashboards.alerts import Record

WELL = "on (instance, job, plate, well)"
SOURCE = "on (instance, job, source)"


def _share(groups: str) -> str:
    """Share of a well's cells in these groups; an index swap may leave a state in two of them, hence `max`."""
    return f"""
sum by (instance, job, plate, well) (
  cellvigil_state_share{{estimate="plain"}}
  * on (instance, job, plate, state) group_left ()
  max by (instance, job, plate, state) (cellvigil_state_info{{group=~"{groups}"}})
)"""


def _median_of_controls(series: str) -> str:
    return f"""
quantile by (instance, job, plate) (
  0.5, {series} and {WELL} cellvigil_well_info{{role="control"}}
)"""


RECORDS = (
    # Seconds that a source is late: beyond what it may take, or (without `interval_s`) since its last frame.
    Record(
        "source:cellvigil_late:seconds",
        f"""
(
  (time() - cellvigil_last_frame_timestamp_seconds)
  - {SOURCE}
  (
    cellvigil_expected_frame_interval_seconds
    * on (instance, job) group_left () cellvigil_alert_threshold{{alert="stalled_intervals"}}
  )
)
or {SOURCE}
((time() - cellvigil_last_frame_timestamp_seconds) unless {SOURCE} cellvigil_expected_frame_interval_seconds)""",
    ),
    Record(
        "plate:cellvigil_acquired:timestamp_seconds",
        """
max by (instance, job, plate, source) (
  label_replace(cellvigil_well_acquired_timestamp_seconds, "source", "$1", "plate", "([^/]+)/.*")
)""",
    ),
    # 86400: a day by the microscope's clock.
    Record(
        "plate:cellvigil_running:timestamp_seconds",
        f"""
plate:cellvigil_acquired:timestamp_seconds
  > {SOURCE} group_left ()
(max by (instance, job, source) (plate:cellvigil_acquired:timestamp_seconds) - 86400)
and {SOURCE} (source:cellvigil_late:seconds < <1d:s>)""",
    ),
    Record(
        "plate:cellvigil_out:timestamp_seconds",
        """
max by (instance, job, plate) (
  cellvigil_event_timestamp_seconds{kind="plate_out"}
    > ignoring (kind) cellvigil_event_timestamp_seconds{kind="plate_in"}
  or
  (
    cellvigil_event_timestamp_seconds{kind="plate_out"}
      unless ignoring (kind) cellvigil_event_timestamp_seconds{kind="plate_in"}
  )
)""",
    ),
    # Sources whose running plates are all out.
    Record(
        "source:cellvigil_out:plates",
        """
count by (instance, job, source) (plate:cellvigil_running:timestamp_seconds)
unless
count by (instance, job, source) (
  plate:cellvigil_running:timestamp_seconds
  unless on (instance, job, plate) plate:cellvigil_out:timestamp_seconds
)""",
    ),
    Record("well:cellvigil_dead:share", _share("dead")),
    Record("well:cellvigil_dying_or_dead:share", _share("dying|dead")),
    Record("plate:cellvigil_control_dying_or_dead:median", _median_of_controls("well:cellvigil_dying_or_dead:share")),
    Record("plate:cellvigil_control_novel:median", _median_of_controls("cellvigil_novel_ratio")),
    Record("plate:cellvigil_focus:median", "quantile by (instance, job, plate) (0.5, cellvigil_focus_ratio)"),
    # When Prometheus first saw a well's onset. Kept over three days of absence: a restart, also a long one, is no news.
    Record(
        "well:cellvigil_response_onset:first_seen_timestamp_seconds",
        f"""
(
  last_over_time(well:cellvigil_response_onset:first_seen_timestamp_seconds[<3d>])
  and {WELL} cellvigil_response_onset_timestamp_seconds
)
or {WELL}
(0 * cellvigil_response_onset_timestamp_seconds + time())""",
    ),
)
