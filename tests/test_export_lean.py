"""A session that holds nothing longer than needed gives the bits of the daemon's own; freed memory is given back."""

import subprocess
import sys
from pathlib import Path

import pytest

from cellvigil.bundle.encoder import open_encoder
from cellvigil_export import golden, parity
from cellvigil_export.cli import main

HELD = """
import ctypes, sys
from pathlib import Path
from cellvigil_export.heap import return_what_is_freed
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "returned":
    return_what_is_freed()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20
def filled(size):
    block = c.malloc(size)
    ctypes.memset(block, 1, size)
    return block
size = 16 << 20
c.free(filled(size))  # glibc now keeps blocks of that size in its heap
blocks = [filled(size) for _ in range(16)]
pin = filled(1000)  # above them
for block in blocks:
    c.free(block)
print(resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_freed_blocks_go_back_to_the_system() -> None:
    def held(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", HELD, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    usual, returned = held("usual"), held("returned")
    if usual < 200:
        pytest.skip("this C library gives freed blocks back by itself")
    assert returned < usual - 200


@pytest.mark.export
@pytest.mark.parametrize("kind", ["clip", "convnextv2", "dinov2", "swinv2", "vit_mae"])
def test_a_lean_session_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `export`")
    from vision_networks import saved, whole  # noqa: PLC0415 - imports torch

    folder = saved(whole(kind), tmp_path / "checkpoint")
    assert main(["run", "--checkpoint", str(folder), "--out", str(tmp_path / "out")]) == 0
    bundle = open_encoder(tmp_path / "out" / "checkpoint")
    pixels = golden.pictures(5, bundle.input_size, bundle.channels, seed=4)
    for threads in (1, 2):
        usual, lean = (opened(bundle.model_path, threads=threads) for opened in (parity.opened, parity.lean))
        for batch in (1, 3):
            assert parity.vectors(lean, pixels, batch=batch).tobytes() == (
                parity.vectors(usual, pixels, batch=batch).tobytes()
            )
