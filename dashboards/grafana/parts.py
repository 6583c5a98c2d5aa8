"""What every panel is made of: queries, colours, overrides. Pure: values in, SDK models out.

Colours are Okabe and Ito's, which the colour-blind tell apart, too; a state has the colour of its group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.models import dashboard as sdk
from grafana_foundation_sdk.models import prometheus

DATASOURCE = sdk.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, ORANGE, RED, SKY, GREY, BLUE, PINK = "#009E73", "#E69F00", "#D55E00", "#56B4E9", "#999999", "#0072B2", "#CC79A7"
GROUPS = {"alive": GREEN, "dying": ORANGE, "dead": RED, "artefact": SKY, "none": PINK, "unknown": GREY}
LIMIT = "alert limit"
"""The legend of a line that is an alert's threshold."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    expr: str
    legend: str = ""  # "{{label}}" is replaced; in a table: the column's title ("" = hidden)
    step: str = ""  # shortest step, as in "1h"; "" = as Grafana thinks


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and what stands below it."""

    title: str
    panels: Sequence[sdk.Panel]
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    """Colours by limits: the first colour below the first limit, and so on."""

    colours: Sequence[str]  # one more than limits
    limits: Sequence[float] = ()

    def config(self) -> sdk.ThresholdsConfig:
        """As Grafana wants it."""
        limits = (None, *self.limits)
        steps = [sdk.Threshold(value=limit, color=colour) for limit, colour in zip(limits, self.colours, strict=True)]
        return sdk.ThresholdsConfig(mode=sdk.ThresholdsMode.ABSOLUTE, steps=steps)


CALM = Steps((BLUE,))


def panel_of(
    kind: str, title: str, what: str, *, size: tuple[int, int], options: object, defaults: sdk.FieldConfig,
    overrides: Iterable[sdk.DashboardFieldConfigSourceOverrides] = (), repeat: str | None = None,
) -> sdk.Panel:  # fmt: skip
    """A panel without queries. `size`: columns of 24, and rows of 30 pixels; `repeat`: once for each value of it."""
    return sdk.Panel(
        type_val=kind, title=title, description=what, datasource=DATASOURCE, options=options,
        grid_pos=sdk.GridPos(w=size[0], h=size[1]), repeat=repeat, repeat_direction="h" if repeat else None,
        field_config=sdk.FieldConfigSource(defaults=defaults, overrides=list(overrides)),
    )  # fmt: skip


def target(place: int, query: Query, *, instant: bool = False, table: bool = False) -> prometheus.Dataquery:
    """The query at this place of its panel; over the dashboard's time, or `instant` (a `table`'s always is)."""
    return prometheus.Dataquery(
        ref_id=letter(place),
        expr=query.expr,
        legend_format="" if table else query.legend,
        instant=instant or table,
        range_val=not (instant or table),
        format_val=prometheus.PromQueryFormat.TABLE if table else prometheus.PromQueryFormat.TIME_SERIES,
        editor_mode=prometheus.QueryEditorMode.CODE,
        interval=query.step or None,
        datasource=DATASOURCE,
    )


def override(matcher: str, what: str, **properties: Any) -> sdk.DashboardFieldConfigSourceOverrides:
    """Properties ("unit", "custom.lineWidth") of the fields that a matcher finds."""
    return sdk.DashboardFieldConfigSourceOverrides(
        matcher=sdk.MatcherConfig(id_val=matcher, options=what),
        properties=[sdk.DynamicConfigValue(id_val=name, value=value) for name, value in properties.items()],
    )


def fixed(colour: str) -> sdk.FieldColor:
    """One colour, whatever the value."""
    return sdk.FieldColor(mode=sdk.FieldColorModeId.FIXED, fixed_color=colour)


def change(name: str, **options: Any) -> sdk.DataTransformerConfig:
    """A transformation of the queries' tables."""
    return sdk.DataTransformerConfig(id_val=name, options=options)


def letter(place: int) -> str:
    """How Grafana names the query at this place: A, B, ..."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[place]
