"""How much memory does an export take? All processes of it together, sampled, against weights x 1.3 + 1 GiB.

    python benchmarks/export_memory.py dinov2-giant [--work FOLDER] [--precision fp16] [--gate-images CELLS] [--json]
    python benchmarks/export_memory.py --smoke             (dinov2-small)

The checkpoint has the real architecture at full size and seeded random weights; it is made by another process before
the clock starts. Counted: the proportional set size (Pss: anonymous pages, and pages of mapped files as far as they are
resident, shared ones once) of the export's process and of all its children, added up at each instant, every 50 ms, and
beside it the highest RssAnon alone. Not counted: the system's own cache of files that no process has mapped.
Needs the extra `export`, and about three times the weights on the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from seeded_checkpoint import NAMES

_EVERY_S = 0.05
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="dinov2-small", choices=sorted(NAMES))
    parser.add_argument("--work", type=Path, help="where checkpoint and bundle are put for the while")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "int8"])
    parser.add_argument("--gate-images", type=Path, help="cells that a lower precision is judged by; it need not pass")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="the smallest member")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work, prefix="export-memory-") as folder:
        name = "dinov2-small" if args.smoke else args.name
        found = measured(name, Path(folder), precision_options(args.precision, args.gate_images))
    if args.json:
        print(json.dumps(found))
        return
    print(
        f"{found['name']}: weights {found['weights_mib']} MiB, peak {found['peak_mib']} MiB "
        f"(anonymous alone {found['anonymous_mib']} MiB), limit {found['limit_mib']} MiB: "
        f"{found['peak_mib'] / found['limit_mib']:.2f} of it; {found['seconds']} s; parity {found['parity']}"
    )


def precision_options(precision: str, gate_images: Path | None) -> list[str]:
    """What the export is told of it; random weights need not pass the gate."""
    if precision == "fp32":
        return []
    cells = ["--gate-images", str(gate_images)] if gate_images else []
    return ["--precision", precision, "--accept-below-gate", *cells]


def measured(name: str, folder: Path, options: Sequence[str] = ()) -> dict[str, object]:
    """Export a seeded member below `folder`; its figures."""
    script = Path(__file__).with_name("seeded_checkpoint.py")
    made = subprocess.run(
        [sys.executable, str(script), name, str(folder / "checkpoint")], check=True, stdout=subprocess.PIPE, text=True
    )
    weights = int(made.stdout)
    command = ["run", name, "--weights", str(folder / "checkpoint"), "--out", str(folder / "out"), "--json", *options]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "cellvigil_export", *command], stdout=subprocess.PIPE, text=True)
    peak = anonymous = 0
    while process.poll() is None:
        pss, anon = resident(process.pid)
        peak, anonymous = max(peak, pss), max(anonymous, anon)
        time.sleep(_EVERY_S)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"the export of {name} failed")
    return {
        "name": name,
        "weights_mib": weights >> 20,
        "peak_mib": peak >> 20,
        "anonymous_mib": anonymous >> 20,
        "limit_mib": (int(weights * 1.3) >> 20) + 1024,
        "seconds": round(seconds),
        "parity": json.loads(process.stdout.read())["parity"],
    }


def resident(pid: int) -> tuple[int, int]:
    """Bytes of a process and all below it: proportional set size, and anonymous pages alone."""
    rows = [_rollup(each) for each in tree(pid)]
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # gone meanwhile
            for child in thread.read_text().split():
                yield from tree(int(child))


def _rollup(pid: int) -> tuple[int, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.partition(":")[0]: int(line.split()[1]) << 10 for line in lines[1:]}
    return sizes.get("Pss", 0), sizes.get("Pss_Anon", 0)


if __name__ == "__main__":
    main()
