"""Figures as lines of text: for a scrape (one value a series, no time) and for history (one line a time point). Pure.

prometheus_client renders 20,000 samples in a quarter of a second; a 384-well plate has that many. Here the lines of a
plate are made once when its figures change. They are the same in Prometheus' text format and in OpenMetrics: gauges
only, and help texts without anything to escape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.metrics.families import FAMILIES, Family
from cellvigil.response.values import F64


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Series of one metric, each with its values over time."""

    family: Family
    labels: Sequence[str]  # N texts: `label_text` of each series
    values: F64  # (N, T); NaN = no sample
    times: F64  # (N, T) seconds since 1970: acquisition time of each value


def label_text(names: Sequence[str], values: Sequence[str]) -> str:
    """Labels as they stand behind a metric's name: `{plate="a",well="B2"}`. Lone surrogates are written out."""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def header(family: Family) -> str:
    """The HELP and TYPE lines."""
    return f"# HELP {family.name} {family.text}\n# TYPE {family.name} gauge\n"


def scrape_lines(blocks: Iterable[Block]) -> dict[str, str]:
    """The newest value of each series as lines, by the metric's name: one plate's part of a scrape."""
    found: dict[str, list[str]] = {}
    for block in blocks:
        name = block.family.name
        lines = found.setdefault(name, [])
        for labels, value in zip(block.labels, block.values[:, -1].tolist(), strict=True):
            if value == value:  # noqa: PLR0124 - NaN alone is not itself, and this runs 20,000 times
                lines.append(f"{name}{labels} {number(value)}\n")
    return {name: "".join(lines) for name, lines in found.items() if lines}


def scrape_text(plates: Iterable[Mapping[str, str]]) -> bytes:
    """What `scrape_lines` gave of each plate, joined: each metric once, with its header."""
    every = list(plates)
    parts: list[str] = []
    for family in FAMILIES:
        lines = [plate[family.name] for plate in every if family.name in plate]
        parts += [header(family), *lines] if lines else []
    return "".join(parts).encode()


def history_lines(block: Block) -> Iterator[str]:
    """Every value of each series with its time, oldest first; of two values at one millisecond the later stands."""
    name = block.family.name
    for labels, values, times in zip(block.labels, block.values, block.times, strict=True):
        there = np.isfinite(times) & ~np.isnan(values)
        dated = dict(zip(np.round(times[there] * 1000).astype(np.int64).tolist(), values[there].tolist(), strict=True))
        for milliseconds in sorted(dated):
            yield f"{name}{labels} {number(dated[milliseconds])} {milliseconds / 1000:.3f}\n"


def number(value: float) -> str:
    """A number as both formats write it; it reads back as the very same."""
    return repr(value) if math.isfinite(value) else "+Inf" if value > 0 else "-Inf" if value < 0 else "NaN"


def _escaped(value: str) -> str:
    whole = value.encode("utf-8", "backslashreplace").decode()
    return whole.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
