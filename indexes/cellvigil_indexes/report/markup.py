"""What a report's pages are made of, beyond `cellvigil.markup`: figures, tables, numbers. Strings in, strings out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from cellvigil.markup import Html, tag

F64 = npt.NDArray[np.float64]

_NONE = "\N{EN DASH}"
# viridis at eleven places: grows evenly in lightness, and the colour-blind see it so, too
_VIRIDIS = (
    (68, 1, 84), (72, 36, 117), (65, 68, 135), (53, 95, 141), (42, 120, 142), (33, 145, 140),
    (34, 168, 132), (66, 190, 113), (122, 209, 81), (187, 223, 39), (253, 231, 37),
)  # fmt: skip


def para(*children: str) -> Html:
    """A paragraph."""
    return tag("p", *children)


def note(*children: str) -> Html:
    """How a figure was made, in small print."""
    return tag("p", *children, class_="note")


def figure(picture: Html, caption: str) -> Html:
    """A picture with a line below it."""
    return tag("figure", picture, tag("figcaption", caption))


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str,
    best: Iterable[tuple[int, int]] = (),
    words: bool = False,
) -> Html:
    """A table with a caption and headed columns; the first cell of a row heads it.

    `best` (row, column) is bold; `words`: the columns hold text rather than numbers.
    """
    bold = set(best)
    head = tag("tr", *(tag("th", name, scope="col") for name in header))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(_cell(text, (i, j) in bold) for j, text in enumerate(row[1:], 1)))
        for i, row in enumerate(rows)
    ]
    parts = (tag("caption", caption), tag("thead", head), tag("tbody", *body))
    whole = tag("table", *parts, class_="words" if words else None)
    return tag("div", whole, class_="wide", tabindex="0")


def heat_table(
    values: F64, rows: Sequence[str], columns: Sequence[str], *, caption: str, corner: str, low: float, high: float,
    digits: int = 2, texts: Sequence[Sequence[str]] | None = None,
) -> Html:  # fmt: skip
    """A matrix as a table whose cells are coloured from `low` (dark blue) to `high` (yellow), numbers always shown."""
    head = tag("tr", tag("th", corner, scope="col"), *(tag("th", name, scope="col") for name in columns))
    body = []
    for i, name in enumerate(rows):
        words = texts[i] if texts is not None else [number(value, digits) for value in values[i]]
        cells = [_hot(float(value), text, low, high) for value, text in zip(values[i], words, strict=True)]
        body.append(tag("tr", tag("th", name, scope="row"), *cells))
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body), class_="heat")
    return tag("div", whole, class_="wide", tabindex="0")


def number(value: float | None, digits: int = 3) -> str:
    """A number with a real minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return _NONE
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def percent(value: float | None, digits: int = 1) -> str:
    """A share 0..1 in per cent; a dash where there is none."""
    return _NONE if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def _cell(text: str, bold: bool) -> Html:
    return tag("td", tag("strong", text) if bold else text)


def _hot(value: float, text: str, low: float, high: float) -> Html:
    if not math.isfinite(value):
        return tag("td", text)
    place = 0.0 if high <= low else min(max((value - low) / (high - low), 0.0), 1.0)
    red, green, blue = colour(place)
    luminance = (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
    ink = "#111" if luminance > 0.42 else "#fff"
    return tag("td", text, style=f"background:rgb({red},{green},{blue});color:{ink}")


def colour(place: float) -> tuple[int, int, int]:
    """Viridis at 0..1 as red, green, blue."""
    step = place * (len(_VIRIDIS) - 1)
    first = min(int(step), len(_VIRIDIS) - 2)
    part = step - first
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(_VIRIDIS[first], _VIRIDIS[first + 1], strict=True))
    return red, green, blue
