"""Writes Prometheus' rule files from the alerts in this folder. Touches those files only.

At the top of the repository `python -m dashboards.rules` writes `dashboards/prometheus/*.rules.yaml`; with `--check` it
only says whether they are up to date (exit code 1: stale); `--pace 0.01 --out DIR` makes 36 s of each hour, for tests
and rehearsals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dashboards import assay_alerts, machine_alerts
from dashboards.alerts import as_yaml
from dashboards.made_files import keep

HERE = Path(__file__).parent / "prometheus"
RUNBOOK = "docs/runbook.md"
_FILES = {"assay.rules.yaml": assay_alerts.GROUPS, "machine.rules.yaml": machine_alerts.GROUPS}
_HEAD = (
    "# Made by `python -m dashboards.rules`: change dashboards/*_alerts.py instead. Needs Prometheus 2.42 or newer.\n"
)


def made(*, pace: float = 1.0, runbook: str = RUNBOOK) -> dict[str, str]:
    """The content of every rule file, by name."""
    return {name: as_yaml(groups, pace=pace, runbook=runbook, head=_HEAD) for name, groups in _FILES.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or check them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.rules", description="Write Prometheus' rule files.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (%(default)s)")
    parser.add_argument("--pace", type=_pace, default=1.0, help="scales every duration: 0.01 makes 36 s of an hour (1)")
    parser.add_argument(
        "--runbook",
        default=RUNBOOK,
        help="address of the runbook, without anchor: where your people read it (%(default)s)",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file is not up to date")
    args = parser.parse_args(arguments)
    return keep(
        made(pace=args.pace, runbook=args.runbook), args.out, check=args.check, again="python -m dashboards.rules"
    )


def _pace(text: str) -> float:
    try:
        pace = float(text)
    except ValueError:
        pace = 0.0
    if not 0 < pace < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no pace; give a number above 0")
    return pace


if __name__ == "__main__":
    sys.exit(main())
