"""Full-size members with seeded random weights: exported, checked against torch, and within their memory.

Many gigabytes and minutes; run by hand (`make test-slow`), the figures are in benchmarks/README.md.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cellvigil_export import parity
from cellvigil_export.segmenters import SEGMENTERS
from cellvigil_export.zoo import ENCODERS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from seeded_checkpoint import NAMES  # noqa: E402 - lies beside the benchmark that is run

DECLARED = {**ENCODERS, **SEGMENTERS}


def test_every_member_without_real_weights_is_among_them() -> None:
    at_hand = {name for name, member in DECLARED.items() if member.packaged} | {"mobile-sam", "mobile-sam-features"}
    assert set(NAMES) == set(DECLARED) - at_hand


@pytest.mark.slow
@pytest.mark.export
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", NAMES)
def test_a_full_size_member_exports_within_its_memory_and_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `export`")
    command = [sys.executable, str(BENCHMARKS / "export_memory.py"), name, "--work", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak_mib"] <= found["limit_mib"]
    away = {key: value for key, value in found["parity"].items() if key.endswith("one_minus_cosine")}
    assert away
    assert max(away.values()) <= parity.LIMITS["fp32"]
    assert not list(tmp_path.iterdir())
