"""The rows of *Experiment* that say how far its figures can be trusted, and the dead stain where there is one. Pure."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as sdk

from dashboards.grafana.charts import curves, figure
from dashboards.grafana.parts import GREEN, LIMIT, ORANGE, Query, Row, Steps
from dashboards.grafana.queries import PLATE, WELLS, held, info, of_groups, of_wells, on_plate, select, threshold
from dashboards.grafana.tables import grid, plate_map

_NAME = "{{well}} {{arm}}"
_CONTROL = 'role="control"'


def row() -> Row:
    """Certainty, unknown and novel cells, focus, debris."""
    controls = f"{of_groups('dying|dead')} and on (well) {info(_CONTROL)}"
    basis = select("interval_correlation_ratio", PLATE)
    return Row(
        "Can it be trusted?",
        [
            _newest(),
            curves(
                "Control wells dying",
                "Median share of dying and dead cells over the control wells, as called: high where the plate kills, "
                "and not the drug. The grey line: where the alert begins (alerts.control_death). Empty: no controls.",
                [
                    Query(f"quantile(0.5, {controls})", "controls"),
                    Query(threshold("control_death"), LIMIT),
                ],
                span=(0, 1),
            ),
            _limited(
                "Certainty by well",
                "Mean calibrated probability of the calls. Empty: the index is not calibrated, "
                "or k or threshold are overridden.",
                "certainty_ratio",
                "certainty",
            ),
            _limited(
                "Unknown cells by well", "Share of cells called unknown. Empty: no cells.", "unknown_ratio", "unknown"
            ),
            _limited(
                "Novel cells by well",
                "Share of cells whose novelty p-value is at most 0.1: 0.1 is expected where "
                "the index knows such cells. Empty: the index has no reference for it.",
                "novel_ratio",
                "novel",
            ),
            _limited(
                "Focus by well",
                "Sharpness against the plate's first frames: 1 = as then. Empty: nothing there to focus on.",
                "focus_ratio",
                "focus",
            ),
            curves(
                "Debris by well",
                "Share of the counted cells that are artefacts; above response.max_debris the well's "
                "response waits. Empty: no cells.",
                [Query(of_wells("debris_ratio"), _NAME)],
                span=(0, 1),
            ),
            plate_map(
                "Focus",
                "Sharpness against the plate's first frames, where the wells lie: a yellow corner is a "
                "tilted plate. Empty: nothing there to focus on.",
                on_plate(held("focus_ratio", by="well")),
                low_is_news=True,
            ),
            figure(
                "Correlation within wells",
                "The intra-class correlation that widens the intervals, and what it is "
                "from: fields or wells of the controls, or the default where there are too few. Empty: no interval.",
                Query(f"max by (basis) ({basis})", "{{basis}}"),
                size=(12, 4),
                decimals=3,
            ),
        ],
    )


def fluorescence() -> Row:
    """The control signal of a dead stain."""
    none = "Empty: no channel beside the segmented one, or it is saturated."
    return Row(
        "Fluorescence",
        [
            curves(
                "Stained area by well",
                f"Share of the image's area above the threshold that the controls set before treatment. {none}",
                [Query(_stain("fluorescence_area_ratio"), _NAME + " {{channel}}")],
            ),
            curves(
                "Intensity by well",
                f"Mean intensity above the background, in the microscope's units. {none}",
                [Query(_stain("fluorescence_intensity"), _NAME + " {{channel}}")],
                unit="short",
            ),
        ],
        collapsed=True,
    )


def _newest() -> sdk.Panel:
    ratio = {"unit": "percentunit", "decimals": 0}
    few = Steps((GREEN, ORANGE), (1,))
    ratios = {
        "Certainty": "certainty_ratio",
        "Unknown": "unknown_ratio",
        "Novel": "novel_ratio",
        "Focus": "focus_ratio",
        "Debris": "debris_ratio",
    }
    fields = {"Fields missing": "fields_missing", "Fields excluded": "fields_excluded", "Dead for": "dead_timepoints"}
    metrics = {**ratios, **fields}
    return grid(
        "Newest time point of each well",
        "What the newest counts rest on. Certainty: mean calibrated probability; Novel: 10 % is expected; Focus: 100 "
        "% is "
        "as at the start; Dead for: time points in a row with too many dead cells. A gap: not measured or not "
        "calibrated.",
        [
            Query(f"max by (well, arm, role) ({info(WELLS)})"),
            Query(f"{held('well_acquired_timestamp_seconds', WELLS, by='well')} * 1000", "Acquired"),
            Query(f"sum by (well) ({held('cells', WELLS, by='well, state')})", "Cells"),
            *(Query(held(metric, WELLS, by="well"), title) for title, metric in metrics.items()),
        ],
        labels={"well": "Well", "arm": "Arm", "role": "Role"},
        columns={
            "Acquired": {"unit": "dateTimeAsIso"},
            **dict.fromkeys(ratios, ratio),
            **{title: {"steps": few} for title in fields},
        },
        order=("Well", False),
        size=(24, 12),
    )


def _limited(title: str, what: str, metric: str, alert: str) -> sdk.Panel:
    said = f"{what} The grey line: where the alert begins (alerts.{alert})."
    return curves(title, said, [Query(of_wells(metric), _NAME), Query(threshold(alert), LIMIT)], span=(0, None))


def _stain(metric: str) -> str:
    return of_wells(metric, by="well, channel")
