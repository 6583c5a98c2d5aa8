"""Rules as values, and how they become Prometheus' YAML. Pure.

A time in an expression or a text is written `<30m>` (a duration) or `<30m:s>` (the same as a number of seconds). Both
are scaled when the file is made, so that a test lives through a day in minutes. Times by the microscope's clock and
limits from `config.yaml` are none of these, and are never scaled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"<(\d+)([smhd])(:s)?>")
_PLACES = {
    "@well": ("instance", "plate", "well"),
    "@plate": ("instance", "plate"),
    "@source": ("instance", "source"),
    "@why": ("instance", "why"),
    "@instance": ("instance",),
}


@dataclass(frozen=True, slots=True)
class Record:
    """A series that Prometheus computes and keeps."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. Its anchor in the runbook is its name in small letters."""

    name: str
    severity: str  # critical: somebody should get up; warning: look today; info: news, nothing is wrong
    expr: str
    summary: str  # names plate and well, or source, or machine
    description: str  # with the figure
    wait: str = ""  # how long it must hold before it fires
    keep: str = ""  # how long it goes on when the series are away: a restart of the daemon is no end of it


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, in order."""

    name: str
    area: str  # "assay" or "machine": the label that Alertmanager routes by
    interval: str
    rules: Sequence[Record | Alert]


def above(name: str, comparison: str = ">") -> str:
    """Compare with the limit that the same daemon publishes: several daemons each keep their own `config.yaml`."""
    return f'{comparison} on (instance, job) group_left () cellvigil_alert_threshold{{alert="{name}"}}'


def asked(expr: str, shown: str = "humanizePercentage", *, before: str = "", after: str = "") -> str:
    """A further figure for a text: asked of Prometheus when the alert fires, left out where there is none.

    `@well`, `@plate`, `@source`, `@why` and `@instance` in `expr` become the matchers of the alert's own labels.
    """
    arguments = []
    for place in re.findall("|".join(_PLACES), expr):
        arguments += [f"$labels.{label}" for label in _PLACES[place]]
    for place, labels in _PLACES.items():
        expr = expr.replace(place, ",".join(f"{label}=%q" for label in labels))
    value = f". | first | {shown}"
    return f"{{{{ with printf `{expr}` {' '.join(arguments)} | query }}}}{before}{{{{ {value} }}}}{after}{{{{ end }}}}"


def limit(name: str, shown: str = "value | humanizePercentage") -> str:
    """The limit in force, for a text."""
    return asked(f'cellvigil_alert_threshold{{alert="{name}",@instance}}', shown)


def as_yaml(groups: Sequence[Group], *, pace: float, runbook: str, head: str) -> str:
    """The rule file. `pace` scales every time; `runbook` is the address of the runbook's page."""
    plain = {"groups": [_group(group, pace, runbook) for group in groups]}
    return head + yaml.dump(plain, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


def _group(group: Group, pace: float, runbook: str) -> dict[str, Any]:
    return {
        "name": group.name,
        "interval": _scaled(group.interval, pace),
        "rules": [_rule(rule, group.area, pace, runbook) for rule in group.rules],
    }


def _rule(rule: Record | Alert, area: str, pace: float, runbook: str) -> dict[str, Any]:
    expr = _Text(_scaled(rule.expr.strip(), pace))
    if isinstance(rule, Record):
        return {"record": rule.name, "expr": expr}
    made: dict[str, Any] = {"alert": rule.name, "expr": expr}
    if rule.wait:
        made["for"] = _scaled(rule.wait, pace)
    if rule.keep:
        made["keep_firing_for"] = _scaled(rule.keep, pace)
    made["labels"] = {"severity": rule.severity, "area": area}
    made["annotations"] = {
        "summary": _scaled(rule.summary, pace),
        "description": _scaled(rule.description, pace),
        "runbook_url": f"{runbook}#{rule.name.lower()}",
    }
    return made


def _scaled(text: str, pace: float) -> str:
    """Every `<30m>` in `text`, times `pace`."""

    def one(found: re.Match[str]) -> str:
        seconds = int(found[1]) * _SECONDS[found[2]] * pace
        if found[3]:
            return f"{seconds:.12g}"
        if pace == 1:
            return found[1] + found[2]
        return f"{max(1, round(seconds * 1000))}ms"

    return _TIME.sub(one, text)


class _Text(str):
    """A string of several lines, to be written as such."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes expressions as blocks, as a person would."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's own
        """Lists stand further in than their key."""
        super().increase_indent(flow, False)


def _block(dumper: yaml.SafeDumper, text: _Text) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=style)


_Dumper.add_representer(_Text, _block)
