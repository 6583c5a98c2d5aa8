"""Curves, figures and dose plots. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import common, stat, timeseries, xychart
from grafana_foundation_sdk.models import dashboard as sdk

from dashboards.grafana.parts import (
    CALM,
    GREY,
    GROUPS,
    LIMIT,
    Query,
    Steps,
    change,
    fixed,
    letter,
    override,
    panel_of,
    target,
)

_DASHED = {"custom.lineWidth": 1, "custom.lineStyle": common.LineStyle(fill="dash", dash=[6, 6])}
_POINTS = 300
"""Most of a curve: values change with a time point, and a curve of every well over days is dear for Prometheus."""


def curves(
    title: str, what: str, queries: Sequence[Query], *, unit: str = "percentunit", size: tuple[int, int] = (12, 8),
    bars: bool = False, dots: bool = False, span: tuple[float | None, float | None] = (None, None),
    overrides: Sequence[sdk.DashboardFieldConfigSourceOverrides] = (), repeat: str | None = None,
) -> sdk.Panel:  # fmt: skip
    """Values over time: lines that hold between two values, or `bars`. A legend of LIMIT is drawn as a limit."""
    stacked = common.StackingMode.NORMAL if bars else common.StackingMode.NONE
    custom = common.GraphFieldConfig(
        draw_style=common.GraphDrawStyle.BARS if bars else common.GraphDrawStyle.LINE,
        line_interpolation=common.LineInterpolation.STEP_AFTER,
        line_width=1 if bars else 2,
        fill_opacity=60 if bars else 0,
        show_points=common.VisibilityMode.ALWAYS if dots else common.VisibilityMode.NEVER,
        span_nulls=False,
        stacking=common.StackingConfig(mode=stacked, group="A"),
    )
    colour = sdk.FieldColor(mode=sdk.FieldColorModeId.PALETTE_CLASSIC)
    defaults = sdk.FieldConfig(unit=unit, min_val=span[0], max_val=span[1], color=colour, custom=custom)
    options = timeseries.Options(
        legend=common.VizLegendOptions(
            display_mode=common.LegendDisplayMode.LIST, placement=common.LegendPlacement.BOTTOM, show_legend=True
        ),
        tooltip=common.VizTooltipOptions(mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING),
    )
    limit = override("byRegexp", f"/{LIMIT}$/", color=fixed(GREY), **_DASHED)
    panel = panel_of(
        "timeseries", title, what, size=size, options=options, defaults=defaults, overrides=(*overrides, limit),
        repeat=repeat,
    )  # fmt: skip
    panel.max_data_points = None if bars else _POINTS
    panel.targets = [target(place, query) for place, query in enumerate(queries)]
    return panel


def figure(
    title: str, what: str, query: Query, *, unit: str = "short", steps: Steps = CALM, size: tuple[int, int] = (4, 4),
    names: bool = False, decimals: int | None = None, none: str = "none",
) -> sdk.Panel:  # fmt: skip
    """One large figure a series; `names`: the legend stands there in place of the value. `none`: said without data."""
    defaults = sdk.FieldConfig(
        unit=unit, thresholds=steps.config(), no_value=none, decimals=decimals,
        color=sdk.FieldColor(mode=sdk.FieldColorModeId.THRESHOLDS),
    )  # fmt: skip
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.VALUE,
        reduce_options=common.ReduceDataOptions(values=False, calcs=["lastNotNull"]),
        text_mode=common.BigValueTextMode.NAME if names else common.BigValueTextMode.AUTO,
    )
    panel = panel_of("stat", title, what, size=size, options=options, defaults=defaults)
    panel.targets = [target(0, query, instant=True)]
    return panel


def by_dose(
    title: str, what: str, queries: Sequence[Query], *, unit: str, repeat: str | None = None,
    size: tuple[int, int] = (12, 9),
) -> sdk.Panel:  # fmt: skip
    """Values against the dose, on a logarithmic axis; a query's legend is its name there."""
    custom = xychart.FieldConfig(
        show=xychart.ScatterShow.POINTS, point_size=common.ScaleDimensionConfig(fixed=6, min_val=4, max_val=12)
    )
    defaults = sdk.FieldConfig(
        unit=unit, color=sdk.FieldColor(mode=sdk.FieldColorModeId.PALETTE_CLASSIC), custom=custom
    )
    logarithmic = common.ScaleDistributionConfig(type_val=common.ScaleDistribution.LOG, log=10)
    axis = {"custom.scaleDistribution": logarithmic, "custom.axisLabel": "dose"}
    options = xychart.Options(
        series_mapping=xychart.SeriesMapping.AUTO,
        dims=xychart.XYDimensionConfig(frame=0, x="dose"),
        legend=common.VizLegendOptions(
            display_mode=common.LegendDisplayMode.LIST, placement=common.LegendPlacement.BOTTOM, show_legend=True
        ),
        tooltip=common.VizTooltipOptions(mode=common.TooltipDisplayMode.SINGLE),
    )
    dose = override("byName", "dose", unit="short", **axis)
    ends = [override("byName", end, color=fixed(GREY)) for end in ("low", "high")]
    panel = panel_of(
        "xychart", title, what, size=size, options=options, defaults=defaults, overrides=[dose, *ends], repeat=repeat
    )
    panel.targets = [target(place, query, table=True) for place, query in enumerate(queries)]
    names = ["Value"] if len(queries) == 1 else [f"Value #{letter(place)}" for place in range(len(queries))]
    panel.transformations = [
        change("merge"),
        change("convertFieldType", fields={}, conversions=[{"targetField": "dose", "destinationType": "number"}]),
        change("sortBy", fields={}, sort=[{"field": "dose"}]),
        change(
            "organize",
            excludeByName={"Time": True},
            indexByName={},
            renameByName={"Value": queries[0].legend, **dict(zip(names, (q.legend for q in queries), strict=True))},
        ),
    ]
    return panel


def band(low: str, high: str, colour: str) -> list[sdk.DashboardFieldConfigSourceOverrides]:
    """Overrides that fill between the series of these two names."""
    edge = {"color": fixed(colour), "custom.lineWidth": 0, "custom.hideFrom": _unlisted()}
    return [
        override("byName", high, **{**edge, "custom.fillBelowTo": low, "custom.fillOpacity": 25}),
        override("byName", low, **edge),
    ]


def beside(ref: str) -> sdk.DashboardFieldConfigSourceOverrides:
    """The override for a query that is only there to compare with: thin, dashed, grey."""
    return override("byFrameRefID", ref, color=fixed(GREY), **_DASHED)


def group_colours() -> list[sdk.DashboardFieldConfigSourceOverrides]:
    """Overrides for series whose names end on their group, as in "necrotic (dead)"."""
    return [override("byRegexp", f"/\\({group}\\)$/", color=fixed(colour)) for group, colour in GROUPS.items()]


def _unlisted() -> common.HideSeriesConfig:
    return common.HideSeriesConfig(legend=True, tooltip=False, viz=False)
