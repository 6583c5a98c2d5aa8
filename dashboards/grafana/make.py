"""Writes the dashboards beside this file. Touches those files only.

python -m dashboards.grafana.make             # dashboards/grafana/*.json
python -m dashboards.grafana.make --check     # exit code 1 if those are stale
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana import experiment, fleet, microscope
from dashboards.made_files import keep

HERE = Path(__file__).parent
_WIDTH = 120
_MADE = (experiment.made, microscope.made, fleet.made)


def made() -> dict[str, str]:
    """The content of every file, by name; the same on every machine."""
    dashboards = [make() for make in _MADE]
    return {f"{each.uid}.json": _text(json.loads(json.dumps(each, cls=JSONEncoder))) + "\n" for each in dashboards}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or check them; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.grafana.make", description="Write Grafana's dashboards."
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (%(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file is not up to date")
    args = parser.parse_args(arguments)
    return keep(made(), args.out, check=args.check, again="python -m dashboards.grafana.make")


def _text(value: Any, indent: int = 0) -> str:
    """JSON with sorted keys, broken only where a line would be too long: a change shows up in a few lines."""
    flat = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if indent + len(flat) <= _WIDTH or not isinstance(value, dict | list):
        return flat
    items = (
        [f"{json.dumps(key)}: {_text(value[key], indent + 2)}" for key in sorted(value)]
        if isinstance(value, dict)
        else [_text(item, indent + 2) for item in value]
    )
    start, end = "{}" if isinstance(value, dict) else "[]"
    inside = ",\n".join(" " * (indent + 2) + item for item in items)
    return f"{start}\n{inside}\n{' ' * indent}{end}"


if __name__ == "__main__":
    sys.exit(main())
