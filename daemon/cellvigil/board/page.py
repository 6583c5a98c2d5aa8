"""The page at / as text: alerts, sources, the last frame, the plates. Values in, HTML out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import numpy as np

from cellvigil.board.alerts import SEVERITIES, Alert
from cellvigil.board.figures import newest_at, out_since
from cellvigil.board.plate import legend
from cellvigil.board.style import STYLE
from cellvigil.board.values import LastFrame, Machine, Watched
from cellvigil.board.words import DASH, age_text, time_text
from cellvigil.markup import Html, joined, tag
from cellvigil.tally.figures import PlateFigures

RENEWED_S = 15
MOST_PLATES = 12
"""The newest are shown; the others are in Grafana."""

_SIGNS = {"critical": "\N{BLACK UP-POINTING TRIANGLE}", "warning": "\N{BLACK DIAMOND}", "info": "\N{BLACK CIRCLE}"}
_ICONS = {"critical": "%23d55e00", "warning": "%23e69f00", "fine": "%23009e73"}  # the icon in the browser's tab

Body = Callable[[PlateFigures], Html]
"""Makes what is shown of a plate (`plate.plate_body`); it may keep it for as long as the figures."""


def page(
    plates: Sequence[PlateFigures],
    machine: Machine,
    alerts: Sequence[Alert],
    last: LastFrame | None,
    now: datetime,
    *,
    body: Body,
    has_picture: bool = True,
) -> str:
    """The whole page at `now` (aware). Names from files and plate maps are escaped.

    `has_picture`: the last frame's pixels can be had (at frame.jpg).
    """
    shown = plates[:MOST_PLATES]
    content = joined(
        _header(machine, alerts, now),
        _alerts(alerts, shown),
        _contents(shown, now),
        _sources(machine.sources, now),
        _last_frame(last, machine, now, has_picture=has_picture),
        *(_plate(place, plate, now, body) for place, plate in enumerate(shown)),
        _more(plates),
        _footer(machine),
    )
    kind, word = _state(machine, alerts)
    icon = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 2 2'><circle cx='1' cy='1' r='1' fill='{_ICONS[kind]}'/>"
    )
    head = joined(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="refresh", content=str(RENEWED_S)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{word}: Cellvigil"),
        tag("link", rel="icon", href=f"data:image/svg+xml,{icon}</svg>"),
        tag("style", Html(STYLE)),
    )
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', content), lang='en')}\n"


def _state(machine: Machine, alerts: Sequence[Alert]) -> tuple[str, str]:
    """How it is in a word, with its class."""
    worst = {alert.severity for alert in alerts}
    if machine.paused:
        return "critical", "paused"
    if "critical" in worst:
        return "critical", "in trouble"
    return ("warning", "look here") if "warning" in worst else ("fine", "working")


def _header(machine: Machine, alerts: Sequence[Alert], now: datetime) -> Html:
    kind, word = _state(machine, alerts)
    zone = machine.sources[0].zone if machine.sources else UTC
    told = (
        f"All stages worked {age_text(timedelta(seconds=machine.heartbeat_age_s))} ago, on {machine.device}. "
        f"As of {time_text(now, zone)}; renewed every {RENEWED_S} s."
    )
    return tag("header", tag("h1", "Cellvigil"), tag("p", tag("strong", word, class_=kind), " ", told))


def _alerts(alerts: Sequence[Alert], plates: Sequence[PlateFigures]) -> Html:
    if not alerts:
        return tag("section", tag("h2", "Alerts now"), tag("p", "none"), id="alerts")
    places = {plate.plate: f"#plate-{place}" for place, plate in enumerate(plates)}
    items = []
    for alert in alerts:
        place = tag("a", alert.place, href=places[alert.place]) if alert.place in places else alert.place
        sign = tag("b", f"{_SIGNS[alert.severity]} {alert.severity}")
        text = joined(" ", place, ": " if alert.place else "", alert.text, " ")
        items.append(tag("li", sign, text, tag("small", alert.name), class_=alert.severity))
    note = tag("p", "What each means and what to do: docs/runbook.md, by its name.", class_="note")
    numbers = {kind: sum(alert.severity == kind for alert in alerts) for kind in SEVERITIES}
    told = ", ".join(f"{number} {kind}" for kind, number in numbers.items() if number)
    return tag("section", tag("h2", f"Alerts now: {told}"), tag("ul", *items), note, id="alerts")


def _contents(plates: Sequence[PlateFigures], now: datetime) -> Html:
    """One line a plate, where there are several."""
    if len(plates) < 2:
        return Html("")
    head = ("plate", "newest image", "onsets")
    rows = [
        tag(
            "tr",
            tag("td", tag("a", plate.plate, href=f"#plate-{place}")),
            tag("td", _newest(plate, now)),
            tag("td", str(int(np.isfinite(plate.response.onset_s).sum()))),
        )
        for place, plate in enumerate(plates)
    ]
    return tag("section", tag("h2", "Plates"), _table(head, rows), id="plates")


def _newest(plate: PlateFigures, now: datetime) -> str:
    newest = newest_at(plate)
    told = f"{age_text(now - newest)} ago" if newest else DASH
    return f"{told}, out" if out_since(plate, now) else told


def _sources(sources: Sequence[Watched], now: datetime) -> Html:
    head = ("source", "folder", "last frame", "expected every", "waiting", "alignment", "refused")
    rows = [
        tag(
            "tr",
            tag("td", source.name),
            tag("td", "there" if source.up else "away", class_="" if source.up else "critical"),
            tag("td", f"{age_text(now - source.last_frame)} ago" if source.last_frame else "never"),
            tag("td", age_text(timedelta(seconds=source.interval_s)) if source.interval_s else DASH),
            tag("td", f"{source.backlog} frames, {source.waiting} files"),
            tag("td", source.alignment or "off"),
            tag("td", str(source.refused)),
        )
        for source in sources
    ]
    return tag("section", tag("h2", "Microscopes"), _table(head, rows), id="sources")


def _table(head: Sequence[str], rows: Sequence[Html]) -> Html:
    titles = tag("tr", *(tag("th", text, scope="col") for text in head))
    return tag("div", tag("table", titles, *rows, class_="list"), class_="wide")


def _last_frame(last: LastFrame | None, machine: Machine, now: datetime, *, has_picture: bool) -> Html:
    if last is None:
        return tag("section", tag("h2", "Last frame"), tag("p", "There is none yet."), id="frame")
    key = last.key
    zone = next((source.zone for source in machine.sources if source.name == key.source), UTC)
    called = {state: last.cells[state] for state in last.colours if last.cells.get(state)}
    told = ", ".join(f"{count} {state}" for state, count in called.items()) or "no cells"
    edge = f" ({last.edge} more at the border are not counted)" if last.edge else ""
    caption = (
        f"{'/'.join(key.series)}, well {key.well}, field {key.field}: {told}{edge}. "
        f"Taken {age_text(now - last.acquired_at)} ago, {time_text(last.acquired_at, zone)}."
        f"{'' if last.outcome == 'counted' else ' Left out of the counts.'}"
    )
    if has_picture:
        address = f"frame.jpg?{quote('-'.join((*key.series, key.well, key.field, str(key.timepoint))), safe='')}"
        image = tag("img", src=address, alt=f"the last frame, its cells outlined by state: {told}")
    else:
        image = tag("p", "Its pixels are no longer kept, or cannot be read.", class_="note")
    figure = tag("figure", image, tag("figcaption", caption), legend({state: last.colours[state] for state in called}))
    return tag("section", tag("h2", "Last frame"), figure, id="frame")


def _plate(place: int, plate: PlateFigures, now: datetime, body: Body) -> Html:
    newest, out = newest_at(plate), out_since(plate, now)
    told = f"newest image {age_text(now - newest)} ago" if newest else "no value yet"
    away = tag("strong", f"out of the microscope for {age_text(now - out)}", class_="out") if out else Html("")
    return tag("section", tag("h2", plate.plate), tag("p", told, " ", away), body(plate), id=f"plate-{place}")


def _more(plates: Sequence[PlateFigures]) -> Html:
    rest = len(plates) - MOST_PLATES
    return tag("p", f"{rest} older plates are not shown here.", class_="note") if rest > 0 else Html("")


def _footer(machine: Machine) -> Html:
    # Without a slash in front: behind a proxy the page may not be at its root.
    links = joined(tag("a", "metrics", href="metrics"), " for Prometheus, ", tag("a", "healthz", href="healthz"))
    return tag("footer", tag("p", links, f". Cellvigil {machine.version}. Research use only, not diagnostic."))
