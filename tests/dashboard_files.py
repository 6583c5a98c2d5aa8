"""The committed dashboards as a test reads them, and their variables filled in as Grafana fills them in.

How Grafana does it (its Prometheus data source, versions 10 to 12): a value of a variable that offers several values or
"All" is escaped for a regular expression, several are joined as (a|b), "All" is the variable's own text for it; other
values are only escaped for the string that they stand in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "dashboards" / "grafana"
FILES = sorted(FOLDER.glob("*.json"))
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{(\w+)\})")  # "$1" is a regular expression's own
_SPECIAL = re.compile(r"[$^*{}\[\]'+?.()|]")


@dataclass(frozen=True)
class Asked:
    """One query of a dashboard, and where it stands."""

    dashboard: str
    place: str  # panel's title and query's letter; or the annotation's or the variable's name
    expr: str
    instant: bool = False
    step: str = ""  # the shortest, as in "1h"

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.place}"


def load(path: Path) -> dict[str, Any]:
    """A dashboard as plain values."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those in collapsed rows too; not the rows themselves."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def variables(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The variables, in their order: later ones may ask for what earlier ones chose."""
    return list(dashboard["templating"]["list"])


def queries(path: Path) -> list[Asked]:
    """Every query of every panel and annotation."""
    dashboard = load(path)
    name = dashboard["title"].removeprefix("Cellvigil: ")
    of_panels = [
        Asked(name, f"{panel['title']} {one['refId']}", one["expr"], one["instant"], one.get("interval", ""))
        for panel in panels(dashboard)
        for one in panel["targets"]
    ]
    marks = dashboard["annotations"]["list"]
    return [*of_panels, *(Asked(name, f"annotation {mark['name']}", mark["expr"], step=mark["step"]) for mark in marks)]


def chosen(variable: Mapping[str, Any], values: list[str] | None) -> str:
    """What stands in a query for these values of a variable; None = "All"."""
    if values is None:
        return str(variable["allValue"])
    if not (variable["multi"] or variable["includeAll"]):
        return values[0].replace("\\", "\\\\").replace('"', '\\"')
    escaped = [_SPECIAL.sub(r"\\\\\g<0>", value.replace("\\", r"\\\\")) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with its variables filled in. Raises KeyError for one that the dashboard does not have."""
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def used(text: str) -> set[str]:
    """The names of the variables in a text."""
    return {found[1] or found[2] for found in _VARIABLE.finditer(text)}
