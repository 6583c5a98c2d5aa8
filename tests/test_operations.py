"""docs/operations.md: its commands work as written, and the metrics that it explains are those that there are."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cellvigil.service.serve import _OUTCOMES
from lab import Lab

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
COMMANDS = [line for line in BLOCKS.splitlines() if line.strip()]


def typed(command: str, lab: Lab) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, shell=True, cwd=lab.root, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )


def test_every_command_works_as_written(lab: Lab) -> None:
    assert {command.split()[0] for command in COMMANDS} == {"curl", "cellvigil"}
    lab.film(timepoints=2)
    half = lab.images / "240301_180000_Rehearsal" / "240301_180005_Plate 1" / "A1_01_1_1_Bright Field_003.tif"
    half.write_bytes(b"no image")
    with lab.service() as service:
        service.wait_for(lambda: service.committed() == 5)
        for command in COMMANDS:
            if command.startswith("curl") and shutil.which("curl") is None:
                continue
            done = typed(command.replace("http://127.0.0.1:9108", service.address), lab)
            held = command.startswith("cellvigil check")  # the page says so: the service holds the store
            assert done.returncode == (1 if held else 0), f"{command}\n{done.stdout}\n{done.stderr}"
            assert not held or re.findall(r"^fail +(\w+)", done.stdout, flags=re.MULTILINE) == ["store"], done.stdout
        half.write_bytes(half.with_name("A1_01_1_1_Bright Field_002.tif").read_bytes())
        future = time.time() + 60
        os.utime(half, (future, future))
        service.wait_for(lambda: "0 in quarantine" in typed("cellvigil quarantine list", lab).stdout, every=0.5)
    assert typed("cellvigil check --config config.yaml", lab).returncode == 0


def test_what_it_says_of_metrics_is_what_there_is(lab: Lab) -> None:
    lab.film(timepoints=1)
    with lab.service() as service:
        service.wait_for(lambda: service.committed() == 2)
        there = {name for name, _ in service.samples()} | {"cellvigil_retention_warned_timestamp_seconds"}
    named = set(re.findall(r"cellvigil_[a-z_]+", PAGE))
    assert named <= there
    ours = r"cellvigil_(paused|source_up|scan|device_(degraded|faults)|store_(bytes|floor)|retention)"
    assert {name for name in there if re.match(ours, name) and not name.endswith("_created")} <= named
    for outcome in _OUTCOMES:
        assert re.search(rf"^\| .*[`\"]{outcome}", PAGE, flags=re.MULTILINE), outcome


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE))))
def test_its_links_lead_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()


def test_it_is_short() -> None:
    assert len(PAGE.splitlines()) < 120
