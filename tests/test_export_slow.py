"""Full-size members with seeded random weights: exported, checked against torch, and within their memory.

Many gigabytes and minutes; run by hand (`make test-slow`), the figures are in benchmarks/README.md.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.export, pytest.mark.timeout(7200)]

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "export_memory.py"


@pytest.mark.parametrize(
    "name",
    [
        "dinov2-small",
        "dinov2-large",
        "cell-dino-hpa-l16",
        "convnextv2-large",
        "swinv2-large",
        "clip-vit-large",
        "vit-mae-huge",
        "sam-vit-base",
        "sam-vit-large",
        "sam-vit-huge",
        "dinov2-giant",
    ],
)
def test_a_full_size_member_exports_within_its_memory_and_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `export`")
    command = [sys.executable, str(BENCHMARK), name, "--work", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak_mib"] <= found["limit_mib"]
    assert found["parity"]["max_one_minus_cosine"] <= 1e-6
    assert found["parity"]["batches"] in ([1, 3, 16], [1, 2])
    assert not list(tmp_path.iterdir())
