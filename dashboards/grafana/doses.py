"""The row of *Experiment* with dose and effect. Pure."""

from __future__ import annotations

from dashboards.grafana.charts import by_dose
from dashboards.grafana.parts import Query, Row
from dashboards.grafana.queries import by_dose as at_dose
from dashboards.grafana.queries import held
from dashboards.grafana.tables import grid

_ENDS = ("", "_low", "_high")


def row() -> Row:
    """Response and growth rate by dose, half-maximal doses, GRmax."""
    response = [at_dose(held(f"arm_response_ratio{end}", by="arm"), "arm") for end in _ENDS]
    interval = {"value": "Half-maximal dose", "low": "Low", "high": "High"}
    half = [held(f"dose_half_maximal{end}", by="compound, unit, measure") for end in _ENDS]
    best = [held(f"gr_max_ratio{end}", by="compound") for end in _ENDS]
    one_unit = "Doses of one compound must share a unit."
    return Row(
        "Doses, newest values",
        [
            by_dose(
                "$compound: response by dose",
                f"Each arm's response with the ends of its 95 % interval. {one_unit} Empty: no doses in the plate map.",
                [Query(expr, name) for expr, name in zip(response, ("response", "low", "high"), strict=True)],
                unit="percentunit",
                repeat="compound",
                size=(24, 9),
            ),
            by_dose(
                "$compound: growth rate (GR) by dose",
                f"One point a well. {one_unit} Empty: suspension cells, or controls that grew less than a tenth.",
                [Query(at_dose(held("growth_rate_ratio", by="well"), "well"), "GR")],
                unit="none",
                repeat="compound",
                size=(24, 9),
            ),
            grid(
                "Half-maximal dose",
                "With its 95 % interval, for the response and for the growth rate (GR50), in the plate map's unit. "
                "Empty: fewer than five doses, or no half effect within them.",
                [Query(expr, name) for expr, name in zip(half, interval.values(), strict=True)],
                labels={"compound": "Compound", "unit": "Unit", "measure": "Of"},
                columns={name: {"decimals": 3} for name in interval.values()},
                size=(14, 7),
            ),
            grid(
                "GRmax",
                "The growth rate at the highest dose, with its 95 % interval: below 0, cells die. Empty: as GR50.",
                [Query(expr, name) for expr, name in zip(best, ("GRmax", "Low", "High"), strict=True)],
                labels={"compound": "Compound"},
                columns={name: {"decimals": 2} for name in ("GRmax", "Low", "High")},
                size=(10, 7),
            ),
        ],
    )
