"""Does the service grow? Resident memory from frame 100 to frame 1,000 at full speed.

    python benchmarks/memory.py [--frames 1000] [--from 100]

Frames of 256 x 256 pixels with about 8 simulated cells; the service is a process of its own, watching a full folder.
Target: less than 5 % growth. The least of each tenth is compared, since a batch in flight comes and goes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import yaml
from bench_lab import bench_lab

from cellvigil.rehearse.assay import Assay


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) / 1024


def committed(log: Path) -> int:
    """Frames committed so far, as the service itself says on /metrics."""
    address = re.search(r"http://[\d.:]+", log.read_text())
    if address is None:
        return 0
    with urllib.request.urlopen(f"{address.group()}/metrics", timeout=30) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("cellvigil_frames_total{")]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--from", dest="first", type=int, default=100)
    options = parser.parse_args()
    with bench_lab(12) as lab:
        wells = tuple(f"{row}{column}" for row in "AB" for column in (1, 2, 3, 4, 5))
        lab.film(Assay(seed=7, wells=wells, treated=wells[5:], timepoints=-(-options.frames // 10), shape=(256, 256),
                       cells=8.0, minutes=15.0))  # fmt: skip
        config, log = lab.root / "config.yaml", lab.root / "service.log"
        config.write_text(yaml.safe_dump(lab.settings()))
        readings: list[tuple[int, float]] = []
        with log.open("w") as out:
            process = subprocess.Popen([sys.executable, "-m", "cellvigil", "run", "--config", str(config)], stderr=out)
            start = time.perf_counter()
            while (frames := committed(log)) < options.frames:
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                if frames:
                    readings.append((frames, resident_mb(process.pid)))
                time.sleep(0.2)
            seconds = time.perf_counter() - start
            process.terminate()
            process.wait()
    tenth = (options.frames - options.first) / 10
    early = min(mb for frames, mb in readings if options.first <= frames <= options.first + tenth)
    late = min(mb for frames, mb in readings if frames >= options.frames - tenth)
    print(f"{options.frames} frames in {seconds:.0f} s")
    print(f"resident {early:.0f} MB at frame {options.first}, {late:.0f} MB at the end")
    print(f"growth {late / early - 1:+.1%} (target 5 %)")


if __name__ == "__main__":
    main()
