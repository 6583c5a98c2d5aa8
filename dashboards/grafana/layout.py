"""How panels become a dashboard: places, variables, annotations, links. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import dashboard as sdk

from dashboards.grafana.parts import DATASOURCE, Row

TAG = "cellvigil"
UIDS = {name: f"cellvigil-{name}" for name in ("experiment", "microscope", "fleet")}
"""Fixed, since links and bookmarks name them."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An annotation: a vertical line, or a region, where the query has a value."""

    name: str
    expr: str  # `at_value`: milliseconds since 1970
    colour: str
    title: str  # "{{label}}" is replaced
    text: str = ""
    at_value: bool = True  # the line stands at the time that the value is, not where the sample stands
    shown: bool = True  # from the start; else only when it is switched on above the panels


class PrometheusAnnotation(sdk.AnnotationQuery):
    """The SDK's annotation, and what only the Prometheus data source reads of it."""

    def __init__(self, mark: Mark) -> None:
        super().__init__(
            name=mark.name, datasource=DATASOURCE, enable=mark.shown, icon_color=mark.colour, expr=mark.expr
        )
        self._own = {
            "step": "10m",  # every sample of every series passes through the browser
            "tagKeys": "",
            "textFormat": mark.text,
            "titleFormat": mark.title,
            "useValueForTime": mark.at_value,
        }

    def to_json(self) -> dict[str, object]:
        """As Grafana reads it."""
        return {**super().to_json(), **self._own}


def datasource_variable() -> sdk.VariableModel:
    """Which Prometheus."""
    return sdk.VariableModel(
        id_val="", type_val=sdk.VariableType.DATASOURCE, name="datasource", label="Prometheus", query="prometheus"
    )


def query_variable(
    name: str, label: str, query: str, *, what: str, multi: bool = False, everything: bool = False
) -> sdk.VariableModel:
    """A choice that Prometheus offers. `everything`: "All" is offered, and means any value, also none."""
    return sdk.VariableModel(
        id_val="", type_val=sdk.VariableType.QUERY, name=name, label=label, description=what, query=query,
        datasource=DATASOURCE, refresh=sdk.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=sdk.VariableSort.NUMERICAL_ASC if name == "well" else sdk.VariableSort.ALPHABETICAL_ASC,
        multi=multi, include_all=everything, all_value=".*" if everything else None,
        current=sdk.VariableOption(text="All", value="$__all") if everything else None,
    )  # fmt: skip


def custom_variable(name: str, label: str, values: Sequence[str], *, what: str) -> sdk.VariableModel:
    """A choice among our own values; the first is the default."""
    options = [sdk.VariableOption(selected=value == values[0], text=value, value=value) for value in values]
    return sdk.VariableModel(
        id_val="", type_val=sdk.VariableType.CUSTOM, name=name, label=label, description=what, query=",".join(values),
        options=options, current=options[0],
    )  # fmt: skip


def address(name: str, **variables: str) -> str:
    """The address of one of our dashboards, with the time shown and these variables."""
    chosen = "".join(f"&var-{key}={value}" for key, value in variables.items())
    return f"/d/{UIDS[name]}?${{__url_time_range}}&var-datasource=${{datasource}}{chosen}"


def dashboard(
    name: str, title: str, what: str, *, rows: Iterable[Row], variables: Sequence[sdk.VariableModel],
    marks: Sequence[Mark] = (), since: str, refresh: str,
) -> sdk.Dashboard:  # fmt: skip
    """One of UIDS, whole. `since`: "now-24h"; `refresh`: "1m"."""
    others = sdk.DashboardLink(
        title="Cellvigil", type_val=sdk.DashboardLinkType.DASHBOARDS, tags=[TAG], icon="external link",
        include_vars=True, keep_time=True,
    )  # fmt: skip
    return sdk.Dashboard(
        uid=UIDS[name], title=title, description=what, tags=[TAG], panels=laid(rows), links=[others],
        graph_tooltip=sdk.DashboardCursorSync.CROSSHAIR, refresh=refresh,
        time=sdk.DashboardDashboardTime(from_val=since, to="now"),
        templating=sdk.DashboardDashboardTemplating(list_val=list(variables)),
        annotations=sdk.AnnotationContainer(list_val=[PrometheusAnnotation(mark) for mark in marks]),
    )  # fmt: skip


def laid(rows: Iterable[Row]) -> list[sdk.Panel | sdk.RowPanel]:
    """The rows' panels with ids and places: left to right on a grid of 24, a new line where one does not fit."""
    out: list[sdk.Panel | sdk.RowPanel] = []
    top, number = 0, 0
    for row in rows:
        number += 1
        place = sdk.GridPos(h=1, w=24, x=0, y=top)
        heading = sdk.RowPanel(title=row.title, collapsed=row.collapsed, id_val=number, panels=[], grid_pos=place)
        out.append(heading)
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            number += 1
            at = panel.grid_pos or sdk.GridPos()
            if left + at.w > 24:
                top, left, height = top + height, 0, 0
            panel.id_val, at.x, at.y = number, left, top
            left, height = left + at.w, max(height, at.h)
        if row.collapsed:  # its panels live in the heading, and take no room
            heading.panels = list(row.panels)
        else:
            out.extend(row.panels)
            top += height
    return out
