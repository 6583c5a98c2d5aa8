"""How long a person waits: for `cellvigil check`, and from starting the service to its first committed frame.

    python benchmarks/startup.py [--rounds 5]

Whole processes, wall clock, medians. Targets: check <= 2 s on the demo's configuration; first frame committed <= 3 s
beyond the model's load, at a scan interval of 0.3 s (the load is measured in a process that does nothing else).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from statistics import median

import yaml
from bench_lab import BenchLab, bench_lab

from cellvigil.rehearse.assay import Assay

_LOAD = """
import sys, time
from cellvigil import config
from cellvigil.service.opening import open_bundles, open_kitchen
settings = config.load(sys.argv[1])
open_kitchen(settings, open_bundles(settings))
"""


def seconds_of(command: list[str]) -> float:
    """Wall seconds of a whole process that must end well."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - start


def first_commit(lab: BenchLab, config: Path) -> float:
    """Seconds from starting the service to the commit of its first frame, by the log's own clock."""
    for name in ("store", "state"):
        shutil.rmtree(lab.root / name, ignore_errors=True)
    log = lab.root / "service.log"
    with log.open("w") as out:
        began = time.time()
        process = subprocess.Popen([sys.executable, "-m", "cellvigil", "run", "--config", str(config)], stderr=out)
        while "frame committed" not in log.read_text():
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.02)
        process.terminate()
        process.wait()
    line = next(line for line in log.read_text().splitlines() if "frame committed" in line)
    at = re.match(r"\S+", line)
    return datetime.fromisoformat(at.group()).timestamp() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with bench_lab(12) as lab:
        lab.film(Assay(seed=7, timepoints=2))  # the demo's frames
        config = lab.root / "config.yaml"
        config.write_text(yaml.safe_dump(lab.settings(interval_s=7200.0)))
        checks, loads, firsts = [], [], []
        for _ in range(options.rounds):
            checks.append(seconds_of(["-m", "cellvigil", "check", "--config", str(config)]))
            loads.append(seconds_of(["-c", _LOAD, str(config)]))
            firsts.append(first_commit(lab, config))
        beyond = [first - load for first, load in zip(firsts, loads, strict=True)]
        print(f"check: median {median(checks):.2f} s (target 2)")
        print(f"loading the model: median {median(loads):.2f} s")
        print(f"start to first commit beyond that: median {median(beyond):.2f} s (target 3), scans every 0.3 s")


if __name__ == "__main__":
    main()
