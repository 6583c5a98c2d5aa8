"""The dashboard *Experiment*: one plate, its arms, its wells, and how far its figures can be trusted. Pure.

Shown are the daemon's own figures with their intervals; nothing is worked out again in PromQL but joins.
"""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as sdk

from dashboards.grafana import assay, doses, trust
from dashboards.grafana.charts import figure
from dashboards.grafana.layout import Mark, custom_variable, dashboard, datasource_variable, query_variable
from dashboards.grafana.parts import BLUE, GREEN, ORANGE, PINK, RED, Query, Row, Steps
from dashboards.grafana.queries import PLATE, WELLS, held, select
from dashboards.grafana.tables import grid


def made() -> sdk.Dashboard:
    """The dashboard."""
    return dashboard(
        "experiment",
        "Cellvigil: Experiment",
        "One plate: how its arms live and die, which wells respond and since when, and how far to trust the figures.",
        rows=[_now(), *assay.rows(), doses.row(), trust.row(), trust.fluorescence()],
        variables=_variables(),
        marks=_marks(),
        since="now-48h",
        refresh="1m",
    )


def _variables() -> list[sdk.VariableModel]:
    plate = 'cellvigil_well_acquired_timestamp_seconds{instance=~"$instance"}'
    of_plate = '{instance=~"$instance",plate="$plate"}'
    wells = f"cellvigil_well_acquired_timestamp_seconds{of_plate}"
    return [
        datasource_variable(),
        query_variable(
            "instance",
            "Daemon",
            "label_values(cellvigil_well_acquired_timestamp_seconds, instance)",
            what="Which machine; All also shows what was back-filled.",
            everything=True,
        ),
        query_variable("plate", "Plate", f"label_values({plate}, plate)", what="Source / experiment / plate."),
        query_variable(
            "arm",
            "Arm",
            f"label_values(cellvigil_well_info{of_plate}, arm)",
            what="Wells that got the same, from the plate map.",
            multi=True,
            everything=True,
        ),
        query_variable(
            "well", "Well", f"label_values({wells}, well)", what="Wells shown one by one.", multi=True, everything=True
        ),
        query_variable(
            "state",
            "State",
            f'label_values(cellvigil_state_info{of_plate[:-1]},group=~"alive|dying|dead"}}, state)',
            what="Whose share is shown by arm and on the plate.",
        ),
        query_variable(
            "estimate",
            "Estimate",
            f"label_values(cellvigil_state_share{of_plate}, estimate)",
            what="corrected: for the mistakes that the index is known to make; plain: as called.",
        ),
        query_variable(
            "compound",
            "Compound",
            f'label_values(cellvigil_well_info{of_plate[:-1]},compound!=""}}, compound)',
            what="Of the dose plots.",
            multi=True,
            everything=True,
        ),
        custom_variable(
            "hold",
            "Hold",
            ("1h", "5m", "4h", "12h"),
            what="How long a value stands without a newer one: longer than the interval of back-filled time points.",
        ),
    ]


def _marks() -> list[Mark]:
    onset = held("response_onset_timestamp_seconds", WELLS, by="well")
    treated = f"min by (plate) (last_over_time({select('treated_timestamp_seconds', PLATE)}[$hold]))"
    return [
        Mark("Onsets", f"{onset} * 1000", RED, "Onset in {{well}}", "The well responds from here on."),
        Mark("First treatment", f"{treated} * 1000", BLUE, "Treated", "The first well of the plate is treated."),
        Mark("Events", f"{held('event_timestamp_seconds', by='kind')} * 1000", PINK, "{{kind}}"),
        Mark(
            "Alerts",
            'ALERTS{alertstate="firing",plate="$plate"}',
            ORANGE,
            "{{alertname}}",
            "{{well}}",
            at_value=False,
            shown=False,
        ),
    ]


def _now() -> Row:
    acquired = held("well_acquired_timestamp_seconds", by="well")
    onsets = held("response_onset_timestamp_seconds", by="well")
    firing = 'count(ALERTS{alertstate="firing",plate="$plate"}) or vector(0)'
    correction = Steps((GREEN,))
    return Row(
        "Now",
        [
            figure(
                "Wells",
                "Wells of the plate with a value. Empty: no frame of this plate within metrics.keep_hours.",
                Query(f"count({acquired})"),
            ),
            figure(
                "Newest time point",
                "How long ago the newest published time point was acquired, by the microscope's clock.",
                Query(f"time() - max({acquired})"),
                unit="s",
            ),
            figure(
                "Wells with an onset",
                "Wells that respond. The promise of response.false_onset is for the whole "
                "plate, so that a single one counts.",
                Query(f"count({onsets}) or vector(0)"),
                steps=Steps((GREEN, ORANGE), (1,)),
            ),
            figure(
                "Wells paused",
                "Wells whose response waits: the plate is out, or a new baseline is being formed. "
                "Empty: no treatment time is known.",
                Query(f"sum({held('response_paused', by='well')})"),
                steps=Steps((GREEN, ORANGE), (1,)),
            ),
            figure(
                "Correction",
                "ok: shares are corrected for the index's known mistakes. no_confusion: the index has "
                "not been measured; overridden: k or threshold were changed; ill_conditioned, residual, shifted: the "
                "correction does not fit these cells, believe the plain share.",
                Query(f"max by (status) ({select('correction_info', PLATE)})", "{{status}}"),
                steps=correction,
                names=True,
                none="not known",
            ),
            figure(
                "Alerts",
                "Alerts of this plate that fire now; the list is on the Alertmanager.",
                Query(firing),
                steps=Steps((GREEN, RED), (1,)),
            ),
            grid(
                "Alerts that fire",
                "Of this plate; docs/runbook.md says what to do. Empty: none, or Prometheus has no rules of ours.",
                [Query('max by (alertname, severity, well) (ALERTS{alertstate="firing",plate="$plate"})')],
                labels={"alertname": "Alert", "severity": "Severity", "well": "Well"},
                columns={},
                order=("Severity", False),
                size=(24, 6),
            ),
        ],
    )
