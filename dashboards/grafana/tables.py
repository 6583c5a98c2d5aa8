"""Tables of newest values, and the plate as a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.models import common, table
from grafana_foundation_sdk.models import dashboard as sdk

from dashboards.grafana.parts import Query, Steps, change, letter, override, panel_of, target

_HIGH_IS_NEWS = sdk.FieldColorModeId.CONTINUOUS_BL_YL_RD
_LOW_IS_NEWS = sdk.FieldColorModeId.CONTINUOUS_YL_BL
_ABSENT = sdk.SpecialValueMap(
    options=sdk.DashboardSpecialValueMapOptions(
        match=sdk.SpecialValueMatch.NULL,
        result=sdk.ValueMappingResult(text=" ", color="transparent", index=0),
    )
)
"""A well without a value has no colour: by itself it would have that of the lowest."""


def grid(
    title: str, what: str, queries: Sequence[Query], *, columns: Mapping[str, Mapping[str, Any]],
    order: tuple[str, bool] | None = None, labels: Mapping[str, str], size: tuple[int, int] = (24, 9),
) -> sdk.Panel:  # fmt: skip
    """A table of newest values: one row for each set of labels, one column a query.

    `labels`: titles of the labels that are shown, in order; `columns`: what is special about a column (unit, steps,
    links, decimals), by its title; `order`: the title sorted by, and whether the largest comes first.
    """
    names = [f"Value #{letter(place)}" for place in range(len(queries))] if len(queries) > 1 else ["Value"]
    titles = {name: query.legend for name, query in zip(names, queries, strict=True) if query.legend}
    alone = {"Value": queries[0].legend} if queries[0].legend else {}  # where no other query has an answer
    shown = {**labels, **titles, **alone}
    organize = {
        "excludeByName": {"Time": True, **{name: True for name in ("Value", *names) if name not in shown}},
        "indexByName": {name: place for place, name in enumerate(shown)},
        "renameByName": shown,
    }
    sort = [common.TableSortByFieldState(display_name=order[0], desc=order[1])] if order else []
    options = table.Options(show_header=True, cell_height=common.TableCellHeight.SM, sort_by=sort)
    special = [_column(name, **settings) for name, settings in columns.items()]
    defaults = sdk.FieldConfig(custom=common.TableFieldOptions(align=common.FieldTextAlignment.AUTO, min_width=70))
    panel = panel_of("table", title, what, size=size, options=options, defaults=defaults, overrides=special)
    panel.targets = [target(place, query, table=True) for place, query in enumerate(queries)]
    panel.transformations = [change("merge"), change("organize", **organize)]
    return panel


def plate_map(
    title: str, what: str, expr: str, *, unit: str = "percentunit", span: tuple[float, float] = (0, 1),
    low_is_news: bool = False, size: tuple[int, int] = (12, 10),
) -> sdk.Panel:  # fmt: skip
    """The plate as it lies on the bench: rows A, B, ... and columns 1, 2, ...; each well's cell coloured by its value.

    `expr` has the labels row and column (queries.on_plate). A core table: no plugin draws a plate. From blue over
    yellow to red, or (`low_is_news`) from yellow to blue.
    """
    custom = common.TableFieldOptions(
        align=common.FieldTextAlignment.CENTER,
        min_width=38,
        cell_options=common.TableColoredBackgroundCellOptions(mode=common.TableCellBackgroundDisplayMode.BASIC),
    )
    defaults = sdk.FieldConfig(
        unit=unit, decimals=0 if unit == "percentunit" else 2, min_val=span[0], max_val=span[1],
        color=sdk.FieldColor(mode=_LOW_IS_NEWS if low_is_news else _HIGH_IS_NEWS), custom=custom, mappings=[_ABSENT],
    )  # fmt: skip
    corner = "row\\column"
    plain = common.TableAutoCellOptions()
    names = override("byName", corner, displayName=" ", **{"custom.cellOptions": plain, "custom.width": 45})
    options = table.Options(show_header=True, cell_height=common.TableCellHeight.SM)
    panel = panel_of("table", title, what, size=size, options=options, defaults=defaults, overrides=[names])
    panel.targets = [target(0, Query(expr), table=True)]
    panel.transformations = [
        change("sortBy", fields={}, sort=[{"field": "column"}]),  # columns stand in order of appearance
        change("groupingToMatrix", columnField="column", rowField="row", valueField="Value", emptyValue="null"),
        change("sortBy", fields={}, sort=[{"field": corner}]),
    ]
    return panel


def _column(
    title: str, *, unit: str = "", steps: Steps | None = None, link: tuple[str, str] | None = None,
    decimals: int | None = None,
) -> sdk.DashboardFieldConfigSourceOverrides:  # fmt: skip
    """What is special about one column of a table. `link`: its title and address."""
    properties: dict[str, Any] = {}
    if unit:
        properties["unit"] = unit
    if decimals is not None:
        properties["decimals"] = decimals
    if steps is not None:
        properties["thresholds"] = steps.config()
        properties["custom.cellOptions"] = common.TableColorTextCellOptions()
    if link is not None:
        properties["links"] = [{"title": link[0], "url": link[1], "targetBlank": False}]
    return override("byName", title, **properties)
